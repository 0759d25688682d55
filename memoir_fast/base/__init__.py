"""The base model: loads it, finds the projection, attaches to it and recognises it."""
