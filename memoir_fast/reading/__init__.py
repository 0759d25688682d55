"""Decides which stored edit, if any, a prompt reads."""
