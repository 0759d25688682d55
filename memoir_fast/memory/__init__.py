"""The residual memory: its weights, the signatures that address it, and what one edit adds. The only writers of V, S and C."""
