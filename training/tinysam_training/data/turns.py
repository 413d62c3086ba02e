"""Images turned and mirrored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinysam_training.labelled_image import LabelledImage

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

#: The eight ways to turn and mirror a plane, by name; the first four keep height and width.
TURNS: dict[str, Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]]] = {
    "identity": lambda plane: plane,
    "mirrored": lambda plane: plane[:, ::-1],
    "upside_down": lambda plane: plane[::-1],
    "half_turn": lambda plane: plane[::-1, ::-1],
    "transposed": lambda plane: plane.swapaxes(0, 1),
    "quarter_turn": lambda plane: plane.swapaxes(0, 1)[::-1],
    "three_quarter_turn": lambda plane: plane.swapaxes(0, 1)[:, ::-1],
    "antitransposed": lambda plane: plane.swapaxes(0, 1)[::-1, ::-1],
}


def turned(image: LabelledImage, turn: str) -> LabelledImage:
    """Turn or mirror an image with its labels.

    Parameters
    ----------
    image : LabelledImage
    turn : str
        A key of `TURNS`.
    """
    if turn == "identity":
        return image
    change = TURNS[turn]
    labels = np.stack([change(layer) for layer in image.labels])
    result = LabelledImage(
        f"{image.name} ({turn})",
        image.dataset,
        np.ascontiguousarray(change(image.rgb)).astype(np.uint8, copy=False),
        np.ascontiguousarray(labels).astype(np.int32, copy=False),
        image.complete,
    )
    # Turning the distance maps is much faster than computing them again.
    for name in ("boundary_distance", "centre_distance"):
        result.__dict__[name] = np.ascontiguousarray(change(getattr(image, name)))
    return result
