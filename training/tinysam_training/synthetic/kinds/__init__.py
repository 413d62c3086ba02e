"""The kinds of synthetic microscopy, one module for each group of techniques."""
