"""Proposals of looks become those of the plane, whatever the tiles and their order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from napari_tinysam.everything.joining import Joined, joined
from napari_tinysam.everything.proposals import Proposal
from napari_tinysam.inference.looks import Look, LookGrid
from napari_tinysam.masks import BoxedMask

SHAPE = (230, 270)


@st.composite
def discs(draw: st.DrawFn, largest: int = 45) -> list[BoxedMask]:
    """Objects of many sizes that do not touch."""
    free = np.ones(SHAPE, bool)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    found = []
    for _ in range(draw(st.integers(1, 14))):
        y, x = draw(st.integers(0, SHAPE[0] - 1)), draw(st.integers(0, SHAPE[1] - 1))
        high, wide = (draw(st.integers(3, largest)) for _ in range(2))
        inside = ((rows - y) / high) ** 2 + ((columns - x) / wide) ** 2 <= 1
        if (free & inside).sum() == inside.sum():
            found.append(BoxedMask.from_full(inside))
            grown = ((rows - y) / (high + 3)) ** 2 + ((columns - x) / (wide + 3)) ** 2
            free &= grown > 1
    return found


def seen(
    objects: Sequence[BoxedMask], look: Look, blur: np.random.Generator | None = None
) -> list[Proposal]:
    """What a perfect detector says of a look; with `blur`, outlines vary a little."""
    found = []
    for mask in objects:
        full = mask.to_full()
        if blur is not None:
            full = ndi.shift(full, tuple(blur.integers(-1, 2, 2)), order=0)
        part = np.zeros(SHAPE, bool)
        part[look.rows, look.columns] = full[look.rows, look.columns]
        if part.any():
            cut = BoxedMask.from_full(part)
            score = 0.9 if blur is None else float(blur.uniform(0.5, 1))
            found.append(Proposal(cut, score, cut.deepest, territory=cut))
    return found


def masks(found: Joined) -> list[tuple[int, ...]]:
    """The joined masks, in a form that can be compared."""
    every = [*found.kept, *(group.whole for group in found.groups)]
    return sorted((*p.box, p.area) for p in every)


GRIDS = st.builds(
    lambda side, overlap: LookGrid(SHAPE, side, int(overlap * side)),
    st.integers(70, 300),
    st.floats(0.15, 0.5),
)


@settings(max_examples=30, deadline=None)
@given(discs(), GRIDS)
def test_each_object_is_found_once_and_whole(
    objects: list[BoxedMask], grid: LookGrid
) -> None:
    found = joined({look: seen(objects, look) for look in grid}, grid)
    assert masks(found) == sorted((*mask.box, mask.area) for mask in objects)


@settings(max_examples=30, deadline=None)
@given(discs(30), GRIDS, st.randoms(), st.integers(0, 9))
def test_the_order_of_the_looks_does_not_matter(
    objects: list[BoxedMask], grid: LookGrid, random: st.Random, seed: int
) -> None:
    looks = list(grid)
    blur = np.random.default_rng(seed)
    found = {look: seen(objects, look, blur) for look in looks}
    expected = masks(joined(found, grid))
    random.shuffle(looks)
    assert masks(joined({look: found[look] for look in looks}, grid)) == expected


@settings(max_examples=30, deadline=None)
@given(discs(30), GRIDS, st.integers(0, 9))
def test_outlines_may_differ_between_looks(
    objects: list[BoxedMask], grid: LookGrid, seed: int
) -> None:
    # Outlines differ by up to two pixels, which is much for thin objects: of those with nine rows
    # that are longer than the overlap, a piece may stay.
    objects = [mask for mask in objects if min(mask.mask.shape) > 12]
    blur = np.random.default_rng(seed)
    found = joined({look: seen(objects, look, blur) for look in grid}, grid)
    every = [*found.kept, *(group.whole for group in found.groups)]
    for mask in objects:
        assert sum(each.mask.iou(mask) > 0.4 for each in every) == 1
    # Of objects larger than the overlap, slivers at a border may stay.
    assert sum(each.area for each in every) <= 1.15 * sum(m.area for m in objects)


def test_what_was_found_until_a_search_stops_is_kept() -> None:
    grid = LookGrid(SHAPE, 150, 40)
    looks = list(grid)
    disc = np.zeros(SHAPE, bool)
    disc[20:40, 125:145] = True  # its middle is in the core of the second look
    objects = [BoxedMask.from_full(disc)]
    found = {looks[0]: seen(objects, looks[0])}
    assert masks(joined(found, grid)) == [(125, 20, 144, 39, 400)]
    found[looks[1]] = seen(objects, looks[1])
    assert masks(joined(found, grid)) == [(125, 20, 144, 39, 400)]


def test_objects_on_a_background_stay_apart() -> None:
    """A background that reaches all borders is one object, those on it are others."""
    grid = LookGrid(SHAPE, 150, 40)
    ground = np.ones(SHAPE, bool)
    ground[:4] = False
    long = np.zeros(SHAPE, bool)
    long[50:70, 20:240] = True
    objects = [BoxedMask.from_full(ground), BoxedMask.from_full(long)]
    found = joined({look: seen(objects, look) for look in grid}, grid)
    assert sorted(group.whole.area for group in found.groups) == [
        20 * 220,
        int(ground.sum()),
    ]
