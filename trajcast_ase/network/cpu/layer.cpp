// One message-passing layer without gradients, a few atoms at a time, so that everything
// between the features that come in and those that go out stays in the cache.
//
// Per atom: messages summed over its edges, a linear map per irrep, the product with its
// velocity, a second linear map, gates, and the residual of its element.

// Tiles of the matrix products: as many sums as fit into the registers.
constexpr int64_t SUMS = REGISTERS * 3 / 4;
constexpr int64_t TILE_COLUMNS = divisor(SUMS / 6), TILE_ROWS = SUMS / TILE_COLUMNS;
constexpr int64_t TILE_WIDTH = TILE_COLUMNS * LANES;
// A multiple of the rows of a tile, so that only the last atoms leave some idle.
constexpr int64_t ATOMS = (@atoms@ + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;

constexpr int64_t DIM_MIDDLE = velocity::DIM_IN, DIM_OUT = @dim_out@, DIM_GATED = @dim_gated@,
                  EVEN_COLUMNS = @even_columns@ * CHANNELS, RESIDUALS = @residuals@;
constexpr real SILU_NORM = @silu_norm@, TANH_NORM = @tanh_norm@, ROOT_HALF = 0.70710678118654752440;

// What some atoms need between their features in and out.
struct Scratch {
  static constexpr int64_t ROWS =
      ATOMS * (std::max(edge::ALL_ROWS, velocity::ALL_ROWS) + DIM_MIDDLE + DIM_GATED);
  std::vector<real> memory = std::vector<real>(ROWS * CHANNELS + ATOMS * EVEN_COLUMNS);
  real *products = memory.data();
  real *middle = products + ATOMS * std::max(edge::ALL_ROWS, velocity::ALL_ROWS) * CHANNELS;
  real *gated = middle + ATOMS * DIM_MIDDLE * CHANNELS;
  real *even = gated + ATOMS * DIM_GATED * CHANNELS;
};

// sums = a b for a tile; rows of `a` are `stride` apart, those of `b` `width`.
template <int64_t N>
static inline void multiply(const real *__restrict a, int64_t stride, int64_t depth,
                            const real *__restrict b, int64_t width,
                            vec (&sums)[N][TILE_COLUMNS]) {
#pragma GCC unroll 32
  for (int64_t r = 0; r < N; ++r)
#pragma GCC unroll 8
    for (int64_t c = 0; c < TILE_COLUMNS; ++c) sums[r][c] = vec{};
  for (int64_t k = 0; k < depth; ++k) {
    vec columns[TILE_COLUMNS];
#pragma GCC unroll 8
    for (int64_t c = 0; c < TILE_COLUMNS; ++c) columns[c] = load(b + k * width + c * LANES);
#pragma GCC unroll 32
    for (int64_t r = 0; r < N; ++r)
#pragma GCC unroll 8
      for (int64_t c = 0; c < TILE_COLUMNS; ++c) sums[r][c] += a[r * stride + k] * columns[c];
  }
}

// out = a b for n_atoms times DIM rows; reads whole tiles of `a`, writes `width` columns of
// rows that are that far apart, and atoms `stride`.
template <int64_t DIM>
static void linear(const real *a, int64_t depth, const real *b, int64_t width, int64_t n_atoms,
                   real *out, int64_t stride) {
  for (int64_t column = 0; column < width; column += TILE_WIDTH)
    for (int64_t first = 0; first < n_atoms * DIM; first += TILE_ROWS) {
      vec sums[TILE_ROWS][TILE_COLUMNS];
      multiply(a + first * depth, depth, depth, b + column, width, sums);
      const int64_t n = std::min(TILE_ROWS, n_atoms * DIM - first);
#pragma GCC unroll 32
      for (int64_t r = 0; r < TILE_ROWS; ++r)
        if (r < n) {
          real *row = out + (first + r) / DIM * stride + (first + r) % DIM * width + column;
#pragma GCC unroll 8
          for (int64_t c = 0; c < TILE_COLUMNS; ++c) load(row + c * LANES) = sums[r][c];
        }
    }
}

// out = x b for the DIM rows of one atom's irrep.
template <int64_t DIM>
static void residual(const real *x, const real *b, real *out) {
  for (int64_t column = 0; column < CHANNELS; column += TILE_WIDTH) {
    vec sums[DIM][TILE_COLUMNS];
    multiply(x, CHANNELS, CHANNELS, b + column, CHANNELS, sums);
    for (int64_t r = 0; r < DIM; ++r)
      for (int64_t c = 0; c < TILE_COLUMNS; ++c)
        load(out + r * CHANNELS + column + c * LANES) = sums[r][c];
  }
}

template <int64_t DIM>
static inline void add_gated(const real *values, const real *gate, real *out) {
  for (int64_t r = 0; r < DIM; ++r)
    for (int64_t c = 0; c < CHANNELS; ++c)
      out[r * CHANNELS + c] += values[r * CHANNELS + c] * gate[c];
}

static inline void silu(real *values, int64_t n) {
  for (int64_t k = 0; k < n; ++k) values[k] *= SILU_NORM / (1 + std::exp(-values[k]));
}

static inline void add_scalars(const real *values, real *out) {
  for (int64_t c = 0; c < CHANNELS; ++c) out[c] += ROOT_HALF * values[c];
}

static inline void add_tanh(const real *values, real *out) {
  for (int64_t c = 0; c < CHANNELS; ++c) out[c] += ROOT_HALF * TANH_NORM * std::tanh(values[c]);
}

// Products of n atoms: where the rows of one begin, all zero.
template <int64_t N>
static inline void begin_rows(const int64_t (&sizes)[N], int64_t atom, real *products,
                              real *(&rows)[N]) {
  for (int64_t b = 0; b < N; ++b) {
    rows[b] = products + atom * sizes[b] * CHANNELS;
    std::fill(rows[b], rows[b] + sizes[b] * CHANNELS, real(0));
    products += ATOMS * sizes[b] * CHANNELS;
  }
}

static void sum_messages(const Layer &layer, const real *x, int64_t first, int64_t n,
                         real *products) {
  using namespace edge;
  const Weights &weights = layer.edge_weights;
  for (int64_t i = 0; i < n; ++i) {
    real *rows[OUTPUTS];
    begin_rows(ROWS, i, products, rows);
    for (int64_t e = layer.offsets[first + i]; e < layer.offsets[first + i + 1]; ++e) {
      const real *harmonics = layer.edge_harmonics + e * HARMONICS;
      const real *sender = x + layer.senders[e] * DIM_IN * CHANNELS;
      const real *w = weights.values + weights.rows[e] * PATHS * CHANNELS;
      if (weights.fractions)
        add_product(harmonics, sender, interpolated<PATHS>(w, weights.fractions[e]), rows);
      else
        add_product(harmonics, sender, Row{w}, rows);
    }
  }
}

static void multiply_velocities(const Layer &layer, const real *middle, int64_t first, int64_t n,
                                real *products) {
  using namespace velocity;
  const Weights &weights = layer.velocity_weights;
  for (int64_t i = 0; i < n; ++i) {
    real *rows[OUTPUTS];
    begin_rows(ROWS, i, products, rows);
    const int64_t atom = first + i;
    const real *harmonics = layer.velocity_harmonics + atom * HARMONICS;
    const real *x = middle + i * DIM_IN * CHANNELS;
    const real *w = weights.values + weights.rows[atom] * PATHS * CHANNELS;
    if (weights.fractions)
      add_product(harmonics, x, interpolated<PATHS>(w, weights.fractions[atom]), rows);
    else
      add_product(harmonics, x, Row{w}, rows);
  }
}

// middle = linear map of the messages, irrep by irrep.
static void contract(const Layer &layer, int64_t n, const real *products, real *middle) {
@contract@
}

// out = residual + activated update, irrep by irrep.
static void update(const Layer &layer, const real *x, int64_t first, int64_t n,
                   const Scratch &scratch, real *out) {
  const real *products = scratch.products;
  real *even = scratch.even, *gated = scratch.gated;
@update@
  silu(even, n * EVEN_COLUMNS);
  for (int64_t i = 0; i < n; ++i) {
    const real *old = x + (first + i) * edge::DIM_IN * CHANNELS;
    const real *own = layer.residual + layer.species[first + i] * RESIDUALS * CHANNELS * CHANNELS;
    const real *gates = even + i * EVEN_COLUMNS;
    real *fresh = out + (first + i) * DIM_OUT * CHANNELS;
@finish@
  }
}

extern "C" void layer_forward(const Layer *layer, const real *x, real *out, const Threads *threads) {
  parallel(*threads, (layer->n_atoms + ATOMS - 1) / ATOMS, [=](int64_t part) {
    static thread_local Scratch scratch;
    const int64_t first = part * ATOMS, n = std::min(ATOMS, layer->n_atoms - first);
    sum_messages(*layer, x, first, n, scratch.products);
    contract(*layer, n, scratch.products, scratch.middle);
    multiply_velocities(*layer, scratch.middle, first, n, scratch.products);
    update(*layer, x, first, n, scratch, out);
  });
}
