// A whole network without gradients: harmonics, places in tables, the features that enter the
// first layer, the layers, and what is read of the last. The layers are programs of their own.
#include <type_traits>

constexpr int64_t LMAX = @lmax@, DEGREES = LMAX + 1, HARMONICS = DEGREES * DEGREES;
constexpr int64_t TARGETS = 2, EDGES_AT_A_TIME = 1024, ATOMS_AT_A_TIME = 64;
constexpr double LEAST_LENGTH = 1e-30;

// Weights at equal distances of a length or a speed, one table after the other for species.
struct Table {
  const real *values;
  double start, step;
  int64_t n_intervals;
};

struct Stage {
  void (*run)(const Layer *, const real *, real *, const Threads *);
  int64_t dim_out;
  Table edge, velocity;
  const real *contraction, *update, *residual;
};

struct Network {
  int64_t n_stages;
  const Stage *stages;
  const double *scales;   // of velocities by species; null: their directions count
  const double *largest;  // speeds by species; null: no limits
  double saturation, width;
  int64_t n_basis;
  const double *centers;
  const real *scalars, *radial, *vectors, *receivers, *readout;
};

struct Input {
  int64_t n_atoms, n_edges;
  const int64_t *species, *offsets, *senders;
  const double *velocities, *edge_vectors;
  const real *around;
};

// Where in tables of one grid some values lie.
struct Places {
  int64_t *rows;
  double *fractions;
};

// All arrays between input and output, one behind the other in `memory`.
struct Arrays {
  int64_t bytes = 0;
  double *lengths, *speeds;
  Places edges, atoms;
  real *edge_harmonics, *velocity_harmonics, *features[2];

  Arrays(const Network &network, const Input &input, char *memory) {
    int64_t dim = HARMONICS;
    for (int64_t s = 0; s < network.n_stages; ++s) dim = std::max(dim, network.stages[s].dim_out);
    const auto take = [&](auto *&array, int64_t n) {
      using Pointer = std::remove_reference_t<decltype(array)>;
      array = reinterpret_cast<Pointer>(reinterpret_cast<uintptr_t>(memory) + bytes);
      bytes += (n * int64_t(sizeof *array) + 63) / 64 * 64;
    };
    take(lengths, input.n_edges), take(speeds, input.n_atoms);
    take(edges.rows, input.n_edges), take(edges.fractions, input.n_edges);
    take(atoms.rows, input.n_atoms), take(atoms.fractions, input.n_atoms);
    take(edge_harmonics, input.n_edges * HARMONICS);
    take(velocity_harmonics, input.n_atoms * HARMONICS);
    for (real *&array : features) take(array, input.n_atoms * dim * CHANNELS);
  }
};

// Calls work(k) for each of n, some at a time.
template <class Work>
static inline void for_each(const Threads &threads, int64_t n, int64_t at_a_time,
                            const Work &work) {
  parallel(threads, (n + at_a_time - 1) / at_a_time, [&](int64_t part) {
    const int64_t end = std::min(n, (part + 1) * at_a_time);
    for (int64_t k = part * at_a_time; k < end; ++k) work(k);
  });
}

static inline double norm(const double *v) {
  return std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
}

// Solid harmonics of a vector times `scale`.
static inline void harmonics(const double *vector, double scale, real *out) {
  const double root3 = 1.7320508075688772;
  const double v[3] = {scale * vector[0], scale * vector[1], scale * vector[2]};
  double y[HARMONICS];
  y[0] = 1;
  if constexpr (LMAX > 0)
    for (int64_t k = 0; k < 3; ++k) y[1 + k] = root3 * v[k];
@higher@
  for (int64_t k = 0; k < HARMONICS; ++k) out[k] = real(y[k]);
}

static inline void locate(const Table &table, double value, int64_t group, int64_t k,
                          const Places &places) {
  const double scaled =
      std::min((value - table.start) / table.step, double(table.n_intervals));
  const int64_t row =
      std::clamp<int64_t>(int64_t(std::floor(scaled)), 0, table.n_intervals - 1);
  places.rows[k] = row + group * (table.n_intervals + 3);
  places.fractions[k] = scaled - double(row);
}

static inline bool same_grid(const Table &a, const Table &b) {
  return a.start == b.start && a.step == b.step && a.n_intervals == b.n_intervals;
}

// out += value row, for all channels.
static inline void add_row(real value, const real *row, real *out) {
  for (int64_t c = 0; c < CHANNELS; ++c) out[c] += value * row[c];
}

