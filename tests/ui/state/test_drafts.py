"""Drafts to prompts, and drafts that follow what is drawn in the prompt layers."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tinysam.inference.drafts import to_prompts
from napari_tinysam.inference.predictions import Embedding
from napari_tinysam.masks import BoxedMask
from napari_tinysam.prompts import NEGATIVE, POSITIVE
from napari_tinysam.ui.state.drafts import (
    EditedObject,
    ObjectDraft,
    PlaneDrafts,
    PointPrompt,
)


def embedding(height: int, width: int) -> Embedding:
    scale = 1024 / max(height, width)
    inner = (max(1, round(height * scale)), max(1, round(width * scale)))
    return Embedding(None, (height, width), inner, 1024, "none")


def disc(height: int, width: int, y: float, x: float, radius: float) -> BoxedMask:
    ys, xs = np.mgrid[:height, :width]
    return BoxedMask.from_full(np.hypot(ys - y, xs - x) < radius)


def test_objects_of_all_kinds_share_a_batch() -> None:
    drafts = [
        ObjectDraft(points=(PointPrompt(1, 2, POSITIVE),)),
        ObjectDraft(box=(1, 2, 30, 40)),
        ObjectDraft(
            points=(PointPrompt(5, 6, POSITIVE), PointPrompt(7, 8, NEGATIVE)),
            box=(0, 0, 9, 9),
        ),
    ]
    prompts = to_prompts(drafts, embedding(60, 80))
    assert prompts.point_counts.tolist() == [1, 0, 2]
    assert prompts.has_box.tolist() == [False, True, True]
    assert prompts.masks is None


def test_an_edited_object_prompts_with_box_middle_and_mask() -> None:
    mask = disc(60, 80, 30, 40, 10)
    edited = EditedObject(7, mask)
    clicked = ObjectDraft(points=(PointPrompt(45, 30, NEGATIVE),), edited=edited)
    prompts = to_prompts([clicked], embedding(60, 80))
    assert prompts.points is not None
    assert prompts.points[0].tolist() == [[40, 30], [45, 30]]
    assert prompts.labels is not None
    assert prompts.labels[0].tolist() == [POSITIVE, NEGATIVE]
    assert prompts.has_box.all()
    assert prompts.has_mask.all()


def test_a_click_outside_lets_an_edited_object_grow_out_of_its_box() -> None:
    edited = EditedObject(7, disc(60, 80, 30, 40, 10))
    outside = ObjectDraft(points=(PointPrompt(70, 30, POSITIVE),), edited=edited)
    assert not to_prompts([outside], embedding(60, 80)).has_box.any()


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(40, 600),
    width=st.integers(40, 600),
    y=st.floats(0.2, 0.8),
    x=st.floats(0.2, 0.8),
)
def test_a_mask_prompt_is_the_mask(height: int, width: int, y: float, x: float) -> None:
    mask = disc(height, width, y * height, x * width, min(height, width) / 6)
    made = embedding(height, width)
    back = made.upscaler.full(made.upscaler.mask_prompt(mask)) > 0
    assert BoxedMask.from_full(back).iou(mask) > 0.85


def test_the_middle_point_is_inside_a_ring() -> None:
    ys, xs = np.mgrid[:60, :80]
    far = np.hypot(ys - 30, xs - 40)
    ring = BoxedMask.from_full((far < 20) & (far > 12))
    x, y = ring.deepest
    assert ring.to_full()[int(y), int(x)]


def test_boxes_keep_their_points_and_their_objects() -> None:
    one, two, three = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)
    drafts = PlaneDrafts().with_boxes([one, two])
    drafts = drafts.with_points([PointPrompt(5, 5, POSITIVE)])
    assert [len(d.points) for d in drafts.objects] == [1, 0]
    drafts = drafts.with_boxes([one, two, three])
    assert [d.box for d in drafts.objects] == [one, two, three]
    assert [len(d.points) for d in drafts.objects] == [1, 0, 0]
    drafts = drafts.with_boxes([two, three])
    # The box is gone, its point is not.
    assert [d.box for d in drafts.objects] == [None, two, three]
    assert drafts.with_boxes([]).with_points([]).is_empty


def test_moved_points_stay_with_the_object_around_them() -> None:
    drafts = PlaneDrafts().with_boxes([(0, 0, 10, 10), (0, 0, 100, 100)])
    drafts = drafts.with_points([PointPrompt(5, 5, POSITIVE)])
    assert [len(d.points) for d in drafts.objects] == [1, 0]  # the smaller box
    drafts = drafts.with_points([PointPrompt(50, 50, POSITIVE)])
    assert [len(d.points) for d in drafts.objects] == [0, 1]


def test_next_object_only_after_an_object() -> None:
    empty = PlaneDrafts()
    assert empty.with_next() is empty
    one = empty.with_points([PointPrompt(1, 1, POSITIVE)]).with_next()
    assert one.current.is_empty
    assert len(one.filled) == 1
