"""The model is adapted to what was annotated."""
