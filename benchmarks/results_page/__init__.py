"""`docs/results.md` and its plots, made from the committed rows and from nothing else."""
