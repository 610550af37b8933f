"""Kernels in Triton for NVIDIA cards; on the CPU in Triton's interpreter."""
