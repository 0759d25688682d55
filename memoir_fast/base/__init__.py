"""The base model: loading it, finding the projection, knowing it again."""
