"""Everything mode in a large plane: the tiles do not show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from everything.plane_of_discs import BrightRuntime, bright_predictor, field
from napari_tinysam.everything import (
    Segmentation,
    TiledSegmentation,
    segment_everything,
    segmentation_of,
    tiles,
)
from napari_tinysam.inference.looks import Look, LookGrid
from napari_tinysam.inference.plane_looks import PlaneLooks
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.metrics import object_overlaps


def test_all_nuclei_of_a_large_plane_are_found() -> None:
    image, count = field((1700, 2100), 60, 14)
    labels = segment_everything(image, bright_predictor())
    assert labels.shape == image.shape
    assert labels.max() == count
    shown = labels > 0
    assert (shown & (image > 100)).sum() / (shown | (image > 100)).sum() > 0.85


@pytest.mark.parametrize("side", [400, 700])
def test_the_side_of_the_tiles_hardly_matters(side: int) -> None:
    image, count = field((1000, 1000), 50, 15)
    predictor = bright_predictor()
    whole = segment_everything(image, predictor)
    tiled = segment_everything(image, predictor, tiles_of=side)
    assert whole.max() == count
    assert abs(int(tiled.max()) - count) <= 0.005 * count
    assert object_overlaps(whole, tiled).best_iou.min() > 0.6


def test_objects_larger_than_the_overlap_have_no_seam() -> None:
    image, count = field((1800, 1800), 450, 150)
    predictor = bright_predictor()
    found = segmentation_of(predictor, image, tiles_of=700).run()
    assert isinstance(found, TiledSegmentation)
    labels = found.labels().labels
    assert labels.max() == count
    truth = segment_everything((image > 100).astype(np.uint8) * 255, predictor)
    assert object_overlaps(truth, labels).best_iou.min() > 0.95


class DreamingRuntime(BrightRuntime):
    """Where nothing is bright, it sees one large object in the background."""

    def encode(self, rgb: np.ndarray) -> Any:
        regions = super().encode(rgb)
        if not regions.any():
            regions[40:200, 40:200] = 1
        return regions


def test_what_is_seen_in_a_background_alone_is_no_object() -> None:
    image, _ = field((2000, 2000), 100, 25)
    image[:1000] = 20
    image[100:130, 100:1900] = 80  # not empty, but nothing that is bright
    image[600:630, 100:1900] = 80
    predictor = Predictor(DreamingRuntime(), name="dreams", model_id="dreams")
    labels = segment_everything(image, predictor, tiles_of=512)
    assert labels.max() == 9 * 19  # the discs of the lower half


def test_tiles_without_anything_are_passed_over() -> None:
    image = np.full((3000, 3000), 20, np.uint8)
    image[100:130, 100:130] = 200
    predictor = bright_predictor()
    labels = segment_everything(image, predictor)
    assert labels.max() == 1
    assert (
        predictor._runtime.encoded == 2
    )  # the tile that owns it, and a smaller one there


def test_it_begins_where_it_is_told_and_keeps_what_it_found() -> None:
    image, _ = field((3000, 3000), 100, 20)
    plane, predictor = PlaneLooks(image), bright_predictor()
    seen: list[Look] = []

    def embed(look: Look):
        seen.append(look)
        return plane.encode(predictor, look)

    screen = Look(2200, 1900, 2700, 2400)
    run = TiledSegmentation(predictor, embed, tiles(plane.shape), first=screen)
    found = 0
    for step in run:
        assert step.unit == "tiles"
        found += len(step.new)
        if step.done == 2:
            break
    grid = tiles(plane.shape)
    assert set(seen) <= set(grid.touching(screen))
    kept = run.proposals
    assert len(kept) >= found > 30
    middles = (kept.boxes[:, :2] + kept.boxes[:, 2:]) / 2
    for x, y in middles.tolist():
        assert any(look.x0 <= x <= look.x1 and look.y0 <= y <= look.y1 for look in seen)


def test_nothing_is_found_where_nothing_is_looked_for() -> None:
    image, _ = field((1600, 1600), 100, 20)
    plane, predictor = PlaneLooks(image), bright_predictor()

    def where(look: Look) -> np.ndarray:
        inside = np.zeros(look.size, bool)
        inside[:, max(800 - look.x0, 0) :] = True
        return inside

    run = TiledSegmentation(
        predictor,
        lambda look: plane.encode(predictor, look),
        LookGrid(plane.shape, 1024, 128),
        where=where,
    ).run()
    labels = run.labels().labels
    assert labels.max() > 100
    assert not labels[:, :770].any()


def test_tiles_are_chosen_by_the_size_and_can_be_refused() -> None:
    predictor = bright_predictor()
    large, small = np.eye(1600, dtype=np.uint8), np.eye(1500, dtype=np.uint8)
    assert isinstance(segmentation_of(predictor, large), TiledSegmentation)
    assert isinstance(segmentation_of(predictor, small), Segmentation)
    assert isinstance(segmentation_of(predictor, large, tiles_of="off"), Segmentation)
    assert isinstance(
        segmentation_of(predictor, small, tiles_of=256), TiledSegmentation
    )
    assert isinstance(segmentation_of(predictor, large.tolist()), Segmentation)
    with pytest.raises(ValueError, match="at least one pixel"):
        segmentation_of(predictor, small, tiles_of=0)
    with pytest.raises(ValueError, match="no mode"):
        segmentation_of(predictor, large, "best")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["head", "hierarchical"])
def test_other_modes_work_in_tiles(mode: str) -> None:
    image, count = field((1600, 1600), 160, 40)
    labels = segment_everything(image, bright_predictor(), mode=mode)  # type: ignore[arg-type]
    assert labels.max() == count
