"""A training run: its start, loop, validation and folder."""
