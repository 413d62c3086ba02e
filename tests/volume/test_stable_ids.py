"""Ids that stay the same while settings change."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_tinysam.volume.linking import LinkSettings, link
from napari_tinysam.volume.overlaps import PlaneOverlaps
from napari_tinysam.volume.stable_ids import (
    repeated,
    stable_ids,
    through_planes,
    without,
)


def planes(*rows: list[int]) -> list[np.ndarray]:
    """Make planes of four columns, each column a square of 4 × 4 pixels with one label."""
    return [np.repeat(np.repeat([row], 4, axis=0), 4, axis=1) for row in rows]


def test_objects_are_called_after_their_first_piece() -> None:
    overlaps = PlaneOverlaps.of(planes([1, 0, 2], [3, 4, 5], [0, 6, 7]))
    links = link(overlaps, LinkSettings(least_planes=1))
    ids = stable_ids(links, overlaps.ids)
    assert [each.tolist() for each in ids] == [[1, 2], [1, 4, 2], [4, 2]]
    ids = stable_ids(links, overlaps.ids, least=3)
    assert [each.tolist() for each in ids] == [[0, 2], [0, 0, 2], [0, 2]]


def test_labels_of_planes_numbered_one_by_one_say_nothing() -> None:
    overlaps = PlaneOverlaps.of(planes([1, 2, 3], [0, 1, 2], [3, 0, 1]))
    assert through_planes(overlaps.ids, [overlaps]).tolist() == []


def test_labels_through_planes_are_known() -> None:
    overlaps = PlaneOverlaps.of(planes([1, 2, 0], [1, 2, 3], [1, 0, 4]))
    assert through_planes(overlaps.ids, [overlaps]).tolist() == [1, 2]


def test_what_is_left_out_is_linked_with_nothing() -> None:
    overlaps = PlaneOverlaps.of(planes([1, 2, 0], [1, 2, 3]))
    left = [np.array([True, False]), np.array([False, False, False])]
    links = link(without(overlaps, left), LinkSettings(least_planes=1))
    assert [each.tolist() for each in links.objects] == [[1, 2], [3, 2, 4]]


@given(st.lists(st.integers(1, 9)), st.lists(st.integers(1, 9)))
def test_repeated_leaves_each_id_once(ids: list[int], taken: list[int]) -> None:
    array = np.array(ids, np.int64)
    again = repeated(array, np.array(taken, np.int64))
    kept = array[~again].tolist()
    assert len(kept) == len(set(kept))
    assert set(kept) == set(ids) - set(taken)
