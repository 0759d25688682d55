"""Triton kernels, one operation per file: kernels and their launchers, registered by memoir_fast/ops.py."""
