"""What the demo segments: stained nuclei from scikit-image, with prompts chosen by eye."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tinysam.cli.prompts import Box, ObjectPrompt, Point, group

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: The part of the image where nuclei lie apart, y and x.
_PART = slice(200, 456), slice(256, 512)

#: Around nuclei of the connective tissue.
BOXES: tuple[Box, ...] = (
    (33, 46, 49, 57),
    (56, 83, 67, 99),
    (22, 86, 40, 100),
    (92, 83, 115, 101),
    (115, 113, 131, 132),
    (190, 36, 205, 57),
    (75, 89, 87, 100),
    (44, 35, 56, 47),
)

#: On a nucleus at the lower edge, and beside it.
POSITIVE: tuple[Point, ...] = ((152, 229),)
NEGATIVE: tuple[Point, ...] = ((138, 229),)


def image() -> npt.NDArray[np.float32]:
    """Return the stain of the nuclei in colonic tissue: (256, 256) float32, no download.

    Haematoxylin, unmixed from the colours of scikit-image's immunohistochemistry example (Ruifrok
    and Johnston, 2001): bright nuclei on a dark ground, as in fluorescence.
    """
    import numpy as np
    from skimage.color import rgb2hed
    from skimage.data import immunohistochemistry

    return np.asarray(rgb2hed(immunohistochemistry())[*_PART, 0], np.float32)


def objects() -> list[ObjectPrompt]:
    """Return the objects of `image` that the demo segments."""
    return group(POSITIVE, NEGATIVE, BOXES)
