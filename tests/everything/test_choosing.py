"""From proposals to labels: the rules of `napari_tinysam.everything.choosing`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from napari_tinysam.everything import (
    LabelSettings,
    Proposal,
    Proposals,
    label_proposals,
)
from napari_tinysam.everything.choosing import NESTED, chosen_proposals
from napari_tinysam.labels import draw_mask
from napari_tinysam.masks import BoxedMask

SHAPE = (40, 50)
ALL = LabelSettings(confidence=0.0)


def box(
    x0: int, y0: int, x1: int, y1: int, score: float = 0.9, own: BoxedMask | None = None
) -> Proposal:
    """A rectangle, its end exclusive."""
    mask = np.ones((y1 - y0, x1 - x0), bool)
    boxed = BoxedMask(mask, y0, x0, SHAPE)
    return Proposal(boxed, score, (x0, y0), territory=own)


def disc(x: float, y: float, radius: float, score: float) -> Proposal:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    inside = np.hypot(rows - y, columns - x) <= radius
    return Proposal(BoxedMask.from_full(inside), score, (x, y))


def kept(proposals: Proposals, **changes: float) -> list[tuple[int, int, int, int]]:
    """Boxes of what is drawn."""
    found = label_proposals(proposals, replace(ALL, **changes))
    return [proposals[number].box for number in found.numbers]


def test_labels_are_the_masks_the_best_first() -> None:
    proposals = Proposals(
        [box(0, 0, 5, 5, 0.6), box(20, 20, 30, 25, 0.9), box(10, 0, 12, 2, 0.7)], SHAPE
    )
    found = label_proposals(proposals, ALL)
    expected = np.zeros(SHAPE, np.int32)
    expected[20:25, 20:30], expected[0:2, 10:12], expected[0:5, 0:5] = 1, 2, 3
    np.testing.assert_array_equal(found.labels, expected)
    assert found.labels.dtype == np.int32


def test_confidence_and_size_leave_out() -> None:
    proposals = Proposals(
        [box(0, 0, 5, 5, 0.6), box(20, 20, 30, 25, 0.9), box(10, 0, 12, 2, 0.7)], SHAPE
    )
    assert kept(proposals, confidence=0.7) == [(20, 20, 29, 24), (10, 0, 11, 1)]
    assert kept(proposals, least_area=5) == [(20, 20, 29, 24), (0, 0, 4, 4)]
    assert kept(proposals, largest_area=25) == [(10, 0, 11, 1), (0, 0, 4, 4)]


def test_of_two_that_are_one_the_better_stays_whatever_the_confidence() -> None:
    proposals = Proposals([box(0, 0, 10, 10, 0.8), box(0, 0, 10, 9, 0.9)], SHAPE)
    assert kept(proposals) == [(0, 0, 9, 8)]
    assert kept(proposals, same=0.95, parts=0) == [(0, 0, 9, 9)]


def whole_and_parts(whole: float, *parts: float) -> Proposals:
    """A square of 20, and in its corners squares of 10."""
    corners = [(0, 0), (10, 0), (0, 10), (10, 10)]
    inside = [
        box(x, y, x + 10, y + 10, score)
        for (x, y), score in zip(corners, parts, strict=False)
    ]
    return Proposals([box(0, 0, 20, 20, whole), *inside], SHAPE)


def test_whole_or_parts_is_the_users_choice() -> None:
    proposals = whole_and_parts(0.8, 0.7, 0.75, 0.7, 0.75)
    assert len(kept(proposals, parts=0)) == 1
    assert len(kept(proposals, parts=1)) == 4
    # In between the scores decide: the parts' mean is below the whole's.
    assert len(kept(proposals, parts=0.5)) == 1
    better = whole_and_parts(0.7, 0.8, 0.85, 0.8, 0.85)
    assert len(kept(better, parts=0.5)) == 4
    # Parts that make up half of it only are no reason to give up the whole.
    assert len(kept(whole_and_parts(0.7, 0.9, 0.9), parts=0.5)) == 1


def test_parts_of_parts() -> None:
    proposals = Proposals(
        [box(0, 0, 20, 20, 0.8), box(0, 0, 15, 15, 0.7), box(0, 0, 7, 7, 0.6)], SHAPE
    )
    assert kept(proposals, parts=0) == [(0, 0, 19, 19)]
    assert kept(proposals, parts=0.5) == [(0, 0, 19, 19)]
    again = Proposals(
        [box(0, 0, 20, 20, 0.4), box(0, 0, 15, 15, 0.5), box(0, 0, 7, 7, 0.9)], SHAPE
    )
    assert kept(again, parts=1) == [(0, 0, 6, 6)]


def test_what_is_taken_stays_taken() -> None:
    proposals = Proposals([box(0, 0, 10, 10, 0.9), box(5, 0, 15, 10, 0.8)], SHAPE)
    found = label_proposals(proposals, ALL)
    assert np.count_nonzero(found.labels == 1) == 100
    assert np.count_nonzero(found.labels == 2) == 50
    assert kept(proposals, overlap=0.4) == [(0, 0, 9, 9)]

    taken = np.zeros(SHAPE, bool)
    taken[:, :8] = True
    found = label_proposals(proposals, ALL, taken=taken)
    assert not found.labels[taken].any()
    # The first is left with a fifth of its pixels, the second with seven tenths.
    assert [proposals[n].box for n in found.numbers] == [(5, 0, 14, 9)]


def test_touching_objects_part_where_the_head_parts_them() -> None:
    left, right = box(0, 0, 8, 10).mask, box(8, 0, 20, 10).mask
    pair = [box(0, 0, 11, 10, 0.9, left), box(6, 0, 20, 10, 0.8, right)]
    found = label_proposals(Proposals(pair, SHAPE), ALL)
    expected = np.zeros(SHAPE, np.int32)
    expected[:10, :8], expected[:10, 8:20] = 1, 2
    np.testing.assert_array_equal(found.labels, expected)


def test_objects_are_connected_unless_asked_otherwise() -> None:
    mask = np.zeros((3, 9), bool)
    mask[:, :5], mask[:, 7:] = True, True
    proposals = Proposals([Proposal(BoxedMask(mask, 0, 0, SHAPE), 0.9, (0, 0))], SHAPE)
    assert np.count_nonzero(label_proposals(proposals, ALL).labels) == 15
    both = replace(ALL, connected=False)
    assert np.count_nonzero(label_proposals(proposals, both).labels) == 21


def test_rejected_ones_make_room() -> None:
    proposals = Proposals([box(0, 0, 10, 10, 0.9), box(0, 0, 10, 9, 0.8)], SHAPE)
    found = label_proposals(proposals, ALL, without=frozenset({0}))
    assert found.numbers == [1]


def test_no_proposals_are_no_objects() -> None:
    empty = Proposal(BoxedMask(np.zeros((0, 0), bool), 0, 0, SHAPE), 0.9, (0, 0))
    for proposals in (Proposals([], SHAPE), Proposals([empty], SHAPE)):
        found = label_proposals(proposals)
        assert not found.labels.any()
        assert found.labels.shape == SHAPE
        assert found.numbers == []
        assert proposals.at(3, 3, []) is None


def test_the_smallest_under_the_cursor() -> None:
    proposals = whole_and_parts(0.9, 0.8)
    assert proposals[proposals.at(3, 3, [0, 1]) or 0].area == 100
    assert proposals.at(15, 15, [0, 1]) == 0
    assert proposals.at(3, 3, [0]) == 0
    assert proposals.at(30, 30, [0, 1]) is None


@pytest.mark.parametrize(
    "wrong",
    [{"confidence": 1.5}, {"parts": -0.1}, {"least_area": 5, "largest_area": 4}],
)
def test_settings_outside_their_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"between|above"):
        LabelSettings(**wrong)


discs = st.builds(
    disc,
    st.floats(0, SHAPE[1]),
    st.floats(0, SHAPE[0]),
    st.floats(1.5, 14),
    st.floats(0.05, 1),
)
wishes = st.builds(
    LabelSettings,
    confidence=st.floats(0, 0.8),
    overlap=st.floats(0, 1),
    parts=st.floats(0, 1),
    same=st.floats(0.3, 1),
)


@settings(deadline=None, max_examples=60)
@example(  # one that two hold, neither of which holds the other
    members=[disc(0, 0, 2, 1), disc(0, 2, 10, 1), disc(6, 0, 8, 0.5)],
    wish=LabelSettings(confidence=0, overlap=0, parts=1, same=1),
)
@given(st.lists(discs, max_size=12), wishes)
def test_labels_keep_the_promises(members: list[Proposal], wish: LabelSettings) -> None:
    proposals = Proposals(members, SHAPE)
    found = label_proposals(proposals, wish)
    present = np.unique(found.labels[found.labels > 0])
    np.testing.assert_array_equal(present, np.arange(1, len(found.numbers) + 1))
    for label, number in enumerate(found.numbers, start=1):
        proposal = proposals[number]
        drawn = found.labels == label
        assert proposal.score >= wish.confidence
        assert not (drawn & ~proposal.mask.to_full()).any()
        assert ndi.label(drawn, np.ones((3, 3)))[1] == 1
    chosen = chosen_proposals(proposals, wish)
    for i, better in enumerate(chosen):
        for worse in chosen[i + 1 :]:
            a, b = proposals[better].mask.to_full(), proposals[worse].mask.to_full()
            common = np.count_nonzero(a & b)
            assert common <= wish.same * np.count_nonzero(a | b)
            assert common < NESTED * min(a.sum(), b.sum())


@settings(deadline=None, max_examples=40)
@given(st.lists(discs, max_size=12), st.integers(0, 10))
def test_the_order_of_proposals_does_not_matter(
    members: list[Proposal], seed: int
) -> None:
    scores = [p.score for p in members]
    if len(set(scores)) < len(scores):
        return
    shuffled = [
        members[i] for i in np.random.default_rng(seed).permutation(len(members))
    ]
    one, other = (
        label_proposals(Proposals(p, SHAPE), ALL) for p in (members, shuffled)
    )
    np.testing.assert_array_equal(one.labels, other.labels)


@st.composite
def with_territory(draw: st.DrawFn) -> Proposal:
    proposal = draw(discs)
    if draw(st.booleans()):
        return proposal
    return replace(proposal, territory=draw(discs).mask)


@settings(deadline=None, max_examples=100)
@given(st.lists(with_territory(), max_size=12), wishes, st.booleans(), discs)
def test_pixels_are_shared_as_if_drawn_one_after_the_other(
    members: list[Proposal], wish: LabelSettings, connected: bool, object_: Proposal
) -> None:
    proposals = Proposals(members, SHAPE)
    wish = replace(wish, connected=connected)
    taken = object_.mask.to_full()
    drawn = np.zeros(SHAPE, np.int32)
    drawn[taken] = -1
    for number in chosen_proposals(proposals, wish):
        mask, own = proposals[number].mask, proposals[number].territory
        draw_mask(
            drawn,
            mask,
            number + 1,
            least_share=1 - wish.overlap,
            own=None if own is None else own.within(mask.slices),
        )
    found = label_proposals(proposals, wish, taken=taken)
    expected = [each - 1 for each in np.unique(drawn[drawn > 0]).tolist()]
    assert found.numbers == expected
    for label, number in enumerate(found.numbers, start=1):
        pieces, count = ndi.label(drawn == number + 1, np.ones((3, 3)))
        sizes = np.bincount(pieces.ravel())[1:]
        if connected and count > 1:
            assert np.count_nonzero(found.labels == label) == sizes.max()
            assert (pieces[found.labels == label] > 0).all()
        else:
            np.testing.assert_array_equal(found.labels == label, pieces > 0)
