"""Pairs of boxes that meet, beside comparing each with each."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_tinysam.boxes import meeting_boxes

_SIDE = st.one_of(st.integers(0, 20), st.integers(0, 400))
_BOX = st.tuples(st.integers(-5, 300), st.integers(-5, 300), _SIDE, _SIDE)


@given(st.lists(_BOX, max_size=40), st.integers(0, 5))
def test_all_pairs_are_found_once(found: list[tuple[int, ...]], gap: int) -> None:
    boxes = np.array(found, int).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    expected = [
        (i, j)
        for j, (x0, y0, x1, y1) in enumerate(boxes.tolist())
        for i, (u0, v0, u1, v1) in enumerate(boxes[:j].tolist())
        if max(x0, u0) <= min(x1, u1) + gap and max(y0, v0) <= min(y1, v1) + gap
    ]
    first, second = meeting_boxes(boxes, gap)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == expected
