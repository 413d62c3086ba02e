"""Test sheets: synthetic images, the same for every model. Each sheet has one difficulty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

from napari_tinysam.frame import FRAME
from tinysam_training.labelled_image import LabelledImage
from tinysam_training.synthetic import synthetic_image

if TYPE_CHECKING:
    import numpy.typing as npt

    BoolArray = npt.NDArray[np.bool_]

#: Random stream of these images, apart from those of training.
STREAM = 20_011

#: Size of ordinary objects: the longer side of their box, in pixels of the frame.
_ORDINARY = (24, 200)

_TINY = (6, 11)
_LARGE = (320, 480)

#: Objects touch if at least this share of their outline is another object's.
_SHARED_OUTLINE = 0.15

#: Radius of the blur disc of the defocused sheet, in pixels of the frame.
_DEFOCUS = 5.0

#: Largest number of images drawn for a sheet.
_ATTEMPTS = 400


@dataclass(frozen=True)
class Sheet:
    """Images with one difficulty.

    Attributes
    ----------
    name, title : str
        For files, and for people.
    images : tuple of LabelledImage
        Only objects with the difficulty are labelled. If others were left out, the image is partly
        annotated.
    """

    name: str
    title: str
    images: tuple[LabelledImage, ...]


def sheets(images: int = 6, seed: int = 0) -> list[Sheet]:
    """Draw the test sheets.

    Parameters
    ----------
    images : int
        Of each sheet.
    seed : int

    Returns
    -------
    list of Sheet
        The first is ``plain``, the reference for the others.
    """
    plain = _drawn(
        images,
        seed,
        ("nuclei", "cells", "yeast", "phase_contrast", "em_particles", "shapes"),
        lambda image: _sized(image, _ORDINARY),
        at_least=5,
    )
    tiny = _drawn(
        images,
        seed + 1,
        ("nuclei", "bacteria", "em_particles", "shapes"),
        lambda image: _sized(image, _TINY),
        at_least=5,
        side=FRAME,
    )
    large = _drawn(
        images,
        seed + 2,
        ("cells", "nuclei", "tissue", "shapes", "em_particles"),
        lambda image: _sized(image, _LARGE) & _inside(image),
    )
    touching = _drawn(
        images,
        seed + 3,
        ("cells", "nuclei", "yeast", "tissue"),
        lambda image: _sized(image, _ORDINARY) & _touching(image),
        at_least=4,
    )
    colour = _drawn(
        images,
        seed + 4,
        ("tissue",),
        lambda image: _sized(image, _ORDINARY),
        at_least=5,
    )
    return [
        Sheet("plain", "ordinary objects, 24–200 px", plain),
        Sheet("tiny", "objects of 6–11 px", tiny),
        Sheet("large", "objects of 320–480 px", large),
        Sheet("touching", "touching objects", touching),
        Sheet("defocused", "out of focus", tuple(map(_defocused, plain))),
        Sheet("inverted", "inverted contrast", tuple(map(_inverted, plain))),
        Sheet("16_bit", "16 bit, 5 % of the range, hot pixels", tuple(map(_in_16_bit, plain))),
        Sheet("colour", "colour (stained tissue)", colour),
    ]  # fmt: skip


def _drawn(
    count: int,
    seed: int,
    kinds: Sequence[str],
    suits: Callable[[LabelledImage], BoolArray],
    *,
    at_least: int = 1,
    side: int = 512,
) -> tuple[LabelledImage, ...]:
    """Draw images until `count` have enough suitable objects; unlabel the others."""
    found: list[LabelledImage] = []
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([seed, STREAM, attempt])
        kind = kinds[len(found) % len(kinds)]
        image = synthetic_image(rng, kind, (side, side))
        image = replace(image, labels=image.labels[:1])
        keep = suits(image)
        if keep.sum() >= at_least:
            found.append(_with_only(image, keep))
        if len(found) == count:
            return tuple(found)
    raise RuntimeError(f"Only {len(found)} of {_ATTEMPTS} images are suitable.")


def _with_only(image: LabelledImage, keep: BoolArray) -> LabelledImage:
    """Remove the labels of other objects; their pixels are unknown then."""
    if keep.all():
        return image
    chosen = np.concatenate([[False], keep])
    labels = np.where(chosen[image.labels[0]], image.labels[0], 0)
    return LabelledImage.from_arrays(
        image.name, image.dataset, image.rgb, labels, complete=False, percentiles=(0, 100)
    )  # fmt: skip


def _sized(image: LabelledImage, limits: tuple[float, float]) -> BoolArray:
    """(N,) objects whose longer side is within limits, in pixels of the frame."""
    boxes = image.boxes
    extents = np.maximum(boxes[:, 3] - boxes[:, 1], boxes[:, 4] - boxes[:, 2])
    extents = extents * (FRAME / max(image.rgb.shape[:2]))
    return np.asarray((limits[0] <= extents) & (extents <= limits[1]))


def _inside(image: LabelledImage) -> BoolArray:
    """(N,) objects that no border of the image cuts."""
    height, width = image.rgb.shape[:2]
    boxes = image.boxes
    return np.asarray(
        (boxes[:, 1:3] > 0).all(1) & (boxes[:, 3] < width) & (boxes[:, 4] < height)
    )


def _touching(image: LabelledImage) -> BoolArray:
    """(N,) objects that share a good part of their outline with another."""
    labels = image.labels[0]
    count = int(labels.max())
    outline, shared = np.zeros(count + 1), np.zeros(count + 1)
    for axis in (0, 1):
        for first, second in ((0, 1), (1, 0)):
            ours = np.moveaxis(labels, axis, 0)[first : len(labels) - second]
            theirs = np.moveaxis(labels, axis, 0)[second : len(labels) - first]
            differ = (ours != theirs) & (ours > 0)
            outline += np.bincount(ours[differ], minlength=count + 1)
            both = differ & (theirs > 0)
            shared += np.bincount(ours[both], minlength=count + 1)
    return np.asarray(shared[1:] >= _SHARED_OUTLINE * np.maximum(outline[1:], 1))


def _defocused(image: LabelledImage) -> LabelledImage:
    radius = _DEFOCUS * max(image.rgb.shape[:2]) / FRAME
    steps = np.arange(-int(np.ceil(radius)), int(np.ceil(radius)) + 1)
    # Pixels at the disc's edge count by the part inside it.
    disc = np.clip(radius + 0.5 - np.hypot(steps[:, None], steps), 0, 1)
    kernel = (disc / disc.sum())[..., None]
    blurred = ndi.convolve(image.rgb.astype(np.float32), kernel, mode="nearest")
    return replace(image, rgb=np.round(blurred).clip(0, 255).astype(np.uint8))


def _inverted(image: LabelledImage) -> LabelledImage:
    return replace(image, rgb=255 - image.rgb)


def _in_16_bit(image: LabelledImage) -> LabelledImage:
    """Imitate a camera that uses a twentieth of its range and has a few hot pixels."""
    gray = image.rgb.astype(np.float32).mean(2)
    raw = (400 + gray / 255 * 0.05 * 65535).astype(np.uint16)
    rng = np.random.default_rng(STREAM)
    rows, columns = rng.integers(0, min(raw.shape), (2, 8))
    raw[rows, columns] = 65535
    return LabelledImage.from_arrays(
        image.name, image.dataset, raw, image.labels, complete=image.complete
    )
