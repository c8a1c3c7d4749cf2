"""The triton target: launches of generated kernels."""
