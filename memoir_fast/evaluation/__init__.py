"""Test facts, and measures of what an edited model gets right."""
