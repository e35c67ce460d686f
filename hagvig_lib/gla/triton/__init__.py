"""Fused kernels in Triton, for CUDA devices of capability 8.0 and up."""
