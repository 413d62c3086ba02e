"""Objects of planes become objects of the stack, whatever they are called in each plane."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tinysam.volume.assignment import best_pairs
from napari_tinysam.volume.linking import LinkSettings, link, linked_stack
from napari_tinysam.volume.overlaps import PlaneOverlaps
from volume.ties import by_first_pixel, is_toss_up

#: A row of places for objects, far from each other.
SIZE = (40, 200)


def plane(*objects: tuple[int, float, float, float]) -> np.ndarray:
    """Discs: label, y, x, radius."""
    labels = np.zeros(SIZE, np.int32)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    for label, cy, cx, radius in objects:
        labels[np.hypot(y - cy, x - cx) <= radius] = label
    return labels


def linked(planes: list[np.ndarray], **given: float) -> np.ndarray:
    """Labels of the stack, (Z, H, W)."""
    return linked_stack(np.stack(planes), LinkSettings(**given))  # type: ignore[arg-type]


def at(stack: np.ndarray, y: int = 20, x: int = 20) -> list[int]:
    return stack[:, y, x].tolist()


def test_what_overlaps_is_one_object() -> None:
    planes = [plane((7, 20, 20 + i, 8), (90 - i, 20, 100, 9)) for i in range(5)]
    stack = linked(planes)
    assert at(stack, x=22) == [1] * 5
    assert at(stack, x=100) == [2] * 5
    for before, after in zip(planes, stack, strict=True):
        np.testing.assert_array_equal(before > 0, after > 0)


def test_what_hardly_overlaps_is_another_object() -> None:
    planes = [plane((1, 20, 20, 8)), plane((1, 20, 30, 8))] * 2
    assert linked(planes, overlap=0.5, gap=0, least_planes=1).max() == 4
    # With a gap, every second plane shows the same place.
    assert linked(planes, overlap=0.5, gap=1, least_planes=1).max() == 2
    assert linked(planes, overlap=0.05, least_planes=1).max() == 1


def test_the_better_partner_is_taken() -> None:
    """Both overlap the object before; the sum of IoU decides, not the order."""
    planes = [plane((5, 20, 20, 9)), plane((1, 20, 11, 8), (2, 20, 23, 8))]
    stack = linked(planes, overlap=0.05, least_planes=1)
    assert stack[1, 20, 25] == stack[0, 20, 20] != stack[1, 20, 8]


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_gaps(missing: int) -> None:
    planes = [
        plane((1, 20, 20, 8)),
        *[plane((3, 20, 100, 5))] * missing,
        plane((2, 20, 21, 8)),
    ]
    for gap in range(4):
        stack = linked(planes, gap=gap, least_planes=1)
        assert (stack[0, 20, 20] == stack[-1, 20, 20]) == (gap >= missing)
    assert linked(planes, gap=3, gap_overlap=0.99, least_planes=1).max() == 3


def test_an_object_with_a_neighbour_after_it_is_not_bridged() -> None:
    """A gap joins ends of objects, never an end and the middle of another."""
    planes = [plane((1, 20, 20, 8))] * 4
    assert linked(planes, gap=3).max() == 1
    assert at(linked(planes, gap=3)) == [1, 1, 1, 1]


def test_short_objects_are_left_out() -> None:
    planes = [plane((1, 20, 20, 8), (2, 20, 100, 8)), plane((1, 20, 20, 8))]
    stack = linked(planes, least_planes=2)
    assert stack.max() == 1
    assert not stack[:, :, 60:].any()
    assert linked(planes, least_planes=1).max() == 2
    assert linked(planes, least_planes=3).max() == 0


def test_tips_belong_to_the_object() -> None:
    sizes = (3, 8, 9, 8, 3)  # the outermost overlap by a seventh
    planes = [plane((1, 20, 20, size)) for size in sizes]
    assert at(linked(planes)) == [1] * 5
    assert at(linked(planes, tips=1)) == [0, 1, 1, 1, 0]
    # Beside the end, or larger than it, is another object.
    planes[0], planes[4] = plane((1, 20, 29, 3)), plane((1, 20, 20, 30))
    assert at(linked(planes, least_planes=1)) == [0, 2, 2, 2, 3]


def test_two_that_touch_in_a_plane_stay_two() -> None:
    """One plane shows them as one piece, which then belongs to neither."""
    apart = plane((1, 20, 30, 7), (2, 20, 42, 11))
    piece = (apart > 0).astype(np.int32)
    stack = linked([apart, apart, piece, apart], gap=1, least_planes=1)
    left = at(stack, x=26)
    assert left[0] == left[1] == left[3] != left[2]
    right = at(stack, x=48)
    assert right[0] == right[1]
    assert left[0] != right[0]


def test_planes_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        PlaneOverlaps.of([np.zeros((4, 4), int), np.zeros((4, 5), int)])


@pytest.mark.parametrize("planes", [[], [np.zeros(SIZE, int)], [plane((1, 9, 9, 5))]])
def test_nothing_to_link(planes: list[np.ndarray]) -> None:
    found = link(PlaneOverlaps.of(planes))
    assert found.count == 0
    assert link(PlaneOverlaps.of(planes), LinkSettings(least_planes=1)).count == sum(
        bool(each.any()) for each in planes
    )


def test_large_labels_and_gaps_in_them() -> None:
    planes = [
        plane((1, 20, 20, 8)).astype(np.uint64) * np.uint64(2**60),
        plane((1, 20, 20, 8), (2, 20, 100, 8)).astype(np.uint64) * np.uint64(2**55),
    ]
    stack = linked(planes, least_planes=1)
    assert at(stack) == [1, 1]
    assert stack[1, 20, 100] == 2


def test_spans() -> None:
    planes = [plane((1, 20, 20, 8)), plane((1, 20, 20, 8), (2, 20, 100, 8))] * 2
    found = link(PlaneOverlaps.of(planes), LinkSettings(least_planes=1, gap=0))
    assert found.spans().tolist() == [[0, 3], [1, 1], [3, 3]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"overlap": 0},
        {"gap": 9},
        {"least_planes": 0},
        {"growth": 0.5},
        {"tips": 0},
    ],
)
def test_settings_that_say_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LinkSettings(**wrong)  # type: ignore[arg-type]


stacks = st.integers(0, 2**32).map(
    lambda seed: np.random.default_rng(seed).integers(0, 4, (5, 4, 9), np.int32)
)


@given(stack=stacks, seed=st.integers(0, 2**32), gap=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_names_within_planes_do_not_matter(
    stack: np.ndarray, seed: int, gap: int
) -> None:
    """Each object of the stack is the same set of pixels, wherever overlaps tell objects apart."""
    rng = np.random.default_rng(seed)
    renamed = np.stack(
        [np.concatenate([[0], rng.permutation(9)[:3] + 1])[each] for each in stack]
    )
    given = LinkSettings(overlap=0.2, gap=gap, gap_overlap=0.3, least_planes=1)
    found = [link(PlaneOverlaps.of(list(each)), given) for each in (stack, renamed)]
    every = []
    for each, links in zip((stack, renamed), found, strict=True):
        out = np.stack([links.relabelled(i, p) for i, p in enumerate(each)])
        every.append(by_first_pixel(out))
        np.testing.assert_array_equal(out > 0, each > 0)
        for number, ids in enumerate(links.objects):
            assert len(set(ids.tolist())) == len(ids), number  # one place in a plane
    if not is_toss_up(stack, given.overlap, given.tips):
        np.testing.assert_array_equal(*every)


@given(stack=stacks)
@settings(max_examples=40, deadline=None)
def test_higher_demands_never_join_more(stack: np.ndarray) -> None:
    overlaps = PlaneOverlaps.of(list(stack))
    counts = [
        link(overlaps, LinkSettings(overlap=least, gap=0, least_planes=1)).count
        for least in (0.05, 0.2, 0.4, 0.7, 1.0)
    ]
    assert counts == sorted(counts)


pairs = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 100)),
    max_size=7,
    unique_by=lambda pair: pair[:2],
)


@given(pairs=pairs)
@settings(max_examples=200, deadline=None)
def test_no_choice_of_pairs_has_a_larger_sum(
    pairs: list[tuple[int, int, int]],
) -> None:
    rows, columns, worth = np.array(pairs, np.intp).reshape(-1, 3).T
    chosen = best_pairs(rows, columns, worth.astype(float))
    assert len(set(rows[chosen].tolist())) == len(chosen)
    assert len(set(columns[chosen].tolist())) == len(chosen)
    best = 0
    for size in range(1, 5):
        for some in itertools.combinations(pairs, size):
            one, other = [p[0] for p in some], [p[1] for p in some]
            if len(set(one)) == len(set(other)) == size:
                best = max(best, sum(p[2] for p in some))
    assert worth[chosen].sum() == best
