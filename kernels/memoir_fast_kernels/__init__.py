"""Triton kernels and their launchers, one operation per file; memoir_fast/ops/gpu.py calls them."""
