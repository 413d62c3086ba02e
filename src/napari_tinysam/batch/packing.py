"""Proposals as arrays: masks in a bit a pixel, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from napari_tinysam.everything.proposals import Proposal, Source
from napari_tinysam.masks import BoxedMask

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

_SOURCES: tuple[Source, ...] = get_args(Source)


def packed(proposals: Sequence[Proposal]) -> dict[str, npt.NDArray[Any]]:
    """Turn N proposals into arrays.

    Returns
    -------
    dict of str to ndarray
        ``numbers``, (N, 4) float64: score, stability, and x and y of the point. ``sources``, (N,)
        uint8. ``masks`` and ``territories``, (N, 4) int64: first row and column, height and width;
        a height of −1 where there is no territory. ``bits``, uint8, all masks, then all
        territories, each from a byte of its own.
    """
    masks = [each.mask for each in proposals]
    territories = [each.territory for each in proposals]
    numbers = [[p.score, p.stability, *p.point] for p in proposals]
    bits = [np.packbits(mask.mask) for mask in masks]
    bits += [np.packbits(each.mask) for each in territories if each is not None]
    return {
        "numbers": np.array(numbers, np.float64).reshape(-1, 4),
        "sources": np.array([_SOURCES.index(p.source) for p in proposals], np.uint8),
        "masks": _places(masks),
        "territories": _places(territories),
        "bits": np.concatenate([np.zeros(0, np.uint8), *bits]),
    }


def unpacked(
    arrays: Mapping[str, npt.NDArray[Any]], shape: tuple[int, int]
) -> list[Proposal]:
    """Turn the arrays of `packed` into proposals of an image of this height and width.

    Raises
    ------
    ValueError, KeyError
        If the arrays do not fit one another.
    """
    bits, read = arrays["bits"], 0
    lists: list[list[BoxedMask | None]] = [[], []]
    for name, own in zip(("masks", "territories"), lists, strict=True):
        for y0, x0, height, width in arrays[name].tolist():
            if height < 0:
                own.append(None)
                continue
            size = height * width
            used = bits[read : read + -(-size // 8)]
            read += len(used)
            mask = np.unpackbits(used, count=size).astype(bool).reshape(height, width)
            own.append(BoxedMask(mask, y0, x0, shape))
    if read != len(bits):
        raise ValueError("There are more bits than masks.")
    sources = [_SOURCES[number] for number in arrays["sources"].tolist()]
    rows = zip(arrays["numbers"].tolist(), sources, *lists, strict=True)
    return [
        Proposal(mask, score, (x, y), source, stability, territory)
        for (score, stability, x, y), source, mask, territory in rows
        if mask is not None
    ]


def _places(masks: Sequence[BoxedMask | None]) -> npt.NDArray[np.int64]:
    places = [
        (0, 0, -1, 0) if mask is None else (mask.y0, mask.x0, *mask.mask.shape)
        for mask in masks
    ]
    return np.array(places, np.int64).reshape(-1, 4)
