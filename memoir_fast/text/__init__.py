"""Turns texts into tokens, and compares answers."""