// The features of one atom that enter the first layer.
static inline void embed(const Network &network, int64_t species, double speed,
                         const real *harmonics, const real *around, real *out) {
  const real *scalars = network.scalars + species * CHANNELS;
  std::copy(scalars, scalars + CHANNELS, out);
  const real *radial = network.radial + species * network.n_basis * CHANNELS;
  for (int64_t b = 0; b < network.n_basis; ++b) {
    const double z = (speed - network.centers[b]) / network.width;
    add_row(real(std::exp(-z * z)), radial + b * CHANNELS, out);
  }
  const real *vectors = network.vectors + species * LMAX * CHANNELS;
  for (int64_t l = 1; l <= LMAX; ++l)
    for (int64_t row = l * l; row < (l + 1) * (l + 1); ++row)
      for (int64_t c = 0; c < CHANNELS; ++c)
        out[row * CHANNELS + c] = harmonics[row] * vectors[(l - 1) * CHANNELS + c];
  if (!around) return;
  const real *receivers = network.receivers + species * DEGREES * CHANNELS * CHANNELS;
  for (int64_t l = 0; l <= LMAX; ++l)
    for (int64_t row = l * l; row < (l + 1) * (l + 1); ++row)
      for (int64_t c = 0; c < CHANNELS; ++c)
        add_row(around[row * CHANNELS + c], receivers + (l * CHANNELS + c) * CHANNELS,
                out + row * CHANNELS);
}

static void prepare_atom(const Network &network, const Input &input, const Arrays &arrays,
                         int64_t i) {
  const int64_t species = input.species[i];
  const double *velocity = input.velocities + 3 * i;
  double factor = 1;
  if (network.scales) {
    const double length = std::max(norm(velocity), LEAST_LENGTH);
    factor = network.largest ? std::min(1.0, network.largest[species] / length) : 1;
    factor /= network.scales[species];
    const double relative = factor * norm(velocity) / network.saturation;
    factor /= std::sqrt(1 + relative * relative);
  }
  const double speed = factor * norm(velocity);
  arrays.speeds[i] = speed;
  real *own = arrays.velocity_harmonics + i * HARMONICS;
  harmonics(velocity, network.scales ? factor : 1 / std::max(speed, LEAST_LENGTH), own);
  embed(network, species, speed, own,
        input.around ? input.around + i * HARMONICS * CHANNELS : nullptr,
        arrays.features[0] + i * HARMONICS * CHANNELS);
}

// Displacement and velocity of one atom from its vectors.
static inline void read_out(const Network &network, const real *x, real *out) {
  real sums[TARGETS * 3] = {};
  for (int64_t c = 0; c < CHANNELS; ++c)
    for (int64_t target = 0; target < TARGETS; ++target)
      for (int64_t k = 0; k < 3; ++k)
        sums[target * 3 + k] += x[k * CHANNELS + c] * network.readout[target * CHANNELS + c];
  std::copy(sums, sums + TARGETS * 3, out);
}

extern "C" int64_t network_bytes(const Network *network, const Input *input) {
  return Arrays(*network, *input, nullptr).bytes;
}

extern "C" void network_forward(const Network *network, const Input *input, char *memory,
                                real *out, const Threads *threads) {
  Arrays arrays(*network, *input, memory);
  for_each(*threads, input->n_edges, EDGES_AT_A_TIME, [&](int64_t e) {
    const double *vector = input->edge_vectors + 3 * e, length = norm(vector);
    arrays.lengths[e] = length;
    harmonics(vector, 1 / std::max(length, LEAST_LENGTH), arrays.edge_harmonics + e * HARMONICS);
  });
  for_each(*threads, input->n_atoms, ATOMS_AT_A_TIME,
           [&](int64_t i) { prepare_atom(*network, *input, arrays, i); });
  for (int64_t s = 0; s < network->n_stages; ++s) {
    const Stage &stage = network->stages[s], &before = network->stages[std::max(s - 1, int64_t(0))];
    if (s == 0 || !same_grid(stage.edge, before.edge))
      for_each(*threads, input->n_edges, EDGES_AT_A_TIME,
               [&](int64_t e) { locate(stage.edge, arrays.lengths[e], 0, e, arrays.edges); });
    if (s == 0 || !same_grid(stage.velocity, before.velocity))
      for_each(*threads, input->n_atoms, ATOMS_AT_A_TIME, [&](int64_t i) {
        locate(stage.velocity, arrays.speeds[i], input->species[i], i, arrays.atoms);
      });
    const Layer layer = {input->n_atoms,
                         input->offsets,
                         input->senders,
                         input->species,
                         arrays.edge_harmonics,
                         arrays.velocity_harmonics,
                         {stage.edge.values, arrays.edges.rows, arrays.edges.fractions},
                         {stage.velocity.values, arrays.atoms.rows, arrays.atoms.fractions},
                         stage.contraction,
                         stage.update,
                         stage.residual};
    stage.run(&layer, arrays.features[s % 2], arrays.features[(s + 1) % 2], threads);
  }
  const real *last = arrays.features[network->n_stages % 2];
  for_each(*threads, input->n_atoms, ATOMS_AT_A_TIME, [&](int64_t i) {
    read_out(*network, last + i * 3 * CHANNELS, out + i * 3 * TARGETS);
  });
}
