"""Objects that only a smaller look at the image sees whole.

In the model's frame the object head sees large objects in patches or not at all; in a smaller
picture (`napari_tinysam.scales`) it sees them as it sees others. Which of two accounts of a place
is right, the maps tell: they say how far every pixel is from the centre and the boundary of its
object, which an object that is there confirms, and a patch of it or several in one do not.

Where most objects of an image are large, both looks are asked throughout: the mean of their maps is
better than either (`blended`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.object_maps import boundary_distance, centre_distance
from napari_tinysam.prompts import LOGITS_SIZE
from napari_tinysam.scales import HEAD_START, LEAST_AREA, enlarged_logits

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_tinysam.masks import Upscaler

#: Side of the median object, in values of the maps (4 pixels of the frame), above which the smaller
#: look begins to count, and from which it counts as much as the frame's. Chosen on training images:
#: with objects of 70 pixels and more mSA rises by 0.04 to 0.18, with smaller ones it falls.
_COUNTS_FROM, _COUNTS_FULLY = 15.0, 20.0


def blended(
    maps: Sequence[npt.NDArray[np.float32]], regions: npt.NDArray[np.int32]
) -> npt.NDArray[np.float32]:
    """Mix the maps of the frame with those of the next smaller look, if objects are large.

    Parameters
    ----------
    maps : sequence of numpy.ndarray
        (3, h, w) each, in 0–1; of the frame first, then of looks a whole factor smaller.
    regions : numpy.ndarray
        (h, w) int32, the objects that the frame's maps show.

    Returns
    -------
    numpy.ndarray
        (3, h, w) float32; the frame's own if objects are small, or there is no other look.
    """
    areas = np.bincount(regions.ravel())[1:]
    areas = areas[areas > 0]
    if len(maps) < 2 or not areas.size:
        return maps[0]
    side = float(np.sqrt(np.median(areas)))
    share = (side - _COUNTS_FROM) / (_COUNTS_FULLY - _COUNTS_FROM)
    share = 0.5 * min(max(share, 0.0), 1.0)
    if not share:
        return maps[0]
    factor = maps[0].shape[1] // maps[1].shape[1]
    smaller = enlarged_logits(maps[1], factor)
    return np.asarray((1 - share) * maps[0] + share * smaller, np.float32)


def confirmation(
    regions: npt.NDArray[np.int32], maps: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Say how well the maps agree with the objects that were made of them.

    Parameters
    ----------
    regions : numpy.ndarray
        (h, w) int32: objects 1…N, 0 where there is none.
    maps : numpy.ndarray
        (3, h, w) float in 0–1: foreground, centre distance, boundary distance.

    Returns
    -------
    numpy.ndarray
        (N + 1,) in 0–1 for each object: mean foreground, times 1 minus the mean difference between
        both distances and those that the object has. 1 for the background, place 0.
    """
    inside = regions > 0
    numbers = regions[inside]
    count = int(regions.max(initial=0)) + 1
    area = np.maximum(np.bincount(numbers, minlength=count), 1)
    off = sum(
        np.abs(said - true(regions) / 255.0)[inside] / 2
        for said, true in ((maps[1], centre_distance), (maps[2], boundary_distance))
    )
    foreground = np.bincount(numbers, maps[0][inside], count) / area
    found = foreground * (1 - np.bincount(numbers, off, count) / area)
    found[0] = 1.0
    return np.asarray(found)


