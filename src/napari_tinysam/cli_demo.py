"""What the demo segments: stained tissue from scikit-image, with prompts chosen by eye."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tinysam.cli_prompts import Box, ObjectPrompt, Point, group

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: A gland cut across, then nuclei of the connective tissue around it.
BOXES: tuple[Box, ...] = (
    (251, 303, 387, 506),
    (288, 245, 304, 257),
    (276, 286, 295, 300),
    (447, 235, 461, 259),
    (470, 217, 492, 261),
    (166, 260, 179, 272),
    (479, 260, 496, 300),
)

#: The gap inside the gland at the top: on it, and on the tissue beside it.
POSITIVE: tuple[Point, ...] = ((337, 118), (366, 176))
NEGATIVE: tuple[Point, ...] = ((300, 150),)


def image() -> npt.NDArray[np.uint8]:
    """Return colonic glands, immunohistochemical staining: (512, 512, 3) uint8, no download."""
    from skimage.data import immunohistochemistry

    tissue: npt.NDArray[np.uint8] = immunohistochemistry()
    return tissue


def objects() -> list[ObjectPrompt]:
    """Return the objects of `image` that the demo segments."""
    return group(POSITIVE, NEGATIVE, BOXES)
