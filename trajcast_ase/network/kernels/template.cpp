// Depthwise product summed over the edges of each receiver; see generate.py.
//
//   out[i, row] = sum over edges (i <- j) of w[edge, path] sum_k M(Y[edge])[row, k] x[j, k]
//
// for every channel; arrays are contiguous with the channels last, and there is one array
// of outputs per irrep. What stands between at signs is generated.
#include <algorithm>
#include <cstdint>

using real = @real@;
constexpr int64_t CHANNELS = @channels@, HARMONICS = @harmonics@, DIM_IN = @dim_in@,
                  PATHS = @paths@, COUPLINGS = @couplings@, OUTPUTS = @blocks@;
constexpr int64_t ROWS[OUTPUTS] = {@rows@};

#if defined(__AVX512F__)
constexpr int64_t VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr int64_t VECTOR_BYTES = 32;
#else
constexpr int64_t VECTOR_BYTES = 16;
#endif

// The widest vector of which a whole number fits into the channels.
constexpr int64_t widest(int64_t lanes) {
  return CHANNELS % lanes == 0 ? lanes : widest(lanes / 2);
}
constexpr int64_t LANES = widest(VECTOR_BYTES / sizeof(real));
constexpr int64_t BLOCKS = CHANNELS / LANES;
typedef real vec
    __attribute__((vector_size(LANES * sizeof(real)), aligned(sizeof(real)), may_alias));

static inline vec &at(real *rows, int64_t row) {
  return *reinterpret_cast<vec *>(rows + row * CHANNELS);
}
static inline const vec &at(const real *rows, int64_t row) {
  return *reinterpret_cast<const vec *>(rows + row * CHANNELS);
}

static inline void couple(const real *__restrict y, real *__restrict m) {
@couple@
}

struct Edges {
  int64_t n_receivers;
  const int64_t *offsets, *senders, *weight_rows;
  const real *harmonics;
};

// Weights of an edge: a row of their own, or four rows of a table, interpolated.
struct Row {
  const real *w;
  vec operator()(int64_t path) const { return at(w, path); }
  Row shifted(int64_t channel) const { return {w + channel}; }
};
struct Interpolated {
  const real *w;
  real a[4];
  vec operator()(int64_t path) const {
    return a[0] * at(w, path) + a[1] * at(w, path + PATHS) + a[2] * at(w, path + 2 * PATHS) +
           a[3] * at(w, path + 3 * PATHS);
  }
  Interpolated shifted(int64_t channel) const { return {w + channel, {a[0], a[1], a[2], a[3]}}; }
};
static inline Interpolated interpolated(const real *w, double t) {
  return {w,
          {real(-t * (t - 1) * (t - 2) / 6), real((t + 1) * (t - 1) * (t - 2) / 2),
           real(-(t + 1) * t * (t - 2) / 2), real((t + 1) * t * (t - 1) / 6)}};
}

template <class Weights>
static inline void forward_lanes(const real *__restrict m, const real *__restrict x,
                                 const Weights &w, real *const *out) {
@name@
@forward@
}

static inline void backward_lanes(const real *__restrict m, const real *__restrict x,
                                  const real *__restrict w, const real *const *out,
                                  real *__restrict gx, real *__restrict gw) {
@name_const@
@backward@
}

// Edges of receiver i are offsets[i] ... offsets[i + 1] - 1; edge e has the harmonics of
// row e and the weights that `weights_of(e)` returns.
template <class WeightsOf>
static inline void sum_edges(const Edges *edges, const real *x, const WeightsOf &weights_of,
                             real *const *out, int64_t n_threads) {
#pragma omp parallel for schedule(static) num_threads(n_threads) if (n_threads > 1)
  for (int64_t i = 0; i < edges->n_receivers; ++i) {
    real *rows[OUTPUTS];
    for (int64_t b = 0; b < OUTPUTS; ++b) {
      rows[b] = out[b] + i * ROWS[b] * CHANNELS;
      std::fill(rows[b], rows[b] + ROWS[b] * CHANNELS, real(0));
    }
    for (int64_t e = edges->offsets[i]; e < edges->offsets[i + 1]; ++e) {
      alignas(64) real m[COUPLINGS];
      couple(edges->harmonics + e * HARMONICS, m);
      const real *xs = x + edges->senders[e] * DIM_IN * CHANNELS;
      const auto w = weights_of(e);
      for (int64_t c = 0; c < CHANNELS; c += LANES) {
        real *lanes[OUTPUTS];
        for (int64_t b = 0; b < OUTPUTS; ++b) lanes[b] = rows[b] + c;
        forward_lanes(m, xs + c, w.shifted(c), lanes);
      }
    }
  }
}

// Edge e has row weight_rows[e] of `weights`.
extern "C" void product_forward(const Edges *edges, const real *x, const real *weights,
                                real *const *out, int64_t n_threads) {
  const auto row = [=](int64_t e) {
    return Row{weights + edges->weight_rows[e] * PATHS * CHANNELS};
  };
  sum_edges(edges, x, row, out, n_threads);
}

// Edge e lies fractions[e] beyond the second of the four rows of `table` that start with
// row weight_rows[e].
extern "C" void product_tabulated(const Edges *edges, const real *x, const real *table,
                                  const double *fractions, real *const *out,
                                  int64_t n_threads) {
  const auto row = [=](int64_t e) {
    return interpolated(table + edges->weight_rows[e] * PATHS * CHANNELS, fractions[e]);
  };
  sum_edges(edges, x, row, out, n_threads);
}

// Adds to grad_x and sets grad_weights, whose rows are numbered in the order of their
// first edge. Threads share the channels, not the edges: several edges add to one row,
// and their order must not depend on the number of threads.
extern "C" void product_backward(const Edges *edges, const real *x, const real *weights,
                                 const real *const *grad_out, real *grad_x,
                                 real *grad_weights, int64_t n_threads) {
  const int64_t n_parts = std::min(n_threads, BLOCKS);
#pragma omp parallel for schedule(static) num_threads(n_parts) if (n_parts > 1)
  for (int64_t part = 0; part < n_parts; ++part) {
    const int64_t first = part * BLOCKS / n_parts * LANES;
    const int64_t last = (part + 1) * BLOCKS / n_parts * LANES;
    int64_t n_rows_seen = 0;
    for (int64_t i = 0; i < edges->n_receivers; ++i) {
      for (int64_t e = edges->offsets[i]; e < edges->offsets[i + 1]; ++e) {
        alignas(64) real m[COUPLINGS];
        couple(edges->harmonics + e * HARMONICS, m);
        const int64_t sender = edges->senders[e] * DIM_IN * CHANNELS;
        const int64_t row = edges->weight_rows[e] * PATHS * CHANNELS;
        const bool is_new = edges->weight_rows[e] == n_rows_seen;
        n_rows_seen += is_new;
        for (int64_t c = first; c < last; c += LANES) {
          if (is_new)
            for (int64_t p = 0; p < PATHS; ++p) at(grad_weights + row + c, p) = vec{};
          const real *lanes[OUTPUTS];
          for (int64_t b = 0; b < OUTPUTS; ++b)
            lanes[b] = grad_out[b] + i * ROWS[b] * CHANNELS + c;
          backward_lanes(m, x + sender + c, weights + row + c, lanes,
                         grad_x + sender + c, grad_weights + row + c);
        }
      }
    }
  }
}
