"""A list of images, one after the other."""
