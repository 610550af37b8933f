// Numbers, channels and vectors of a kernel; see generate.py.
//
// Arrays are contiguous with the channels last. What stands between at signs is generated.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

using real = @real@;
constexpr int64_t CHANNELS = @channels@;

#if defined(__AVX512F__)
constexpr int64_t VECTOR_BYTES = 64, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int64_t VECTOR_BYTES = 32, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int64_t VECTOR_BYTES = 16, REGISTERS = 32;
#else
constexpr int64_t VECTOR_BYTES = 16, REGISTERS = 16;
#endif

// The widest vector of which a whole number fits into the channels.
constexpr int64_t widest(int64_t lanes) {
  return CHANNELS % lanes == 0 ? lanes : widest(lanes / 2);
}
constexpr int64_t LANES = widest(VECTOR_BYTES / sizeof(real));
constexpr int64_t BLOCKS = CHANNELS / LANES;
typedef real vec
    __attribute__((vector_size(LANES * sizeof(real)), aligned(sizeof(real)), may_alias));

static inline vec &load(real *lanes) { return *reinterpret_cast<vec *>(lanes); }
static inline const vec &load(const real *lanes) {
  return *reinterpret_cast<const vec *>(lanes);
}
static inline vec &at(real *rows, int64_t row) { return load(rows + row * CHANNELS); }
static inline const vec &at(const real *rows, int64_t row) {
  return load(rows + row * CHANNELS);
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
template <int64_t PATHS> struct Interpolated {
  const real *w;
  real a[4];
  vec operator()(int64_t path) const {
    return a[0] * at(w, path) + a[1] * at(w, path + PATHS) + a[2] * at(w, path + 2 * PATHS) +
           a[3] * at(w, path + 3 * PATHS);
  }
  Interpolated shifted(int64_t channel) const { return {w + channel, {a[0], a[1], a[2], a[3]}}; }
};
template <int64_t PATHS>
static inline Interpolated<PATHS> interpolated(const real *w, double t) {
  return {w,
          {real(-t * (t - 1) * (t - 2) / 6), real((t + 1) * (t - 1) * (t - 2) / 2),
           real(-(t + 1) * t * (t - 2) / 2), real((t + 1) * t * (t - 1) / 6)}};
}
