// Depthwise product of features with harmonics, for one edge; see generate_product.py.
//
//   out[row] += w[path] sum_k M(Y)[row, k] x[k]
//
// for every channel; there is one array of rows per irrep of the output.
namespace @namespace@ {
constexpr int64_t HARMONICS = @harmonics@, DIM_IN = @dim_in@, PATHS = @paths@,
                  COUPLINGS = @couplings@, OUTPUTS = @blocks@, ALL_ROWS = @all_rows@;
constexpr int64_t ROWS[OUTPUTS] = {@rows@};

static inline void couple(const real *__restrict y, real *__restrict m) {
@couple@
}

template <class Weights>
static inline void forward_lanes(const real *__restrict m, const real *__restrict x,
                                 const Weights &w, real *const *out) {
@name@
@forward@
}

// Rows of the weights are STRIDE apart.
template <int64_t STRIDE>
static inline void backward_lanes(const real *__restrict m, const real *__restrict x,
                                  const real *__restrict w, const real *const *out,
                                  real *__restrict gx, real *__restrict gw) {
@name_const@
@backward@
}

template <class Weights>
static inline void add_product(const real *harmonics, const real *x, const Weights &w,
                               real *const *rows) {
  alignas(64) real m[COUPLINGS];
  couple(harmonics, m);
  for (int64_t c = 0; c < CHANNELS; c += WIDTH) {
    real *lanes[OUTPUTS];
    for (int64_t b = 0; b < OUTPUTS; ++b) lanes[b] = rows[b] + c;
    forward_lanes(m, x + c, w.shifted(c), lanes);
  }
}
}  // namespace @namespace@
