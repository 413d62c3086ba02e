"""Synthetic microscopy: labelled images of many techniques, drawn from a seed.

Nothing of an image comes from a photograph. Shapes (`shapes`), their arrangement (`layout`), their
textures (`textures`) and the optics and the camera (`optics`) are modelled; the modules in `kinds`
put them together, a kind of specimen and technique each.
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
