"""The backend "cpp": C++ kernels for the CPU, generated and compiled on demand."""
