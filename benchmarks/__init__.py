"""Benchmarks: one script a question, one row a run; see README.md in this folder."""
