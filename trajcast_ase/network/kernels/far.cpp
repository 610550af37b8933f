// What surrounds each atom, summed over all points within a cutoff, without a list of pairs.
//
//   out[i][m] = sum_p w(species of p, |r|)[l of m] Y_m(r / |r|),  r = x_p - x_i
constexpr int64_t LMAX = @lmax@, PATHS = LMAX + 1, HARMONICS = PATHS * PATHS, AT_ONCE = 64;

struct Points {
  int64_t n_points, n_atoms;
  const double *positions;
  const int64_t *atoms, *homes, *starts, *boxes, *shape, *reach;
};

// Rows of weights by length, one table for each species.
struct Table {
  const real *values;
  double start, step, end;
  int64_t n_intervals;
};

struct Sums {
  alignas(64) real rows[HARMONICS * CHANNELS];
};

static inline void harmonics(double x, double y, double z, real *out) {
  const double root3 = 1.7320508075688772, root15 = 3.872983346207417;
  out[0] = 1;
  out[1] = root3 * x;
  out[2] = root3 * y;
  out[3] = root3 * z;
  if constexpr (LMAX == 2) {
    out[4] = root15 * x * z;
    out[5] = root15 * x * y;
    out[6] = root15 / root3 * (y * y - 0.5 * (x * x + z * z));
    out[7] = root15 * y * z;
    out[8] = root15 * 0.5 * (z * z - x * x);
  }
}

static inline void add_point(const Table &table, int64_t species, double x, double y, double z,
                             double square, Sums &sums) {
  const double length = std::sqrt(square);
  const double scaled = (std::min(length, table.end) - table.start) / table.step;
  const int64_t row =
      std::clamp<int64_t>(int64_t(std::floor(scaled)), 0, table.n_intervals - 1);
  const real *w = table.values + (species * (table.n_intervals + 3) + row) * PATHS * CHANNELS;
  const auto factors = interpolated<PATHS>(w, scaled - row);
  real y_m[HARMONICS];
  harmonics(x / length, y / length, z / length, y_m);
  for (int64_t c = 0; c < CHANNELS; c += LANES) {
    int64_t m = 0;
    for (int64_t l = 0; l < PATHS; ++l) {
      const vec weight = factors.a[0] * at(w + c, l) + factors.a[1] * at(w + c, l + PATHS) +
                         factors.a[2] * at(w + c, l + 2 * PATHS) +
                         factors.a[3] * at(w + c, l + 3 * PATHS);
      for (int64_t k = 0; k < 2 * l + 1; ++k, ++m) at(sums.rows + c, m) += y_m[m] * weight;
    }
  }
}

// Points first to last - 1: squared distances of many at once, then those that are near.
static inline void add_points(const Points &points, const Table &table, const int64_t *species,
                              int64_t home, int64_t first, int64_t last, Sums &sums) {
  const double *x = points.positions, *y = x + points.n_points, *z = y + points.n_points;
  const double square_end = table.end * table.end;
  for (int64_t begin = first; begin < last; begin += AT_ONCE) {
    const int64_t n = std::min(AT_ONCE, last - begin);
    double squares[AT_ONCE];
    for (int64_t k = 0; k < n; ++k) {
      const double dx = x[begin + k] - x[home], dy = y[begin + k] - y[home],
                   dz = z[begin + k] - z[home];
      squares[k] = dx * dx + dy * dy + dz * dz;
    }
    for (int64_t k = 0; k < n; ++k) {
      const int64_t p = begin + k;
      if (squares[k] < square_end && p != home)
        add_point(table, species[points.atoms[p]], x[p] - x[home], y[p] - y[home],
                  z[p] - z[home], squares[k], sums);
    }
  }
}

extern "C" void far_sums(const Points *points, const Table *table, const int64_t *species,
                         real *out, int64_t n_threads) {
  const int64_t *shape = points->shape, *reach = points->reach;
#pragma omp parallel for schedule(dynamic, 16) num_threads(n_threads) if (n_threads > 1)
  for (int64_t i = 0; i < points->n_atoms; ++i) {
    Sums sums{};
    int64_t low[3], high[3];
    for (int64_t k = 0; k < 3; ++k) {
      const int64_t box = points->boxes[3 * i + k];
      low[k] = std::max<int64_t>(0, box - reach[k]);
      high[k] = std::min<int64_t>(shape[k] - 1, box + reach[k]);
    }
    for (int64_t a = low[0]; a <= high[0]; ++a)
      for (int64_t b = low[1]; b <= high[1]; ++b) {
        const int64_t *row = points->starts + (a * shape[1] + b) * shape[2];
        add_points(*points, *table, species, points->homes[i], row[low[2]], row[high[2] + 1], sums);
      }
    std::copy(sums.rows, sums.rows + HARMONICS * CHANNELS, out + i * HARMONICS * CHANNELS);
  }
}
