"""Comparisons, tables and published figures. Not part of the package."""
