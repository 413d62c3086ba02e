"""Synthetic images by kind, by number, and as entries to mix with real ones."""

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

#: Raised whenever a seed gives another image than before; part of fingerprints.
GENERATOR_VERSION = 1

#: Shortest side of an image in pixels; smaller ones cannot show a technique.
_LEAST_SIDE = 32

#: Random stream of these images, apart from other uses of the seed.
_STREAM = 7


def synthetic_image(
    rng: np.random.Generator,
    kind: str | None = None,
    size: tuple[int, int] = (512, 512),
) -> LabelledImage:
    """Draw a microscopy image with its labels.

    One to several hundred objects, 8 to 400 pixels wide in the model's frame of 1024; they lie
    apart, touch or overlap. The label is the visible part.

    Parameters
    ----------
    rng : numpy Generator
        The same state gives the same image.
    kind : str, optional
        One of `SYNTHETIC_KINDS`. Default: a random one.
    size : (int, int)
        Height and width in pixels, at least 32 each.

    Returns
    -------
    LabelledImage
        In the set ``synthetic_<kind>``. Each object is one region connected by pixel sides, of at
        least 12 pixels. Images of axons (kind em_tissue) have a second layer, with their fibres.

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
        if labels[0].any():  # the only object may lie outside, or under lettering
            return LabelledImage.from_arrays(name, dataset, image, labels)


@dataclass(frozen=True)
class SyntheticSource:
    """An endless sequence of synthetic images; a number always gives the same image.

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
        """Check the weights here: a wrong one would show only after many images."""
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
        """Return the generator of image i after it has chosen kind and size."""
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
        """Return image number i, which is drawn when it is read.

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
    """List synthetic images as entries, to mix with real ones.

    Parameters
    ----------
    count : int
    seed : int
    kinds : mapping of str to float, or sequence of str, optional
        As in `SyntheticSource`. Default: all kinds, equally likely.
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
