"""Batches: many image files, segmented one after another."""
