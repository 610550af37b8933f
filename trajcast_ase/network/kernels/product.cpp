// The product summed over the edges of each receiver, and its derivatives, for training.
using namespace edge;

// Edges of receiver i are offsets[i] ... offsets[i + 1] - 1; edge e has the harmonics of
// row e and row weight_rows[e] of the weights.
struct Edges {
  int64_t n_receivers;
  const int64_t *offsets, *senders, *weight_rows;
  const real *harmonics;
};

extern "C" void product_forward(const Edges *edges, const real *x, const real *weights,
                                real *const *out, int64_t n_threads) {
#pragma omp parallel for schedule(static) num_threads(n_threads) if (n_threads > 1)
  for (int64_t i = 0; i < edges->n_receivers; ++i) {
    real *rows[OUTPUTS];
    for (int64_t b = 0; b < OUTPUTS; ++b) {
      rows[b] = out[b] + i * ROWS[b] * CHANNELS;
      std::fill(rows[b], rows[b] + ROWS[b] * CHANNELS, real(0));
    }
    for (int64_t e = edges->offsets[i]; e < edges->offsets[i + 1]; ++e)
      add_product(edges->harmonics + e * HARMONICS, x + edges->senders[e] * DIM_IN * CHANNELS,
                  Row{weights + edges->weight_rows[e] * PATHS * CHANNELS}, rows);
  }
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
