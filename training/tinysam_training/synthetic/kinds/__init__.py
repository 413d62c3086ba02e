"""The kinds of synthetic microscopy, a module each group of techniques."""
