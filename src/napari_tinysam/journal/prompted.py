"""Planes, prompts and masks as they stand in the arguments of actions, and back."""

from __future__ import annotations

import math
import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_tinysam.journal.lines import DamagedError
from napari_tinysam.masks import BoxedMask

#: Pixels of a mask that is read; what says more is damaged.
_MOST = 2**31


def mask_to_json(mask: BoxedMask) -> list[Any]:
    """Pack a mask: its first row and column, height and width, and its bits.

    Parameters
    ----------
    mask : BoxedMask

    Returns
    -------
    list
        [y0, x0, [h, w], text]; the text is base64 of zlib of rows of bits.
    """
    bits = np.packbits(mask.mask).tobytes()
    text = b64encode(zlib.compress(bits, 6)).decode()
    return [int(mask.y0), int(mask.x0), list(mask.mask.shape), text]


def mask_from_json(content: Any, shape: tuple[int, int]) -> BoxedMask:
    """Reverse `mask_to_json`.

    Parameters
    ----------
    content : list
    shape : (int, int)
        Height and width of the plane.

    Raises
    ------
    DamagedError
        If it is no mask of such a plane.
    """
    try:
        y0, x0, (height, width), text = content
        inside = (
            min(y0, x0, height, width) >= 0
            and y0 + height <= shape[0]
            and x0 + width <= shape[1]
            and height * width <= _MOST
        )
        if not inside:
            raise DamagedError("A mask lies outside its plane.")
        size = math.ceil(height * width / 8)
        bits = zlib.decompressobj().decompress(
            b64decode(text, validate=True), max(size, 1)
        )
        if len(bits) != size:
            raise DamagedError("A mask is not whole.")
        flat = np.unpackbits(np.frombuffer(bits, np.uint8), count=height * width)
    except (TypeError, ValueError, zlib.error) as error:
        if isinstance(error, DamagedError):
            raise
        raise DamagedError("A mask is damaged.") from error
    return BoxedMask(flat.reshape(height, width).astype(bool), y0, x0, shape)


def prompts_to_json(
    points: Sequence[tuple[float, float, int]],
    box: tuple[float, float, float, float] | None,
    mask: BoxedMask | None = None,
) -> dict[str, Any]:
    """Say how the model was asked about one object.

    Parameters
    ----------
    points : sequence of (float, float, int)
        (x, y, label), label 1 is positive, 0 negative.
    box : (float, float, float, float), optional
        (x0, y0, x1, y1).
    mask : BoxedMask, optional
        The shape that the object had, where it was edited.

    Returns
    -------
    dict
        ``points`` [[y, x, label] …], ``box`` [y0, x0, y1, x1] or None, ``mask`` as `mask_to_json`
        writes it or None.
    """
    return {
        "points": [[y, x, label] for x, y, label in points],
        "box": None if box is None else [box[1], box[0], box[3], box[2]],
        "mask": None if mask is None else mask_to_json(mask),
    }
