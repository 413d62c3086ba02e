"""Converts masks that may overlap to layers of labels without overlaps.

A mask is COCO's run lengths, ``{"size": [height, width], "counts": …}``, by columns, as a list or
compressed to characters; or polygons, ``[[x0, y0, x1, y1, …], …]``, which need pycocotools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

#: The most layers of one image, with 4 bytes per pixel each. Masks that fit into none are left out.
MAX_LAYERS = 8

#: Two masks of one layer may share this many pixels, which stay with the larger one.
SHARED_PIXELS = 2


def mask_layers(
    masks: Iterable[Any], size: tuple[int, int], max_layers: int = MAX_LAYERS
) -> npt.NDArray[np.int32]:
    """Distribute masks to few layers by a greedy search.

    The largest mask first, each goes into the first layer in which it shares at most
    `SHARED_PIXELS` with others: layer 0 holds the largest objects, later ones their parts. Empty
    masks, and those that do not fit into `max_layers`, are left out.

    Parameters
    ----------
    masks : iterable
        Run lengths or polygons.
    size : (int, int)
        Height and width of the image.
    max_layers : int
        The most layers.

    Returns
    -------
    ndarray of int32, (L, H, W)
        Objects 1…N without gaps in each layer, 0 where there is none; L ≥ 1.

    Raises
    ------
    DataError
        If a mask is broken or of another size, or pycocotools is missing.
    """
    all_runs = [_runs(mask, size) for mask in masks]
    areas = np.array([runs[1::2].sum() for runs in all_runs], np.int64)
    layers = [np.zeros(size, np.int32)]
    counts = [0]
    for number in np.argsort(-areas, kind="stable"):
        if areas[number] == 0:
            continue
        columns, mask = _columns(all_runs[number], size[0])
        layer = next(
            (i for i, labels in enumerate(layers) if _fits(mask, labels[:, columns])),
            None,
        )
        if layer is None:
            if len(layers) >= max_layers:
                continue
            layer = len(layers)
            layers.append(np.zeros(size, np.int32))
            counts.append(0)
        counts[layer] += 1
        part = layers[layer][:, columns]
        part[mask & (part == 0)] = counts[layer]
    return np.stack(layers)


def _fits(mask: npt.NDArray[np.bool_], labels: npt.NDArray[np.int32]) -> bool:
    """Whether a mask shares only a few pixels with objects, and has others."""
    free = int(np.count_nonzero(mask & (labels == 0)))
    return free > 0 and free >= int(np.count_nonzero(mask)) - SHARED_PIXELS


def _columns(
    runs: npt.NDArray[np.int64], height: int
) -> tuple[slice, npt.NDArray[np.bool_]]:
    """Decode the columns in which a non-empty mask has pixels."""
    on = runs[1::2] > 0
    ends = np.cumsum(runs)
    first = int((ends[1::2] - runs[1::2])[on][0])
    last = int(ends[1::2][on][-1]) - 1
    left, right = first // height, last // height + 1
    # Runs of these columns only; pixels are numbered from the first column's top.
    ends = np.clip(ends - left * height, 0, (right - left) * height)
    lengths = np.diff(ends, prepend=0)
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, lengths)
    return slice(left, right), flat.reshape(right - left, height).T


def _runs(mask: Any, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Run lengths of a mask, of zeros and ones in turn, by columns."""
    try:
        if isinstance(mask, list):
            mask = _polygon_runs(mask, size)
        if tuple(mask["size"]) != tuple(size):
            height, width = mask["size"]
            raise DataError(
                f"a mask is for {width} × {height} pixels, the image has {size[1]} × {size[0]}."
            )
        counts = mask["counts"]
        runs = np.array(
            counts if isinstance(counts, list) else _decompressed(counts), np.int64
        )
    except DataError:
        raise
    except Exception as error:  # a JSON file may hold anything
        raise DataError("a mask is neither run lengths nor polygons.") from error
    pixels = size[0] * size[1]
    # Each by itself first: sums of absurd numbers wrap around.
    if runs.ndim != 1 or ((runs < 0) | (runs > pixels)).any() or runs.sum() != pixels:
        raise DataError("the run lengths of a mask do not add up to its size.")
    return runs


def _decompressed(counts: str | bytes) -> list[int]:
    """Read run lengths that COCO wrote as characters.

    Digits have 5 bits, the lowest first, one per character, counted from "0". Bit 5 is set if more
    digits follow; bit 4 of the last is the sign. From the fourth on, a number is the difference
    from the one before the last.
    """
    data = counts.encode("ascii") if isinstance(counts, str) else counts
    runs: list[int] = []
    value = shift = 0
    for byte in data:
        digit = byte - 48
        if not 0 <= digit < 64:
            raise DataError("a mask has characters that no run length has.")
        value |= (digit & 0x1F) << shift
        shift += 5
        if digit & 0x20:
            continue
        if digit & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise DataError("the run lengths of a mask are cut off.")
    return runs


def _polygon_runs(polygons: list[Any], size: tuple[int, int]) -> Any:
    """Draw polygons as COCO does; those with fewer than three points are empty."""
    try:
        from pycocotools import mask as coder
    except ImportError as error:
        raise DataError(
            "Reading polygons of COCO needs a package that is not installed: "
            "pip install pycocotools."
        ) from error
    drawn = [points for points in polygons if len(points) >= 6]
    if not drawn:
        return {"size": size, "counts": [size[0] * size[1]]}
    return coder.merge(coder.frPyObjects(drawn, *size))
