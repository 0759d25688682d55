"""Triton kernels, one operation per file: kernels and their launchers, called by memoir_fast/ops/gpu.py."""
