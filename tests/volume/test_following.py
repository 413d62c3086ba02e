"""An object is found in its planes and nowhere else; what the user said stays."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tinysam.masks import BoxedMask
from napari_tinysam.volume.followed import (
    FollowedObject,
    FollowSettings,
    Origin,
    PlaneMask,
)
from napari_tinysam.volume.following import follow
from volume.stack_of_discs import SHAPE, Disc, Stack, disc


def followed(
    stack: Stack,
    *objects: FollowedObject,
    first: int = 0,
    last: int = 0,
    **given: object,
) -> list[tuple[int, dict[int, PlaneMask]]]:
    settings = FollowSettings(**given)  # type: ignore[arg-type]
    last = last or len(stack.discs) - 1
    return list(follow(stack.predictor, stack, objects, first, last, settings))


def test_a_ball_is_followed_to_both_ends() -> None:
    radii = [0, 40, 60, 72, 80, 82, 80, 72, 60, 40, 0, 0, 0]
    stack = Stack([[(400.0, 500.0, r)] if r else [] for r in radii])
    ball = FollowedObject({5: stack.truth(5, 0)})
    said = followed(stack, ball)
    assert sorted(ball.found) == list(range(1, 10))
    for plane, each in ball.found.items():
        assert each.mask.iou(stack.truth(plane, 0)) > 0.95
        assert each.origin is (Origin.ANCHOR if plane == 5 else Origin.FOLLOWED)
    # What was said in the end about a plane is what was found.
    last = dict(said)
    for plane in range(13):
        shown = last.get(plane, {})
        assert set(shown) == ({0} if plane in ball.found else set())
    # Two planes behind each end are looked at, no more.
    assert min(stack.read) == 0
    assert max(stack.read) == 11


def test_an_object_that_moves_is_expected_where_it_is_going() -> None:
    """Its next place does not overlap with the last one, but with the one it moves on to."""
    planes: list[list[Disc]] = [[(100.0 + 70 * i, 500.0, 40.0)] for i in range(10)]
    stack = Stack(planes)
    # Known twice, so that its movement is.
    mover = FollowedObject({0: stack.truth(0, 0), 1: stack.truth(1, 0)})
    followed(stack, mover, moves=True)
    assert sorted(mover.found) == list(range(10))
    assert mover.found[9].mask.iou(stack.truth(9, 0)) > 0.9
    stays = FollowedObject({0: stack.truth(0, 0), 1: stack.truth(1, 0)})
    followed(stack, stays, moves=False)
    assert max(stays.found) < 4


def test_between_anchors_nothing_ends() -> None:
    """The model sees nothing there: the shape between the anchors is taken, and marked."""
    planes: list[list[Disc]] = [[(300.0, 300.0, 60.0)]] + [[] for _ in range(5)]
    planes += [[(340.0, 300.0, 80.0)]]
    stack = Stack(planes)
    known = FollowedObject({0: stack.truth(0, 0), 6: stack.truth(6, 0)})
    followed(stack, known)
    assert sorted(known.found) == list(range(7))
    for plane in range(1, 6):
        each = known.found[plane]
        assert each.origin is Origin.COPIED
        assert each.trust < 0.9
        share = plane / 6
        wanted = disc(300 + 40 * share, 300, 60 + 20 * share)
        assert each.mask.iou(wanted) > 0.9


def test_anchors_are_never_changed() -> None:
    stack = Stack([[(400.0, 400.0, 80.0)] for _ in range(6)])
    drawn = disc(400, 400, 60)  # not what the model would say
    known = FollowedObject({2: drawn, 4: stack.truth(4, 0)})
    followed(stack, known)
    np.testing.assert_array_equal(known.found[2].mask.to_full(), drawn.to_full())
    assert known.found[2].origin is Origin.ANCHOR
    assert sorted(known.found) == list(range(6))


def test_the_range_is_kept() -> None:
    stack = Stack([[(400.0, 400.0, 80.0)] for _ in range(12)])
    known = FollowedObject({5: stack.truth(5, 0)})
    followed(stack, known, first=3, last=8)
    assert sorted(known.found) == list(range(3, 9))
    assert min(stack.read) >= 3
    assert max(stack.read) <= 8


def test_another_object_in_its_place_is_not_taken() -> None:
    """Where it ends, a much larger one begins."""
    planes: list[list[Disc]] = [[(400.0, 400.0, 40.0)] for _ in range(4)]
    planes += [[(430.0, 400.0, 200.0)] for _ in range(4)]
    stack = Stack(planes)
    known = FollowedObject({0: stack.truth(0, 0)})
    followed(stack, known)
    assert all(each.mask.area < 2000 for each in known.found.values())
    assert all(
        each.origin is Origin.COPIED for plane, each in known.found.items() if plane > 3
    )


def test_a_weak_plane_is_bridged() -> None:
    """One plane in which nothing is seen, as out of focus."""
    planes: list[list[Disc]] = [[(400.0, 400.0, 80.0)] for _ in range(8)]
    planes[4] = []
    stack = Stack(planes)
    known = FollowedObject({1: stack.truth(1, 0)})
    followed(stack, known)
    assert sorted(known.found) == list(range(8))
    assert known.found[4].origin is Origin.COPIED
    assert known.found[4].trust < min(known.found[p].trust for p in (3, 5))


def test_several_share_the_planes_and_own_each_pixel_once() -> None:
    planes: list[list[Disc]] = [
        [(300.0, 400.0, 70.0), (460.0 - 12 * i, 400.0, 70.0), (800.0, 800.0, 50.0)]
        for i in range(6)
    ]
    stack = Stack(planes)
    objects = [FollowedObject({0: stack.truth(0, n)}) for n in range(3)]
    followed(stack, *objects)
    for known in objects:
        assert sorted(known.found) == list(range(6))
    for plane in range(1, 6):
        masks = [known.found[plane].mask for known in objects]
        assert masks[0].shared_area(masks[1]) == 0
        both = masks[0].to_full() | masks[1].to_full()
        wanted = stack.truth(plane, 0).to_full() | stack.truth(plane, 1).to_full()
        assert (both & wanted).sum() / (both | wanted).sum() > 0.9
    # Each plane is read once for all of them, and once for the test of kinds.
    assert len(stack.read) <= 6 + 1


def test_what_others_own_is_not_taken() -> None:
    stack = Stack([[(400.0, 400.0, 80.0)] for _ in range(4)])
    known = FollowedObject({0: stack.truth(0, 0)})
    theirs = disc(400, 400, 80).to_full()
    run = follow(
        stack.predictor,
        stack,
        [known],
        0,
        3,
        taken=lambda plane: theirs if plane >= 2 else None,
    )
    list(run)
    assert known.found[1].origin is Origin.FOLLOWED
    assert all(
        each.origin is Origin.COPIED
        for plane, each in known.found.items()
        if plane >= 2
    )


def test_it_can_be_cancelled_at_any_plane() -> None:
    stack = Stack([[(400.0, 400.0, 80.0)] for _ in range(9)])
    known = FollowedObject({4: stack.truth(4, 0)})
    run = follow(stack.predictor, stack, [known], 0, 8)
    for plane, _ in run:
        if plane == 6:
            run.close()  # type: ignore[attr-defined]
            break
    assert sorted(known.found) == [4, 5, 6]


@pytest.mark.parametrize(
    "anchors", [{}, {0: BoxedMask.from_full(np.zeros(SHAPE, bool))}]
)
def test_nothing_to_follow_is_refused(anchors: dict[int, BoxedMask]) -> None:
    with pytest.raises(ValueError, match=r"one plane|not empty"):
        FollowedObject(anchors)


def test_borders_follow_those_of_the_anchors_gradually() -> None:
    """Outlines that are narrower than the model's at one end, and wider at the other."""
    stack = Stack([[(400.0, 500.0, 80.0)] for _ in range(9)])
    ball = FollowedObject({1: disc(400.0, 500.0, 74.0), 7: disc(400.0, 500.0, 86.0)})
    followed(stack, ball)
    assert ball.borders[1] < 0 < ball.borders[7]
    assert ball.border_at(0) == ball.borders[1]
    assert ball.border_at(8) == ball.borders[7]
    assert ball.border_at(4) == pytest.approx(np.mean(list(ball.borders.values())))
    areas = [ball.found[plane].mask.area for plane in range(9)]
    assert areas[0] < areas[4] < areas[8]
    known = [ball.anchors[at].area for at in (1, 7)]
    assert [areas[0], areas[8]] == pytest.approx(known, rel=0.08)


def test_the_models_own_borders_stay_where_the_user_takes_them() -> None:
    stack = Stack([[(400.0, 500.0, 80.0)] for _ in range(4)])
    ball = FollowedObject({1: stack.truth(1, 0)})
    followed(stack, ball)
    assert ball.borders == {1: 0.0}


def test_an_object_of_which_others_take_everything_ends() -> None:
    """A small cell goes into a large one: from there on there is one."""
    planes: list[list[Disc]] = [
        [(500.0, 500.0, 120.0), (760.0 - 90 * at, 500.0, 40.0)][: 2 if at < 2 else 1]
        for at in range(8)
    ]
    stack = Stack(planes)
    large = FollowedObject({0: stack.truth(0, 0)})
    small = FollowedObject({0: stack.truth(0, 1), 1: stack.truth(1, 1)})
    followed(stack, large, small, moves=True)
    assert sorted(large.found) == list(range(8))
    assert set(small.found) < set(range(8))
    assert all(each.mask.area for each in small.found.values())
