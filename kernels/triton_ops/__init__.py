"""Triton kernels: one operation per file, a kernel and its launcher. `memoir_fast.ops` decides when they run."""
