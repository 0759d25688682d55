"""The residual memory: its weights, the signatures that address it, and what one edit adds. Only this package writes V,
S and C."""
