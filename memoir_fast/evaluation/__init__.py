"""Facts, and what an edited model gets right."""
