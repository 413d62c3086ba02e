"""The kinds of synthetic microscopy, one module for each group of techniques.

Each module has a function ``(rng, size) -> Picture`` that draws an image of its kind: from a numpy
generator and (height, width) in pixels it makes the image, uint8 or uint16, (H, W) or (H, W, 3),
and its labels, int32, (H, W) or, in layers that overlap, (L, H, W).
"""
