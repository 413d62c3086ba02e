"""Which look an object is seen in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_tinysam.inference.looks import Look, is_large
from napari_tinysam.inference.pyramid import (
    COARSEST,
    MOST,
    SMALL,
    LookPyramid,
    Question,
    Seen,
    SeenObject,
    answered,
)
from napari_tinysam.masks import BoxedMask

shapes = st.tuples(st.integers(1, 20_000), st.integers(1, 20_000))


@given(shapes)
def test_a_plane_that_is_not_large_is_one_look(shape: tuple[int, int]) -> None:
    pyramid = LookPyramid.of(shape)
    whole = Look.whole(shape)
    if is_large(shape):
        assert pyramid.sides[0] == 512
        assert pyramid.sides[-1] == min(max(shape), COARSEST)
        assert all(
            b <= 2.6 * a for a, b in zip(pyramid.sides, pyramid.sides[1:], strict=False)
        )
    else:
        assert pyramid.sides == (max(shape),)
        assert pyramid.holding((0, 0, 0, 0), 0) == (0, whole)
    if max(shape) <= COARSEST:
        assert pyramid.holding((0, 0, 0, 0), pyramid.last)[1] == whole


@given(st.data())
def test_prompts_lie_clear_of_the_border(data: st.DataObject) -> None:
    side = data.draw(st.integers(2000, 12_000))
    pyramid = LookPyramid.of((side, side))
    x = sorted(data.draw(st.tuples(*[st.integers(0, side - 1)] * 2)))
    y = sorted(data.draw(st.tuples(*[st.integers(0, side - 1)] * 2)))
    box = (x[0], y[0], x[1], y[1])
    start = data.draw(st.integers(0, pyramid.last))
    level, look = pyramid.holding(box, start)
    assert level >= start
    assert look.clearance(box, pyramid.shape) >= pyramid.sides[level] / 32
    longest = max(x[1] - x[0], y[1] - y[0]) + 1
    if level < pyramid.last:
        assert longest <= MOST * pyramid.sides[level]
    if longest <= 0.4 * pyramid.sides[start]:  # neighbours share half of themselves
        assert level == start


class World:
    """Rectangles on a plane; a look shows the part of them that it holds."""

    def __init__(
        self, shape: tuple[int, int], *objects: tuple[int, int, int, int]
    ) -> None:
        self.shape = shape
        self.objects = objects
        self.asked: list[Look] = []
        self.usual = 0.0
        self.confirmed: Callable[[Look], float] = lambda look: 1.0

    def ask(self, look: Look, numbers: list[int]) -> Seen[int]:
        self.asked.append(look)
        found = []
        confirmed = self.confirmed(look)
        for number in numbers:
            x0, y0, x1, y1 = self.objects[number]
            mask = BoxedMask(
                np.ones((y1 - y0 + 1, x1 - x0 + 1), bool), y0, x0, self.shape
            )
            shown = look.placed(look.cut(mask).trimmed(), self.shape)
            found.append(SeenObject(number, shown, confirmed))
        return Seen(found, self.usual)


@given(st.data())
def test_objects_are_seen_whole_and_large_enough(data: st.DataObject) -> None:
    side = data.draw(st.sampled_from([2048, 5000, 9000]))
    pyramid = LookPyramid.of((side, side))
    size = data.draw(st.integers(4, side // 2))
    x0, y0 = (data.draw(st.integers(0, side - size)) for _ in range(2))
    world = World(pyramid.shape, (x0, y0, x0 + size - 1, y0 + size - 1))
    x, y = (data.draw(st.integers(at, at + size - 1)) for at in (x0, y0))
    question = Question((x, y, x, y), data.draw(st.integers(0, pyramid.last)))
    (answer,) = answered(pyramid, [question], world.ask)
    assert answer.settled
    assert answer.look.clearance(world.objects[0], pyramid.shape) > 0
    assert len(world.asked) == len(set(world.asked))
    if answer.level:
        assert size > SMALL * pyramid.scale(answer.level - 1) * 0.49


def test_a_tiny_mask_may_be_of_many_objects() -> None:
    """Where the object head sees tiny objects, a large answer is not believed."""
    world = World((6000, 6000), (1000, 1000, 1019, 1019))
    world.usual = 20.0
    pyramid = LookPyramid.of(world.shape)
    (answer,) = answered(pyramid, [Question((1010, 1010, 1010, 1010), 3)], world.ask)
    assert [max(look.size) for look in world.asked] == [4096, 512]
    assert answer.level == 0


def test_once_the_user_has_seen_a_mask_it_is_not_looked_at_more_closely() -> None:
    world = World((6000, 6000), (1000, 1000, 1019, 1019))
    pyramid = LookPyramid.of(world.shape)
    question = Question((1010, 1010, 1010, 1010), 3, fresh=False)
    (answer,) = answered(pyramid, [question], world.ask)
    assert answer.level == 3


def test_a_hover_waits_for_no_other_look() -> None:
    world = World((6000, 6000), (700, 700, 1500, 1500))
    pyramid = LookPyramid.of(world.shape)
    question = Question((720, 720, 720, 720), 0)
    (answer,) = answered(pyramid, [question], world.ask, lambda look: False)
    assert len(world.asked) == 1
    assert not answer.settled


def test_objects_in_one_look_are_asked_about_together() -> None:
    world = World((6000, 6000), (100, 100, 150, 150), (200, 200, 240, 240))
    pyramid = LookPyramid.of(world.shape)
    questions = [Question((x, x, x, x), 0) for x in (120, 220)]
    answers = answered(pyramid, questions, world.ask)
    assert [answer.found for answer in answers] == [0, 1]
    assert len(world.asked) == 1


@pytest.mark.parametrize(("shown", "side"), [(300, 512), (1024, 512), (3000, 2048)])
def test_the_zoom_chooses_the_level(shown: int, side: int) -> None:
    pyramid = LookPyramid.of((8192, 8192))
    assert pyramid.sides[pyramid.showing(shown)] == side


def test_a_doubtful_mask_from_afar_is_checked_at_the_planes_own_resolution() -> None:
    """The model takes a field of small objects for one; a closer look shows one of them."""
    world = World((6000, 6000), (1000, 1000, 1039, 1039))
    world.confirmed = lambda look: 0.9 if look.scale <= 1 else 0.1
    pyramid = LookPyramid.of(world.shape)
    (answer,) = answered(pyramid, [Question((1010, 1010, 1010, 1010), 3)], world.ask)
    assert [max(look.size) for look in world.asked] == [4096, 1024]
    assert answer.level == pyramid.own
    assert answer.settled


@pytest.mark.parametrize("closely", [0.0, 0.2])
def test_the_more_certain_of_two_doubtful_masks_is_taken(closely: float) -> None:
    world = World((6000, 6000), (1000, 1000, 1339, 1339))
    world.confirmed = lambda look: closely if look.scale <= 1 else 0.1
    pyramid = LookPyramid.of(world.shape)
    (answer,) = answered(pyramid, [Question((1010, 1010, 1010, 1010), 3)], world.ask)
    assert answer.level == (pyramid.own if closely else 3)
    assert len(world.asked) == 2


def test_an_object_larger_than_the_closer_look_is_taken_from_afar() -> None:
    """A part of it fills the closer look, and the object maps may confirm that."""
    world = World((6000, 6000), (1000, 1000, 3500, 3500))
    world.confirmed = lambda look: 0.9 if look.scale <= 1 else 0.5
    pyramid = LookPyramid.of(world.shape)
    question = Question((2010, 2010, 2010, 2010), pyramid.last)
    (answer,) = answered(pyramid, [question], world.ask)
    assert answer.level == pyramid.last
    assert [max(look.size) for look in world.asked] == [6000, 1024]


def test_a_confirmed_object_is_looked_at_once() -> None:
    world = World((6000, 6000), (1000, 1000, 3500, 3500))
    world.usual = 20.0  # most others are tiny
    pyramid = LookPyramid.of(world.shape)
    question = Question((2010, 2010, 2010, 2010), pyramid.last)
    (answer,) = answered(pyramid, [question], world.ask)
    assert answer.level == pyramid.last
    assert len(world.asked) == 1


def test_a_hover_waits_for_no_check() -> None:
    world = World((6000, 6000), (1000, 1000, 1039, 1039))
    world.confirmed = lambda look: 0.1
    pyramid = LookPyramid.of(world.shape)
    question = Question((1010, 1010, 1010, 1010), 3)
    (answer,) = answered(pyramid, [question], world.ask, lambda look: False)
    assert len(world.asked) == 1
    assert not answer.settled


@given(st.data())
def test_a_box_is_seen_where_objects_of_its_size_are_seen_well(
    data: st.DataObject,
) -> None:
    pyramid = LookPyramid.of((9000, 9000))
    size = data.draw(st.integers(4, 4000))
    x0, y0 = (data.draw(st.integers(0, 9000 - size)) for _ in range(2))
    box = (x0, y0, x0 + size - 1, y0 + size - 1)
    world = World(pyramid.shape, box)
    level = data.draw(st.integers(0, pyramid.last))
    (answer,) = answered(pyramid, [Question(box, level, sized=True)], world.ask)
    assert len(world.asked) <= 2
    assert answer.level == 0 or size >= SMALL * pyramid.scale(answer.level - 1) * 0.5
    assert answer.level <= max(level, pyramid.fitting(size, 0) + 1)


@pytest.mark.parametrize(("confirmed", "side"), [(0.2, 6000), (0.5, 1024)])
def test_without_a_zoom_what_is_not_seen_closely_is_looked_for_from_afar(
    confirmed: float, side: int
) -> None:
    """Inside a large object the model sees some texture, which the object maps do not confirm."""
    world = World((6000, 6000), (900, 900, 5000, 5000))
    part = World((6000, 6000), (1000, 1000, 1100, 1100))
    part.confirmed = lambda look: confirmed

    def ask(look: Look, numbers: list[int]) -> Seen[int]:
        return (part if look.scale <= 1 else world).ask(look, numbers)

    pyramid = LookPyramid.of(world.shape)
    question = Question((1010, 1010, 1010, 1010), pyramid.own, any_size=True)
    (answer,) = answered(pyramid, [question], ask)
    assert max(answer.look.size) == side
    assert len(world.asked) == (side == 6000)


@pytest.mark.parametrize(
    ("size", "looks"), [(20, [4096, 1024]), (12, [4096, 1024, 512])]
)
def test_after_the_check_only_tiny_objects_are_looked_at_once_more(
    size: int, looks: list[int]
) -> None:
    last = 999 + size
    world = World((6000, 6000), (1000, 1000, last, last))
    world.confirmed = lambda look: 0.9 if look.scale <= 1 else 0.1
    pyramid = LookPyramid.of(world.shape)
    answered(pyramid, [Question((1005, 1005, 1005, 1005), 3)], world.ask)
    assert [max(look.size) for look in world.asked] == looks
