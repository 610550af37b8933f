// Numbers, channels and vectors of every kernel.
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

// Several vectors, for which a coefficient is loaded once. Compilers keep a list of them in
// registers, but not an array.
template <int64_t N> struct Several {
  vec first;
  Several<N - 1> rest;
};
template <> struct Several<1> {
  vec first;
};
template <int64_t N, class Operation>
static inline Several<N> each(const Several<N> &a, const Several<N> &b, const Operation &op) {
  if constexpr (N == 1)
    return {op(a.first, b.first)};
  else
    return {op(a.first, b.first), each(a.rest, b.rest, op)};
}
template <int64_t N> static inline Several<N> operator*(real a, const Several<N> &b) {
  return each(b, b, [=](vec v, vec) { return a * v; });
}
template <int64_t N>
static inline Several<N> operator*(const Several<N> &a, const Several<N> &b) {
  return each(a, b, [](vec v, vec w) { return v * w; });
}
template <int64_t N>
static inline Several<N> operator+(const Several<N> &a, const Several<N> &b) {
  return each(a, b, [](vec v, vec w) { return v + w; });
}
template <int64_t N>
static inline Several<N> operator-(const Several<N> &a, const Several<N> &b) {
  return each(a, b, [](vec v, vec w) { return v - w; });
}
template <int64_t N> static inline Several<N> several(const real *lanes) {
  if constexpr (N == 1)
    return {load(lanes)};
  else
    return {load(lanes), several<N - 1>(lanes + LANES)};
}
template <int64_t N> static inline void store(const Several<N> &a, real *lanes) {
  load(lanes) = a.first;
  if constexpr (N > 1) store(a.rest, lanes + LANES);
}

// As many as leave the registers room for five rows of an input, a sum and a weight.
constexpr int64_t divisor(int64_t most) { return BLOCKS % most == 0 ? most : divisor(most - 1); }
constexpr int64_t AT_A_TIME = divisor((REGISTERS - 1) / 7), WIDTH = AT_A_TIME * LANES;
using wide = Several<AT_A_TIME>;
static inline wide get(const real *rows, int64_t row) {
  return several<AT_A_TIME>(rows + row * CHANNELS);
}
static inline void add(real *rows, int64_t row, const wide &value) {
  store(get(rows, row) + value, rows + row * CHANNELS);
}

// Calls work(part) for each part, on several threads where there are several.
struct Threads {
  int64_t n;
  void (*run)(void (*work)(void *context, int64_t part), void *context, int64_t n_parts, int64_t n);
};
template <class Work>
static inline void parallel(const Threads &threads, int64_t n_parts, const Work &work) {
  if (threads.n > 1 && n_parts > 1)
    threads.run([](void *context, int64_t part) { (*static_cast<const Work *>(context))(part); },
                const_cast<Work *>(&work), n_parts, threads.n);
  else
    for (int64_t part = 0; part < n_parts; ++part) work(part);
}

// Weights of an edge: a row of their own, or four rows of a table, interpolated.
struct Row {
  const real *w;
  wide operator()(int64_t path) const { return get(w, path); }
  Row shifted(int64_t channel) const { return {w + channel}; }
};
template <int64_t PATHS> struct Interpolated {
  const real *w;
  real a[4];
  wide operator()(int64_t path) const {
    return a[0] * get(w, path) + a[1] * get(w, path + PATHS) + a[2] * get(w, path + 2 * PATHS) +
           a[3] * get(w, path + 3 * PATHS);
  }
  Interpolated shifted(int64_t channel) const { return {w + channel, {a[0], a[1], a[2], a[3]}}; }
};
template <int64_t PATHS>
static inline Interpolated<PATHS> interpolated(const real *w, double t) {
  return {w,
          {real(-t * (t - 1) * (t - 2) / 6), real((t + 1) * (t - 1) * (t - 2) / 2),
           real(-(t + 1) * t * (t - 2) / 2), real((t + 1) * t * (t - 1) / 6)}};
}
