// What the program of a layer reads.

// Rows of weights, or, with `fractions`, of a table between whose rows they lie.
struct Weights {
  const real *values;
  const int64_t *rows;
  const double *fractions;
};

struct Layer {
  int64_t n_atoms;
  const int64_t *offsets, *senders, *species;
  const real *edge_harmonics, *velocity_harmonics;
  Weights edge_weights, velocity_weights;
  const real *contraction, *update, *residual;
};
