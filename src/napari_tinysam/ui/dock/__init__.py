"""The dock and its boxes."""
