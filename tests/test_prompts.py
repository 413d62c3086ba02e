"""Prompts: what is accepted, what it becomes, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tinysam import Prompts
from napari_tinysam.frame import LOGITS
from napari_tinysam.prompts import IGNORED

quick = settings(deadline=None, max_examples=60)

MASK = np.zeros((LOGITS, LOGITS))
coordinates = st.floats(-1e4, 1e4, width=32)


def test_one_object_may_leave_its_axis_out() -> None:
    points = Prompts(points=[(1, 2), (3, 4)])
    assert len(points) == 1
    assert points.points is not None
    assert points.points.shape == (1, 2, 2)
    assert points.points.dtype == np.float32
    assert points.labels is not None
    assert points.labels.tolist() == [[1, 1]]
    box = Prompts(boxes=(1, 2, 3, 4))
    assert box.boxes is not None
    assert box.boxes.tolist() == [[1, 2, 3, 4]]
    mask = Prompts(masks=MASK)
    assert mask.masks is not None
    assert mask.masks.shape == (1, LOGITS, LOGITS)
    assert Prompts(points=[(1, 2), (3, 4)], labels=[1, 0]).labels.tolist() == [[1, 0]]


@quick
@given(
    st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), min_size=1)
)
def test_boxes_have_ascending_corners(boxes: list[tuple[float, ...]]) -> None:
    found = Prompts(boxes=boxes).boxes
    assert found is not None
    given_boxes = np.array(boxes, np.float32)
    assert (found[:, :2] <= found[:, 2:]).all()
    assert np.array_equal(
        np.sort(found[:, [0, 2]]), np.sort(given_boxes[:, [0, 2]], axis=1)
    )
    assert np.array_equal(
        np.sort(found[:, [1, 3]]), np.sort(given_boxes[:, [1, 3]], axis=1)
    )


@quick
@given(st.data())
def test_counts_and_kinds_of_mixed_objects(data: st.DataObject) -> None:
    kinds = data.draw(
        st.lists(
            st.tuples(st.integers(0, 3), st.booleans(), st.booleans()).filter(any),
            min_size=1,
            max_size=4,
        )
    )
    number = len(kinds)
    points = np.full((number, 4, 2), np.nan)  # fillers may hold anything
    labels = np.full((number, 4), IGNORED)
    boxes = np.full((number, 4), np.nan)
    masks = np.full((number, LOGITS, LOGITS), np.nan)
    for row, (count, has_box, has_mask) in enumerate(kinds):
        places = data.draw(st.permutations(range(4)))[:count]
        points[row, places], labels[row, places] = 5, 1
        if has_box:
            boxes[row] = (1, 2, 3, 4)
        if has_mask:
            masks[row] = 0
    prompts = Prompts(points=points, labels=labels, boxes=boxes, masks=masks)
    assert len(prompts) == number
    assert prompts.point_counts.tolist() == [count for count, _, _ in kinds]
    assert prompts.has_box.tolist() == [has_box for _, has_box, _ in kinds]
    assert prompts.has_mask.tolist() == [has_mask for _, _, has_mask in kinds]
    assert prompts.points is not None
    assert np.isfinite(prompts.points).all()


def test_what_is_not_given_is_not_there() -> None:
    prompts = Prompts(boxes=[(0, 0, 9, 9)] * 3)
    assert prompts.point_counts.tolist() == [0, 0, 0]
    assert not prompts.has_mask.any()
    assert not Prompts(points=[(1, 2)]).has_box.any()


def test_later_changes_to_the_input_do_not_matter() -> None:
    points, labels = np.ones((2, 1, 2), np.float32), np.ones((2, 1), np.int32)
    boxes, masks = np.ones((2, 4), np.float32), np.stack([MASK] * 2).astype(np.float32)
    prompts = Prompts(points=points, labels=labels, boxes=boxes, masks=masks)
    for array in (points, labels, boxes, masks):
        array[...] = 0 if array.ndim != 3 else 7
    assert prompts.points is not None
    assert (prompts.points == 1).all()
    assert prompts.labels is not None
    assert (prompts.labels == 1).all()
    assert prompts.boxes is not None
    assert (prompts.boxes == 1).all()
    assert prompts.masks is not None
    assert not prompts.masks.any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "at least one"),
        ({"points": np.zeros((0, 1, 2))}, r"points must have shape \(N, P, 2\)"),
        ({"points": [(1, 2, 3)]}, r"points must have shape \(N, P, 2\)"),
        ({"points": 5}, "points must have shape"),
        ({"points": np.zeros((2, 0, 2))}, "Every object needs"),
        ({"boxes": np.zeros((0, 4))}, r"boxes must have shape \(N, 4\)"),
        ({"boxes": [(1, 2, 3)]}, "boxes must have shape"),
        ({"masks": np.zeros((1, 64, 64))}, r"masks must have shape \(N, 256, 256\)"),
        ({"points": [(np.nan, 1)]}, "finite"),
        ({"points": [(np.inf, 1)]}, "finite"),
        ({"boxes": [(0, 0, np.inf, 1)]}, "finite"),
        ({"points": [(1, 2)], "labels": [[2]]}, "labels must be"),
        ({"points": [(1, 2)], "labels": [[0.5]]}, "labels must be"),
        ({"points": [(1, 2)], "labels": [[1, 1]]}, "one for each point"),
        ({"points": np.zeros((2, 1, 2)), "labels": [1, 1]}, "one for each point"),
        ({"labels": [[1]]}, "without points"),
        ({"labels": [[1]], "boxes": (0, 0, 1, 1)}, "without points"),
        ({"points": np.zeros((2, 1, 2)), "boxes": (0, 0, 1, 1)}, "same number"),
        ({"points": [(1, 2)], "labels": [[-1]]}, "Every object needs"),
        ({"boxes": [(np.nan,) * 4]}, "Every object needs"),
        ({"boxes": [(0, 0, 1, 1), (np.nan,) * 4]}, "Every object needs"),
        ({"masks": np.full((1, 256, 256), np.nan)}, "Every object needs"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Prompts(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"boxes": [(np.nan, 1, 2, 3)]}, {"masks": np.where(MASK == 0, MASK, 0)}],
)
def test_half_a_box_and_infinite_masks_are_refused(arguments: dict[str, Any]) -> None:
    """A row is NaN throughout or not at all; otherwise a mistake would go unseen."""
    if "masks" in arguments:
        arguments["masks"] = arguments["masks"].copy()
        arguments["masks"][3, 3] = np.inf
    other = {"points": [(1, 2)]}  # so that the object has a prompt without it
    with pytest.raises(ValueError, match="finite"):
        Prompts(**other, **arguments)


def test_a_prompt_cannot_be_changed() -> None:
    prompts = Prompts(points=[(1, 2)])
    with pytest.raises(AttributeError):
        prompts.points = None  # type: ignore[misc]
