"""Many image files at once."""
