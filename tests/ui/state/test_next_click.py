"""Which clicks begin another object, by the masks that are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_tinysam.masks import BoxedMask
from napari_tinysam.prompts import POSITIVE
from napari_tinysam.ui.state.drafts import EditedObject, ObjectDraft, PointPrompt
from napari_tinysam.ui.state.next_click import alone, begins_another

SHAPE = (200, 300)


def disc(x: float, y: float, radius: float) -> BoxedMask:
    ys, xs = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return BoxedMask.from_full(np.hypot(ys - y, xs - x) < radius)


class Known:
    """Masks of drafts, as `Candidates` gives them."""

    def __init__(self, mask: BoxedMask) -> None:
        self._mask = mask

    def mask(self, candidate: int | None = None) -> BoxedMask:
        return self._mask


def finder(masks: dict[ObjectDraft, BoxedMask]) -> Any:
    return lambda draft: Known(masks[draft]) if draft in masks else None


CURRENT = alone((100, 80))


def test_far_from_the_mask_is_another_object() -> None:
    find = finder({CURRENT: disc(100, 80, 20)})
    assert not begins_another(CURRENT, (100, 80), find, SHAPE)
    assert not begins_another(CURRENT, (128, 80), find, SHAPE)  # 8 px beside it
    assert begins_another(CURRENT, (135, 80), find, SHAPE)


def test_a_mask_there_that_shares_much_is_the_same_objects() -> None:
    there = (140.0, 80.0)
    find = finder({CURRENT: disc(100, 80, 20), alone(there): disc(110, 80, 35)})
    assert not begins_another(CURRENT, there, find, SHAPE)
    find = finder({CURRENT: disc(100, 80, 20), alone(there): disc(140, 80, 10)})
    assert begins_another(CURRENT, there, find, SHAPE)


def test_before_the_mask_is_known_the_distance_to_the_prompts_decides() -> None:
    find = finder({})
    assert not begins_another(CURRENT, (117, 80), find, SHAPE)  # 6 % of 300
    assert begins_another(CURRENT, (119, 80), find, SHAPE)
    box = ObjectDraft(box=(50, 50, 90, 90))
    assert not begins_another(box, (89, 51), find, SHAPE)
    assert not begins_another(box, (100, 70), find, SHAPE)
    assert begins_another(box, (120, 70), find, SHAPE)


def test_nothing_begins_while_an_object_is_edited_or_there_is_none() -> None:
    edited = ObjectDraft(
        points=(PointPrompt(1, 1, POSITIVE),), edited=EditedObject(4, disc(9, 9, 5))
    )
    assert not begins_another(edited, (250, 150), finder({}), SHAPE)
    assert not begins_another(ObjectDraft(), (250, 150), finder({}), SHAPE)
