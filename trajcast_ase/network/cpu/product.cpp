// The product summed over the edges of each receiver, and its derivatives, for training.
using namespace edge;

// Edges of receiver i are offsets[i] ... offsets[i + 1] - 1; edge e has the harmonics of
// row e and row weight_rows[e] of the weights, or, with fractions, lies between the second
// and third of four rows of a table that begin there.
struct Edges {
  int64_t n_receivers;
  const int64_t *offsets, *senders, *weight_rows;
  const double *fractions;
  const real *harmonics;
};

static void sum_edges(const Edges &edges, const real *x, const real *weights, real *const *out,
                      int64_t i) {
  real *rows[OUTPUTS];
  for (int64_t b = 0; b < OUTPUTS; ++b) {
    rows[b] = out[b] + i * ROWS[b] * CHANNELS;
    std::fill(rows[b], rows[b] + ROWS[b] * CHANNELS, real(0));
  }
  for (int64_t e = edges.offsets[i]; e < edges.offsets[i + 1]; ++e) {
    const real *harmonics = edges.harmonics + e * HARMONICS;
    const real *sender = x + edges.senders[e] * DIM_IN * CHANNELS;
    const real *w = weights + edges.weight_rows[e] * PATHS * CHANNELS;
    if (edges.fractions)
      add_product(harmonics, sender, interpolated<PATHS>(w, edges.fractions[e]), rows);
    else
      add_product(harmonics, sender, Row{w}, rows);
  }
}

extern "C" void product_forward(const Edges *edges, const real *x, const real *weights,
                                real *const *out, const Threads *threads) {
  constexpr int64_t AT_ONCE = 8;
  const int64_t n = edges->n_receivers;
  parallel(*threads, (n + AT_ONCE - 1) / AT_ONCE, [=](int64_t part) {
    const int64_t end = std::min(n, (part + 1) * AT_ONCE);
    for (int64_t i = part * AT_ONCE; i < end; ++i) sum_edges(*edges, x, weights, out, i);
  });
}

// The weights of one edge and their gradient, a vector of channels, beside the table.
struct Between {
  real a[4];
  alignas(64) real weights[PATHS * LANES], gradient[PATHS * LANES];

  Between(const real *table, double t) {
    const auto factors = interpolated<PATHS>(table, t);
    std::copy(factors.a, factors.a + 4, a);
    for (int64_t p = 0; p < PATHS; ++p) {
      load(weights + p * LANES) = a[0] * at(table, p) + a[1] * at(table, p + PATHS) +
                                  a[2] * at(table, p + 2 * PATHS) + a[3] * at(table, p + 3 * PATHS);
      load(gradient + p * LANES) = vec{};
    }
  }
  void add_to(real *table) const {
    for (int64_t k = 0; k < 4; ++k)
      for (int64_t p = 0; p < PATHS; ++p)
        at(table, p + k * PATHS) += a[k] * load(gradient + p * LANES);
  }
};

// Adds to grad_x, and to grad_weights in a table. Else it sets grad_weights, whose rows are
// numbered in the order of their first edge. Threads share the channels, not the edges:
// several edges add to one row, and their order must not depend on the number of threads.
extern "C" void product_backward(const Edges *edges, const real *x, const real *weights,
                                 const real *const *grad_out, real *grad_x,
                                 real *grad_weights, const Threads *threads) {
  const int64_t n_parts = std::min(threads->n, BLOCKS);
  parallel(*threads, n_parts, [=](int64_t part) {
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
          const real *lanes[OUTPUTS];
          for (int64_t b = 0; b < OUTPUTS; ++b)
            lanes[b] = grad_out[b] + i * ROWS[b] * CHANNELS + c;
          if (edges->fractions) {
            Between here(weights + row + c, edges->fractions[e]);
            backward_lanes<LANES>(m, x + sender + c, here.weights, lanes, grad_x + sender + c,
                                  here.gradient);
            here.add_to(grad_weights + row + c);
            continue;
          }
          if (is_new)
            for (int64_t p = 0; p < PATHS; ++p) at(grad_weights + row + c, p) = vec{};
          backward_lanes<CHANNELS>(m, x + sender + c, weights + row + c, lanes,
                                   grad_x + sender + c, grad_weights + row + c);
        }
      }
    }
  });
}
