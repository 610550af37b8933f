"""Kernels that are generated and compiled on demand."""
