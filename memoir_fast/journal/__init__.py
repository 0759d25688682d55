"""What happened to each edit, kept so that it can be undone."""
