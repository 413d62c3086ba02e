"""Colours of proposals: neighbours differ, and what is one object has one colour."""

from __future__ import annotations

import numpy as np
from napari.utils.colormaps import CyclicLabelColormap
from scipy import ndimage as ndi

from napari_tinysam.everything import (
    LabelSettings,
    Proposal,
    Proposals,
    label_proposals,
)
from napari_tinysam.everything.choosing import shapes_of
from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui.state.coloring import PALETTE, choose_colors
from napari_tinysam.ui.state.painted import ShownObjects, whole


def tissue(side: int, cells: int, seed: int) -> np.ndarray:
    """Cells that touch one another, each pixel the one whose middle is nearest, (side, side)."""
    rng = np.random.default_rng(seed)
    middles = np.ones((side, side), bool)
    ys, xs = rng.integers(0, side, (2, cells))
    middles[ys, xs] = False
    labels = np.zeros((side, side), np.int32)
    labels[ys, xs] = np.arange(1, cells + 1)
    nearest = ndi.distance_transform_edt(
        middles, return_distances=False, return_indices=True
    )
    return np.asarray(labels[tuple(nearest)])


def proposed(labels: np.ndarray) -> Proposals:
    """Propose every object, the score falling with its number."""
    count = int(labels.max())
    masks = [
        BoxedMask(labels[where] == n, where[0].start, where[1].start, labels.shape)
        for n, where in enumerate(ndi.find_objects(labels), start=1)
        if where is not None
    ]
    members = [
        Proposal(mask, 1 - n / (2 * count), (0.0, 0.0)) for n, mask in enumerate(masks)
    ]
    return Proposals(members, labels.shape)


def borders(values: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of values on the two sides of a border, as often as pixels meet there."""
    pairs = []
    for a, b in ((values[1:], values[:-1]), (values[:, 1:], values[:, :-1])):
        differ = (a != b) & (a > 0) & (b > 0)
        pairs += list(zip(a[differ].tolist(), b[differ].tolist(), strict=True))
    return pairs


def test_cells_that_touch_have_different_colours() -> None:
    found = proposed(tissue(400, 150, seed=1))
    shapes = shapes_of(found, LabelSettings(confidence=0))
    values = whole(ShownObjects(shapes, choose_colors(found)))
    pairs = borders(values)
    assert len(pairs) > 1000
    assert not [pair for pair in pairs if (pair[0] - pair[1]) % len(PALETTE) == 0]


def test_napari_shows_the_colour_that_was_chosen() -> None:
    found = proposed(tissue(100, 12, seed=2))
    colors = choose_colors(found)
    labelling = label_proposals(found, LabelSettings(confidence=0))
    shapes = shapes_of(found, LabelSettings(confidence=0))
    values = whole(ShownObjects(shapes, colors))
    assert ((values == 0) == (labelling.labels == 0)).all()
    shown = CyclicLabelColormap(colors=["transparent", *PALETTE])
    for label, number in enumerate(labelling.numbers, start=1):
        value = values[labelling.labels == label][0]
        expected = [int(PALETTE[colors[number]][i : i + 2], 16) for i in (1, 3, 5)]
        np.testing.assert_allclose(shown.map(value)[:3] * 255, expected, atol=1)
    assert len(np.unique(values[values > 0])) == len(labelling.numbers)


def test_what_is_proposed_twice_has_one_colour() -> None:
    first = np.zeros((50, 50), bool)
    first[10:30, 10:30] = True
    second = np.zeros((50, 50), bool)
    second[11:30, 10:31] = True
    beside = np.zeros((50, 50), bool)
    beside[10:30, 32:40] = True
    members = [
        Proposal(BoxedMask.from_full(mask), score, (0.0, 0.0))
        for mask, score in ((first, 0.9), (second, 0.8), (beside, 0.7))
    ]
    colors = choose_colors(Proposals(members, (50, 50)))
    assert colors[0] == colors[1] != colors[2]


def test_no_proposals_need_no_colours() -> None:
    assert len(choose_colors(Proposals([], (10, 10)))) == 0
