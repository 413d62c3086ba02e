"""Borders are moved to where they fit best, and by no more than was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from efficient_models import efficient_model
from everything.scene import scene
from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from napari_tinysam.inference.load import load_model
from napari_tinysam.prompts import Prompts
from tinysam_training.calibration.borders import border_offset, move_borders
from tinysam_training.labelled_image import ImageEntry, LabelledImage
from training.small_runs import write_start

DISCS = [(200.0, 240.0, 60.0), (600.0, 640.0, 80.0), (230.0, 800.0, 70.0)]


def entry(grown: float) -> ImageEntry:
    """The discs, whose true radius is larger than the model's, in pixels of the frame."""
    y, x = np.mgrid[:512, :512] * 2 + 0.5
    labels = np.zeros((512, 512), np.int32)
    for label, (cx, cy, radius) in enumerate(DISCS, start=1):
        labels[np.hypot(x - cx, y - cy) <= radius + grown] = label
    picture = np.zeros((512, 512), np.uint8)
    image = LabelledImage.from_arrays("discs", "scene", picture, labels)
    return ImageEntry("discs", "scene", True, lambda: image, "0")


@pytest.mark.parametrize("offset", [-0.75, -0.5, 0.0, 0.25, 0.5, 1.0])
def test_the_offset_is_how_far_borders_are_away(offset: float) -> None:
    """Logits of the scene are distances in 4 pixels of the frame."""
    predictor, _, _ = scene(DISCS)
    assert border_offset(predictor, [entry(4 * offset)]) == pytest.approx(offset)


def test_each_set_counts_the_same() -> None:
    predictor, _, _ = scene(DISCS)
    many = [entry(-1.0)] * 5
    far = entry(4.0)
    other = ImageEntry("far", "other", True, _of_set(far, "other"), "1")
    assert border_offset(predictor, many) < 0 < border_offset(predictor, [*many, other])


def _of_set(entry: ImageEntry, name: str):  # type: ignore[no-untyped-def]
    image = entry.read()
    pixels = image.rgb[..., 0]
    return lambda: LabelledImage.from_arrays(name, name, pixels, image.labels[0])


def test_nothing_to_measure_is_said() -> None:
    predictor, _, _ = scene(DISCS)
    empty = LabelledImage.from_arrays(
        "empty", "scene", np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.int32)
    )
    with pytest.raises(DataError, match="no image with objects"):
        border_offset(predictor, [ImageEntry("", "", True, lambda: empty, "0")])


@pytest.mark.parametrize("half", [False, True])
def test_logits_move_by_the_offset_and_nothing_else(tmp_path: Path, half: bool) -> None:
    before, after = tmp_path / "before.safetensors", tmp_path / "after.safetensors"
    checkpoints.save(efficient_model(), before, {"step": "7"}, half=half)
    move_borders(before, after, 0.5)
    assert checkpoints.is_half(after) == half
    notes = checkpoints.load(str(after)).notes
    assert (notes["step"], notes["border_offset"]) == ("7", "0.5")
    rgb = np.random.default_rng(0).integers(0, 256, (200, 256, 3), np.uint8)
    prompts = Prompts(
        points=np.array([[[60.0, 50.0]]], np.float32), labels=np.ones((1, 1), np.int32)
    )
    found = []
    for path in (before, after):
        predictor = load_model(path, runtime="torch").without_windows()
        found.append(predictor.predict(predictor.encode(rgb), prompts))
    np.testing.assert_allclose(
        found[1].logits - found[0].logits, 0.5, atol=0.02 if half else 1e-4
    )
    np.testing.assert_array_equal(found[0].scores, found[1].scores)


def test_a_model_without_a_refiner_keeps_its_borders(tmp_path: Path) -> None:
    start = write_start(tmp_path / "start.safetensors")
    with pytest.raises(DataError, match="does not refine masks"):
        move_borders(start, tmp_path / "moved.safetensors", 0.5)
    assert not (tmp_path / "moved.safetensors").exists()
