"""Records and run lengths, as Segment Anything writes them."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from segment_anything.utils.amg import mask_to_rle_pytorch

from napari_tinysam.everything import Proposal, records, run_lengths
from napari_tinysam.masks import BoxedMask


@settings(deadline=None)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_run_lengths_are_the_official_ones(mask: np.ndarray) -> None:
    (official,) = mask_to_rle_pytorch(torch.from_numpy(mask)[None])
    assert run_lengths(BoxedMask.from_full(mask)) == official


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 5), st.integers(0, 7), st.booleans())
def test_records_hold_what_is_known(y0: int, x0: int, rle: bool) -> None:
    mask = BoxedMask(np.array([[True, False], [True, True]]), y0, x0, (9, 12))
    proposal = Proposal(mask, 0.75, (x0 + 1.0, y0 + 1.0), "head", 0.5)
    (record,) = records([proposal], rle=rle)
    assert record["bbox"] == [x0, y0, 2, 2]
    assert record["area"] == 3
    assert record["predicted_iou"] == 0.75
    assert record["stability_score"] == 0.5
    assert record["point_coords"] == [[x0 + 1.0, y0 + 1.0]]
    assert record["found_by"] == "head"
    if rle:
        assert sum(record["segmentation"]["counts"]) == 9 * 12
    else:
        np.testing.assert_array_equal(record["segmentation"], mask.to_full())
