// What surrounds each atom, summed over all points within a cutoff, without a list of pairs.
//
//   out[i][m] = sum_p w(species of p, |r|)[l of m] Y_m(r / |r|),  r = x_p - x_i
constexpr int64_t LMAX = @lmax@, PATHS = LMAX + 1, HARMONICS = PATHS * PATHS, AT_ONCE = 64;

struct Points {
  int64_t n_points, n_atoms;
  const double *positions;
  const int64_t *atoms, *homes, *starts, *boxes, *shape, *reach;
  const int64_t *species;
};

// Rows of weights by length, one table for each species.
struct Table {
  const real *values;
  double start, step, end;
  int64_t n_intervals;
};

// Where in the table the weights of a pair lie, and its harmonics.
struct Pair {
  int64_t row;
  real factors[4], harmonics[HARMONICS];
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

static inline Pair pair(const Table &table, int64_t species, double x, double y, double z,
                        double square) {
  Pair found;
  const double length = std::sqrt(square);
  const double scaled = (std::min(length, table.end) - table.start) / table.step;
  const int64_t first =
      std::clamp<int64_t>(int64_t(std::floor(scaled)), 0, table.n_intervals - 1);
  found.row = (species * (table.n_intervals + 3) + first) * PATHS;
  const auto factors = interpolated<PATHS>(table.values, scaled - first);
  std::copy(factors.a, factors.a + 4, found.factors);
  // Two atoms at one place have no direction; the sums of all others stay numbers.
  const double divisor = std::max(length, 1e-30);
  harmonics(x / divisor, y / divisor, z / divisor, found.harmonics);
  return found;
}

// Points first to last - 1: squared distances of many at once, then those that are near.
template <class Visit>
static inline void visit_points(const Points &points, const Table &table, int64_t home,
                                int64_t first, int64_t last, const Visit &visit) {
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
        visit(pair(table, points.species[points.atoms[p]], x[p] - x[home], y[p] - y[home],
                   z[p] - z[home], squares[k]));
    }
  }
}

// All pairs of atom i, always in the same order.
template <class Visit>
static inline void visit_pairs(const Points &points, const Table &table, int64_t i,
                               const Visit &visit) {
  const int64_t *shape = points.shape, *reach = points.reach;
  int64_t low[3], high[3];
  for (int64_t k = 0; k < 3; ++k) {
    const int64_t box = points.boxes[3 * i + k];
    low[k] = std::max<int64_t>(0, box - reach[k]);
    high[k] = std::min<int64_t>(shape[k] - 1, box + reach[k]);
  }
  for (int64_t a = low[0]; a <= high[0]; ++a)
    for (int64_t b = low[1]; b <= high[1]; ++b) {
      const int64_t *row = points.starts + (a * shape[1] + b) * shape[2];
      visit_points(points, table, points.homes[i], row[low[2]], row[high[2] + 1], visit);
    }
}

static void sum_pairs(const Points &points, const Table &table, int64_t i, real *out) {
  alignas(64) real sums[HARMONICS * CHANNELS] = {};
  visit_pairs(points, table, i, [&](const Pair &pair) {
    for (int64_t c = 0; c < CHANNELS; c += LANES) {
      const real *w = table.values + pair.row * CHANNELS + c;
      for (int64_t l = 0, m = 0; l < PATHS; ++l) {
        const vec weight =
            pair.factors[0] * at(w, l) + pair.factors[1] * at(w, l + PATHS) +
            pair.factors[2] * at(w, l + 2 * PATHS) + pair.factors[3] * at(w, l + 3 * PATHS);
        for (int64_t k = 0; k < 2 * l + 1; ++k, ++m)
          at(sums + c, m) += pair.harmonics[m] * weight;
      }
    }
  });
  std::copy(sums, sums + HARMONICS * CHANNELS, out);
}

extern "C" void surroundings_sums(const Points *points, const Table *table, real *out,
                                  const Threads *threads) {
  constexpr int64_t ATOMS_AT_ONCE = 16;
  const int64_t n = points->n_atoms;
  parallel(*threads, (n + ATOMS_AT_ONCE - 1) / ATOMS_AT_ONCE, [=](int64_t part) {
    const int64_t end = std::min(n, (part + 1) * ATOMS_AT_ONCE);
    for (int64_t i = part * ATOMS_AT_ONCE; i < end; ++i)
      sum_pairs(*points, *table, i, out + i * HARMONICS * CHANNELS);
  });
}

// Adds the derivative with respect to the values of the table. Threads share the channels, not
// the atoms, of which many add to one row: their order must not depend on the number of threads.
extern "C" void surroundings_gradient(const Points *points, const Table *table, const real *grad_out,
                                     real *grad_values, const Threads *threads) {
  const int64_t n_parts = std::min(threads->n, BLOCKS);
  parallel(*threads, n_parts, [=](int64_t part) {
    const int64_t first = part * BLOCKS / n_parts * LANES;
    const int64_t last = (part + 1) * BLOCKS / n_parts * LANES;
    for (int64_t i = 0; i < points->n_atoms; ++i) {
      const real *grad = grad_out + i * HARMONICS * CHANNELS;
      visit_pairs(*points, *table, i, [&](const Pair &pair) {
        for (int64_t c = first; c < last; c += LANES) {
          real *rows = grad_values + pair.row * CHANNELS + c;
          for (int64_t l = 0, m = 0; l < PATHS; ++l) {
            vec slope = vec{};
            for (int64_t k = 0; k < 2 * l + 1; ++k, ++m)
              slope += pair.harmonics[m] * at(grad + c, m);
            for (int64_t k = 0; k < 4; ++k) at(rows, l + k * PATHS) += pair.factors[k] * slope;
          }
        }
      });
    }
  });
}
