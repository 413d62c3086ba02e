"""Thresholds of everything mode, measured on labelled images."""
