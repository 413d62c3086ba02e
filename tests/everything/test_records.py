"""Records and run lengths, as Segment Anything writes them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.utils.amg import (
    area_from_rle,
    batched_mask_to_box,
    box_xyxy_to_xywh,
    mask_to_rle_pytorch,
)
from torch.nn import functional as F

from everything.official_records import records, run_lengths
from everything.scene import scene
from napari_tinysam.everything import (
    Candidate,
    Proposal,
    SearchSettings,
    Segmentation,
    Thresholds,
)
from napari_tinysam.masks import BoxedMask, Upscaler
from napari_tinysam.prompts import Prompts

DISCS = [
    (200.0, 220.0, 90.0),
    (420.0, 300.0, 60.0),
    (700.0, 180.0, 45.0),
    (320.0, 560.0, 130.0),
    (650.0, 480.0, 25.0),
]


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
    assert record["bbox"] == [x0, y0, 1, 1]
    assert record["crop_box"] == [0, 0, 12, 9]
    assert record["area"] == 3
    assert record["predicted_iou"] == 0.75
    assert record["stability_score"] == 0.5
    assert record["point_coords"] == [[x0 + 1.0, y0 + 1.0]]
    assert record["found_by"] == "head"
    if rle:
        assert sum(record["segmentation"]["counts"]) == 9 * 12
    else:
        np.testing.assert_array_equal(record["segmentation"], mask.to_full())


@settings(deadline=None)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_areas_and_boxes_are_the_official_ones(mask: np.ndarray) -> None:
    if not mask.any():
        return
    tensor = torch.from_numpy(mask)[None]
    proposal = Proposal(BoxedMask.from_full(mask), 0.5, (0.0, 0.0))
    (record,) = records([proposal])
    assert record["bbox"] == box_xyxy_to_xywh(batched_mask_to_box(tensor)[0]).tolist()
    assert record["area"] == area_from_rle(mask_to_rle_pytorch(tensor)[0])


class OfficialPredictor:
    """Segment Anything's `SamPredictor`, as far as its generator asks it, for a scene."""

    device = "cpu"
    model = SimpleNamespace(mask_threshold=0.0)
    transform = SimpleNamespace(apply_coords=lambda points, size: points)

    def __init__(self, predictor: Any, embedding: Any) -> None:
        self.predictor = predictor
        self.embedding = embedding

    def set_image(self, image: Any) -> None:
        assert image.shape[:2] == self.embedding.original_size

    def reset_image(self) -> None:
        pass

    def predict_torch(self, points: Any, labels: Any, **options: Any) -> Any:
        assert options == {"multimask_output": True, "return_logits": True}
        prompts = Prompts(points=points.numpy().astype(np.float32))
        masks = self.predictor.predict(self.embedding, prompts)
        height, width = self.embedding.input_size
        full = F.interpolate(
            torch.from_numpy(masks.logits), (1024, 1024), mode="bilinear"
        )
        full = F.interpolate(
            full[..., :height, :width], self.embedding.original_size, mode="bilinear"
        )
        return full, torch.from_numpy(masks.scores), None


@pytest.mark.parametrize("size", [(512, 512), (300, 400)])
def test_records_are_those_of_the_official_generator(size: tuple[int, int]) -> None:
    """The whole generator of the package `segment_anything`, on the same logits and scores."""
    predictor, embedding, _ = scene(DISCS, size, steepness=4.0)
    generator = SamAutomaticMaskGenerator(
        SimpleNamespace(image_encoder=SimpleNamespace(img_size=1024)),
        points_per_side=8,
        stability_score_thresh=0.7,
        output_mode="uncompressed_rle",
    )
    generator.predictor = OfficialPredictor(predictor, embedding)
    theirs = generator.generate(np.zeros((*size, 3), np.uint8))
    search = SearchSettings(
        points_per_side=8, score_threshold=0.88, stability_threshold=0.7
    )
    found = Segmentation(
        predictor, embedding, "dense", thresholds=Thresholds(search=search)
    )
    ours = records(found.run().proposals, rle=True)

    assert len(ours) == len(theirs) >= 3
    for one, two in zip(ours, theirs, strict=True):
        assert one.pop("found_by") == "grid"
        assert list(one) == list(two)  # in the same order too
        # Which of the points within an object was asked first, depends on their order.
        (x0, y0, width, height), ((x, y),) = one["bbox"], one["point_coords"]
        assert x0 <= x <= x0 + width
        assert y0 <= y <= y0 + height
        for name in ("segmentation", "area", "bbox", "predicted_iou", "crop_box"):
            assert one[name] == two[name], name
        assert one["stability_score"] == pytest.approx(two["stability_score"], abs=0.03)


@pytest.mark.parametrize(("lattice", "pieces"), [("official", 2), ("centred", 1)])
def test_stray_pixels_stay_where_the_published_masks_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, lattice: Any, pieces: int
) -> None:
    """An object with one stray pixel far away."""
    mask = np.zeros((64, 64), bool)
    mask[10:30, 10:30] = mask[50, 50] = True
    candidate = Candidate(
        np.zeros((1, 1), np.float32), 0, 0, 0.9, 0.9, (10, 10, 50, 50), 401,
        (20.0, 20.0), Upscaler((1024, 1024), (64, 64), 1024),
    )  # fmt: skip
    monkeypatch.setattr(
        Candidate, "mask", property(lambda self: BoxedMask.from_full(mask))
    )
    predictor, embedding, _ = scene([], (64, 64))
    search = SearchSettings(points_per_side=4, lattice=lattice)
    found = Segmentation(
        predictor, embedding, "dense", thresholds=Thresholds(search=search)
    ).run()
    found._search.candidates.append(candidate)  # type: ignore[union-attr]
    (record,) = records(found.proposals)
    assert record["area"] == 399 + pieces
