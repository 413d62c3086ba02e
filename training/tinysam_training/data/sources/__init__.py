"""Formats of labelled images."""
