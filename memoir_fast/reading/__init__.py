"""Which stored edit, if any, a prompt reads."""
