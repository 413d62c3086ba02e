"""The side of the tiles is chosen by what is found in a few places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_tinysam.everything import LabelSettings, Proposal, Proposals, tiles
from napari_tinysam.everything.scale import ScaleChoice
from napari_tinysam.frame import FRAME
from napari_tinysam.inference.looks import Look
from napari_tinysam.masks import BoxedMask

SHAPE = (6000, 6000)
WHOLE = Look.whole(SHAPE)


class Model:
    """Sees discs on a lattice; small ones only where they are enlarged enough."""

    def __init__(self, step: int, size: int, least: float, score: float = 0.8) -> None:
        self.step, self.size, self.least, self.score = step, size, least, score
        self.looks: list[Look] = []

    def search(self, look: Look) -> Proposals:
        self.looks.append(look)
        found = []
        seen = self.size / look.scale
        rng = np.random.default_rng(look)
        for y in range(look.y0 // self.step * self.step, look.y1, self.step):
            for x in range(look.x0 // self.step * self.step, look.x1, self.step):
                y0, x0 = max(y, look.y0) - look.y0, max(x, look.x0) - look.x0
                y1 = min(y + self.size, look.y1) - look.y0
                x1 = min(x + self.size, look.x1) - look.x0
                if y1 <= y0 or x1 <= x0 or rng.random() > min(1.0, seen / self.least):
                    continue
                mask = BoxedMask(np.ones((y1 - y0, x1 - x0), bool), y0, x0, look.size)
                middle = (x0 + x1) / 2, (y0 + y1) / 2
                found.append(Proposal(mask, self.score, middle))
        return Proposals(found, look.size)


def chosen(model: Model, part: Look = WHOLE) -> int:
    choice = ScaleChoice(tiles(SHAPE), part, LabelSettings())
    for grid, looks in choice:
        for look in looks:
            assert look in set(grid)
            found = model.search(look)
            choice.take(look, [each.moved(look.y0, look.x0, SHAPE) for each in found])
    return choice.grid.side


@pytest.mark.parametrize(
    ("size", "least", "side"),
    [
        (20, 16, FRAME),  # seen as they are
        (20, 36, FRAME // 2),
        (10, 36, FRAME // 4),
        (5, 80, FRAME // 4),  # not smaller
    ],
)
def test_tiles_are_as_small_as_the_objects_need(
    size: int, least: float, side: int
) -> None:
    assert chosen(Model(3 * size, size, least)) == side


@pytest.mark.parametrize(("size", "side"), [(700, 2048), (1900, 4096), (5000, 6000)])
def test_large_objects_are_seen_from_further_away(size: int, side: int) -> None:
    found = chosen(Model(size + 50, size, 1))
    assert min(found, max(SHAPE)) == side


def test_smaller_tiles_are_not_taken_where_the_model_is_less_sure() -> None:
    model = Model(60, 20, 36)
    before = model.search

    def less_sure(look: Look) -> Proposals:
        model.score = 0.8 if max(look.size) == FRAME else 0.75
        return before(look)

    model.search = less_sure  # type: ignore[method-assign]
    assert chosen(model) == FRAME


@pytest.mark.parametrize(("closer", "side"), [(0.85, FRAME // 2), (0.81, FRAME)])
def test_smaller_tiles_are_taken_where_the_model_is_surer_of_the_same_objects(
    closer: float, side: int
) -> None:
    model = Model(60, 20, 1)
    before = model.search

    def surer(look: Look) -> Proposals:
        model.score = 0.8 if max(look.size) == FRAME else closer
        return before(look)

    model.search = surer  # type: ignore[method-assign]
    assert chosen(model) == side


def test_the_second_step_is_refused_by_the_middles_where_little_is_gained() -> None:
    model = Model(60, 20, 1)
    before = model.search

    def surer(look: Look) -> Proposals:
        # A tenth more in tiles of half the side is unclear, in those of a quarter it is too little.
        scores = {FRAME: 0.7, FRAME // 2: 0.75, FRAME // 4: 0.76}
        model.score = scores[max(look.size)]
        return before(look)

    model.search = surer  # type: ignore[method-assign]
    assert chosen(model) == FRAME // 2
    sides = [max(look.size) for look in model.looks]
    assert sides.count(FRAME // 4) == 4
    assert sides.count(FRAME // 2) > 4


def test_where_few_objects_are_seen_all_of_the_places_is_looked_at() -> None:
    looks = []
    for step in (60, 400):
        model = Model(step, 20, 16)
        before = model.search

        def less_sure(
            look: Look, model: Model = model, search: Any = before
        ) -> Proposals:
            model.score = 0.8 if max(look.size) == FRAME else 0.7
            return search(look)

        model.search = less_sure  # type: ignore[method-assign]
        assert chosen(model) == FRAME
        looks.append(len(model.looks))
    assert looks[0] == 8  # the tiles and their middles tell enough
    assert looks[1] > 16


def test_pieces_are_not_taken_for_objects_that_were_missed() -> None:
    model = Model(60, 20, 16)
    before = model.search

    def in_pieces(look: Look) -> Proposals:
        whole = before(look)
        if max(look.size) == FRAME:
            return whole
        found = []
        for number in range(len(whole)):
            x0, y0, x1, y1 = whole[number].box
            for y, x in ((y0, x0), ((y0 + y1) // 2, (x0 + x1) // 2)):
                mask = BoxedMask(np.ones((10, 10), bool), y, x, look.size)
                found.append(Proposal(mask, 0.9, (x + 5, y + 5)))
        return Proposals([each for n, each in enumerate(found) if n % 4], look.size)

    model.search = in_pieces  # type: ignore[method-assign]
    assert chosen(model) == FRAME


def test_it_looks_at_few_places_of_the_part_and_always_the_same() -> None:
    part = Look(3000, 3000, 6000, 6000)
    model, again = Model(60, 20, 16), Model(60, 20, 16)
    assert chosen(model, part) == chosen(again, part) == FRAME
    assert model.looks == again.looks
    assert len(model.looks) <= 4 + 4 * 9  # four tiles, and all that show them closer
    assert all(look.y1 > part.y0 and look.x1 > part.x0 for look in model.looks)


def test_an_empty_plane_is_not_looked_at_for_long() -> None:
    model = Model(10**6, 1, 1)
    model.search = lambda look: Proposals([], look.size)  # type: ignore[method-assign]
    assert chosen(model) == FRAME
