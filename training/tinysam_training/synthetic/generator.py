"""Synthetic images by kind, by number, and as entries beside real ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from tinysam_training.labelled_image import ImageEntry, LabelledImage
from tinysam_training.synthetic.kinds.adherent import phase_contrast
from tinysam_training.synthetic.kinds.bacteria import bacteria
from tinysam_training.synthetic.kinds.cells import cells
from tinysam_training.synthetic.kinds.em_particles import em_particles
from tinysam_training.synthetic.kinds.em_tissue import em_tissue
from tinysam_training.synthetic.kinds.nuclei import nuclei
from tinysam_training.synthetic.kinds.plain import textured_shapes
from tinysam_training.synthetic.kinds.tissue import tissue
from tinysam_training.synthetic.kinds.yeast import yeast
from tinysam_training.synthetic.scene import Picture, visible_objects

_Draw = Callable[
    [np.random.Generator, tuple[int, int]],
    Picture,
]

_DRAWN_BY: dict[str, _Draw] = {
    "nuclei": nuclei,
    "cells": cells,
    "bacteria": bacteria,
    "yeast": yeast,
    "tissue": tissue,
    "phase_contrast": phase_contrast,
    "em_tissue": em_tissue,
    "em_particles": em_particles,
    "shapes": textured_shapes,
}

#: Every kind of synthetic image.
SYNTHETIC_KINDS: tuple[str, ...] = tuple(_DRAWN_BY)

#: Changes whenever the same seed gives another image than before; part of fingerprints.
GENERATOR_VERSION = 1

#: Shortest side of an image; below it nothing of a technique can be seen.
_LEAST_SIDE = 32

#: Separates these images from other things drawn from the same seed.
_STREAM = 7


def synthetic_image(
    rng: np.random.Generator,
    kind: str | None = None,
    size: tuple[int, int] = (512, 512),
) -> LabelledImage:
    """Draw a microscopy image with its labels.

    Objects are 8 to 400 pixels wide when the image's longer side is scaled to the model's 1024, one
    to several hundreds of them, apart, touching or overlapping. The label is the visible part.

    Parameters
    ----------
    rng : numpy Generator
        The only source of chance: the same state gives the same image.
    kind : str, optional
        One of `SYNTHETIC_KINDS`; a random one without it.
    size : (int, int)
        Height and width in pixels, at least 32 each.

    Returns
    -------
    LabelledImage
        Of the set ``synthetic_<kind>``. Each object is one region connected by sides of at least 12
        pixels. Axons (kind em_tissue) have a second layer, that of the fibres around them.

    Raises
    ------
    ValueError
        If there is no such kind, or the size is too small.
    """
    height, width = (int(length) for length in size)
    if min(height, width) < _LEAST_SIDE:
        raise ValueError(
            f"A synthetic image has at least {_LEAST_SIDE} × {_LEAST_SIDE} pixels; "
            f"{width} × {height} were asked for."
        )
    if kind is None:
        kind = SYNTHETIC_KINDS[int(rng.integers(len(SYNTHETIC_KINDS)))]
    draw = _DRAWN_BY.get(kind)
    if draw is None:
        raise ValueError(
            f"There is no kind of synthetic image {kind!r}; "
            f"the kinds are {', '.join(SYNTHETIC_KINDS)}."
        )
    dataset = f"synthetic_{kind}"
    name = f"{dataset}/{int(rng.integers(2**48)):012x}"
    while True:
        image, drawn = draw(rng, (height, width))
        planes = drawn.reshape(-1, height, width)
        labels = np.stack([visible_objects(plane) for plane in planes])
        if labels[0].any():  # a single object may lie outside, or under lettering
            return LabelledImage.from_arrays(name, dataset, image, labels)


@dataclass(frozen=True)
class SyntheticSource:
    """Endless synthetic images by number; the same number is always the same image.

    Attributes
    ----------
    seed : int
    kinds : mapping of str to float, or sequence of str
        Weights of kinds, or kinds of equal weight.
    sizes : sequence of (int, int)
        Heights and widths, equally likely.

    Raises
    ------
    ValueError
        If there is no such kind, no kind of positive weight, or no size.
    """

    seed: int
    kinds: Mapping[str, float] | Sequence[str] = field(default=SYNTHETIC_KINDS)
    sizes: Sequence[tuple[int, int]] = ((512, 512),)

    def __post_init__(self) -> None:
        """Check the weights now: a wrong one would show only after many images."""
        weights = self._weights()
        unknown = sorted(set(weights) - set(SYNTHETIC_KINDS))
        if unknown:
            raise ValueError(
                f"There is no kind of synthetic image {unknown[0]!r}; "
                f"the kinds are {', '.join(SYNTHETIC_KINDS)}."
            )
        values = list(weights.values())
        if not values or min(values) < 0 or not sum(values) > 0:
            raise ValueError(
                "Weights of synthetic kinds are 0 or more, and at least one is above 0."
            )
        if not self.sizes:
            raise ValueError("At least one size of synthetic images is needed.")

    def _weights(self) -> dict[str, float]:
        if isinstance(self.kinds, Mapping):
            return {kind: float(weight) for kind, weight in self.kinds.items()}
        return dict.fromkeys(self.kinds, 1.0)

    def _begin(self, i: int) -> tuple[np.random.Generator, str, tuple[int, int]]:
        """Give the generator of image i after it has chosen the kind and the size."""
        rng = np.random.default_rng([self.seed, _STREAM, i])
        weights = self._weights()
        shares = np.array(list(weights.values()))
        kind = list(weights)[int(rng.choice(len(shares), p=shares / shares.sum()))]
        height, width = self.sizes[int(rng.integers(len(self.sizes)))]
        return rng, kind, (int(height), int(width))

    def image(self, i: int) -> LabelledImage:
        """Draw image number i.

        Parameters
        ----------
        i : int
            From 0.

        Returns
        -------
        LabelledImage
            As `synthetic_image` with the generator of ``[seed, 7, i]``.
        """
        rng, kind, size = self._begin(i)
        drawn = synthetic_image(rng, kind, size)
        return replace(drawn, name=self._name(kind, i))

    def entry(self, i: int) -> ImageEntry:
        """Image number i, to be drawn when it is needed.

        Parameters
        ----------
        i : int
            From 0.

        Returns
        -------
        ImageEntry
        """
        _, kind, size = self._begin(i)
        origin = f"synthetic {GENERATOR_VERSION} {self.seed} {i} {kind} {size}"
        return ImageEntry(
            name=self._name(kind, i),
            dataset=f"synthetic_{kind}",
            complete=True,
            read=partial(self.image, i),
            fingerprint=hashlib.sha256(origin.encode()).hexdigest()[:32],
        )

    def _name(self, kind: str, i: int) -> str:
        return f"synthetic_{kind}/{self.seed}_{i}"


def entries(
    count: int,
    seed: int,
    kinds: Mapping[str, float] | Sequence[str] | None = None,
    size: tuple[int, int] = (512, 512),
) -> list[ImageEntry]:
    """Synthetic images as entries, to be mixed with those of real ones.

    Parameters
    ----------
    count : int
    seed : int
    kinds : mapping of str to float, or sequence of str, optional
        As in `SyntheticSource`; all kinds equally without it.
    size : (int, int)
        Height and width in pixels.

    Returns
    -------
    list of ImageEntry
        Images 0 … count − 1 of the `SyntheticSource`.

    Raises
    ------
    ValueError
        As from `SyntheticSource`.
    """
    source = SyntheticSource(seed, SYNTHETIC_KINDS if kinds is None else kinds, (size,))
    return [source.entry(i) for i in range(count)]
