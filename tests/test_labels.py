"""Masks to labels: `napari_tinysam.labels` against plain rules, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_tinysam.labels import Overlap, draw_mask, object_masks, renumbered
from napari_tinysam.masks import BoxedMask, bounding_slices

SHAPE = (9, 11)
NEW = 7

label_images = arrays(np.int32, SHAPE, elements=st.integers(-1, 3))
masks = arrays(np.bool_, SHAPE)
quick = settings(deadline=None, max_examples=150)


def pixels(mask: np.ndarray) -> set[tuple[int, int]]:
    return set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True))


def depth(shape: set[tuple[int, int]]) -> float:
    """Largest distance of a pixel to one outside."""
    around = [(y, x) for y in range(-1, 10) for x in range(-1, 12)]
    outside = [at for at in around if at not in shape]
    return max(min(np.hypot(y - v, x - u) for v, u in outside) for y, x in shape)


@quick
@given(
    label_images,
    masks,
    st.sampled_from(list(Overlap)),
    st.sampled_from([NEW, 2]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.one_of(st.none(), masks),
)
def test_a_mask_gets_what_the_rule_gives_it(
    labels: np.ndarray,
    mask: np.ndarray,
    overlap: Overlap,
    label: int,
    least_share: float,
    own: np.ndarray | None,
) -> None:
    boxed = BoxedMask.from_full(mask)
    wanted = pixels(mask)
    got = {
        at
        for at in wanted
        if overlap is Overlap.REPLACE
        or labels[at] in (0, label)
        or (own is not None and own[at] and labels[at] > 0)
    }
    if len(got) < least_share * len(wanted):
        got = set()
    if overlap is Overlap.NEVER and got and got != wanted:
        enough = 4 * len(got) >= len(wanted) and depth(got) >= 0.35 * depth(wanted)
        got = got if enough else set()
    expected = labels.copy()
    for at in got:
        expected[at] = label

    cut = None if own is None else own[boxed.slices]
    count = draw_mask(labels, boxed, label, overlap, least_share=least_share, own=cut)
    assert count == len(got)
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(
    ("overlap", "drawn"),
    [(Overlap.NEVER, 0), (Overlap.FREE, 13), (Overlap.REPLACE, 49)],
)
def test_a_corner_that_others_leave_is_an_object_or_not(
    overlap: Overlap, drawn: int
) -> None:
    labels = np.zeros((20, 20), np.uint16)
    labels[1:7, 1:7] = 3
    mask = BoxedMask(np.ones((7, 7), bool), 0, 0, (20, 20)).moved(1, 1, (20, 20))
    assert draw_mask(labels, mask, NEW, overlap) == drawn
    assert np.count_nonzero(labels == NEW) == drawn
    assert np.count_nonzero(labels == 3) == (0 if overlap is Overlap.REPLACE else 36)


@quick
@given(st.lists(masks, max_size=4), st.integers(-3, 4), st.integers(-3, 4))
def test_a_window_is_drawn_as_the_whole(
    found: list[np.ndarray], y: int, x: int
) -> None:
    """Front ends read and write the rectangle of the masks alone."""
    boxed = [BoxedMask.from_full(mask).moved(y + 3, x + 3, (16, 18)) for mask in found]
    whole = np.zeros((16, 18), np.int32)
    for number, mask in enumerate(boxed, start=1):
        draw_mask(whole, mask, number, Overlap.NEVER)
    rows, columns = bounding_slices(boxed)
    window = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.int32)
    for number, mask in enumerate(boxed, start=1):
        inside = mask.moved(-rows.start, -columns.start, window.shape)
        draw_mask(window, inside, number, Overlap.NEVER)
    np.testing.assert_array_equal(whole[rows, columns], window)
    assert np.count_nonzero(whole) == np.count_nonzero(window)


@quick
@given(arrays(np.int32, SHAPE, elements=st.integers(0, 5)))
def test_objects_of_a_label_image_are_their_pixels(labels: np.ndarray) -> None:
    found = dict(object_masks(labels))
    assert list(found) == [n for n in range(1, 6) if (labels == n).any()]
    for label, mask in found.items():
        np.testing.assert_array_equal(mask.to_full(), labels == label)
        assert mask.trimmed().mask.shape == mask.mask.shape


@quick
@given(
    arrays(np.int32, SHAPE, elements=st.integers(0, 5)),
    st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_labels_that_are_kept_are_numbered_in_their_order(
    labels: np.ndarray, kept: list[bool]
) -> None:
    numbers = [n for n in range(1, 6) if kept[n]]
    found = renumbered(labels, np.array(kept))
    assert found.dtype == np.int32
    for at in np.ndindex(*SHAPE):
        old = int(labels[at])
        assert found[at] == (numbers.index(old) + 1 if old in numbers else 0)