def larger_seen(
    maps: Sequence[npt.NDArray[np.float32]],
    regions: Sequence[npt.NDArray[np.int32]],
) -> list[tuple[int, npt.NDArray[np.bool_]]]:
    """Find the objects of smaller looks that explain their place better than the frame's do.

    Where the frame's look sees an object, its explanation is as good as the maps confirm it; and
    where it sees none, as it is sure of that.

    Parameters
    ----------
    maps : sequence of numpy.ndarray
        (3, h, w) each, in 0–1; of the frame first, or what is `blended` of it, then of looks a
        whole factor smaller.
    regions : sequence of numpy.ndarray
        (h, w) int32 each, the objects of those maps.

    Returns
    -------
    list of (int, numpy.ndarray)
        Which look, and (h, w) bool of that look: the object. A later one goes before an earlier one
        where they overlap.
    """
    explained = confirmation(regions[0], maps[0])[regions[0]]
    explained = np.where(regions[0] > 0, explained, 1 - maps[0][0])
    found: list[tuple[int, npt.NDArray[np.bool_]]] = []
    for look in range(1, len(maps)):
        here = regions[look]
        factor = regions[0].shape[0] // here.shape[0]
        areas = np.bincount(here.ravel())
        before = explained.reshape(here.shape[0], factor, here.shape[1], factor)
        before = before.mean(axis=(1, 3))  # (h, w) of this look
        known = np.bincount(here.ravel(), before.ravel()) / np.maximum(areas, 1)
        confirmed = confirmation(here, maps[look])
        better = (areas >= LEAST_AREA) & (confirmed > known + HEAD_START)
        better[0] = False
        found += [(look, here == number) for number in np.flatnonzero(better)]
        large = np.where(better[here], confirmed[here], 0.0)
        large = large.repeat(factor, axis=0).repeat(factor, axis=1)
        explained = np.where(large > 0, large, explained)
    return found


def foreground_with(
    found: Sequence[tuple[int, npt.NDArray[np.bool_]]],
    maps: Sequence[npt.NDArray[np.float32]],
) -> npt.NDArray[np.float32]:
    """Foreground of the frame's look, and around larger objects that of theirs.

    Parameters
    ----------
    found : sequence of (int, numpy.ndarray)
        From `larger_seen`.
    maps : sequence of numpy.ndarray
        As there.

    Returns
    -------
    numpy.ndarray
        (h, w) float32, of the frame's look.
    """
    from scipy import ndimage as ndi

    foreground = np.array(maps[0][0], np.float32)
    for look, mask in found:
        factor = len(foreground) // len(mask)
        around = ndi.binary_dilation(mask, np.ones((3, 3), bool))
        place = around.repeat(factor, axis=0).repeat(factor, axis=1)
        foreground[place] = enlarged_logits(maps[look][0], factor)[place]
    return foreground


def put_larger(
    labels: npt.NDArray[np.int32],
    found: Sequence[tuple[int, npt.NDArray[np.bool_]]],
    inside: npt.NDArray[np.bool_],
    upscaler: Upscaler,
) -> npt.NDArray[np.int32]:
    """Replace what lies mostly within larger objects by these.

    Parameters
    ----------
    labels : numpy.ndarray
        (H, W) int32, the objects of the frame's look.
    found : sequence of (int, numpy.ndarray)
        From `larger_seen`.
    inside : numpy.ndarray
        (H, W) bool, `foreground_with` over the threshold.
    upscaler : Upscaler
        From the frame's logits to (H, W).

    Returns
    -------
    numpy.ndarray
        (H, W) int32, with gaps in the numbers.
    """
    labels = labels.copy()
    for look in dict.fromkeys(look for look, _ in found):
        most = np.zeros(labels.shape, np.float32)
        owner = np.zeros(labels.shape, np.int32)
        for number, (own, mask) in enumerate(found, start=1):
            if own != look:
                continue
            factor = LOGITS_SIZE // len(mask)
            # Its pixels, and those up to half a pixel of the look from it.
            share = upscaler.full(enlarged_logits(mask.astype(np.float32), factor))
            more = inside & (share > most)
            most[more], owner[more] = share[more], number
        areas = np.bincount(labels.ravel())
        within = np.bincount(labels[owner > 0], minlength=len(areas))
        replaced = 2 * within >= areas
        replaced[0] = True
        free = replaced[labels]
        labels[free & (labels > 0)] = 0
        new = free & (owner > 0)
        labels[new] = owner[new] + (len(areas) - 1)
    return labels
