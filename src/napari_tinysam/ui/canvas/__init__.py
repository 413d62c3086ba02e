"""Mouse, keys and the layers of the session."""
