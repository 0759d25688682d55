"""Records what happened to each edit, so that it can be undone."""
