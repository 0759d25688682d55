"""From a fact to a finished update: optimised, not yet part of a memory."""
