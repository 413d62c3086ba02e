"""Synthetic microscopy: labelled images of many techniques, drawn from a seed.

No image contains any photograph. Shapes (`shapes`), their arrangement (`layout`), textures
(`textures`), optics and camera (`optics`) are modelled. Each module in `kinds` combines them into
one kind of specimen and technique.
"""

from tinysam_training.synthetic.generator import (
    GENERATOR_VERSION,
    SYNTHETIC_KINDS,
    SyntheticSource,
    entries,
    synthetic_image,
)

__all__ = [
    "GENERATOR_VERSION",
    "SYNTHETIC_KINDS",
    "SyntheticSource",
    "entries",
    "synthetic_image",
]
