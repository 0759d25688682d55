"""Turns a fact into a finished update, optimised but not yet part of a memory."""
