"""Calibration of everything mode, and the comparison of its modes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everything.scene import scene
from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from napari_tinysam.everything import (
    GuidedSettings,
    LabelSettings,
    Segmentation,
    Thresholds,
)
from napari_tinysam.everything.thresholds import NOTE
from papers.automatic_modes import compare_modes, table
from tinysam_training.calibration import guided as calibrate_guided
from tinysam_training.calibration.calibrate import Calibration, calibrate, write
from tinysam_training.labelled_image import ImageEntry, LabelledImage
from training.small_runs import write_start

#: Around points of the first round of a grid of 16 a side, whose other points are 64 apart.
DISCS = [
    (106.0, 352.0, 80.0),
    (352.0, 608.0, 100.0),
    (608.0, 352.0, 90.0),
    (864.0, 864.0, 80.0),
]


def entry(discs: list[tuple[float, float, float]], name: str = "discs") -> ImageEntry:
    """An image of 512 pixels with these objects, in pixels of the frame."""
    y, x = np.mgrid[:512, :512] * 2 + 0.5
    labels = np.zeros((512, 512), np.int32)
    for label, (cx, cy, radius) in enumerate(discs, start=1):
        labels[np.hypot(x - cx, y - cy) <= radius] = label
    image = LabelledImage.from_arrays(
        name, "scene", np.zeros((512, 512), np.uint8), labels
    )
    return ImageEntry(name, "scene", True, lambda: image, "0")


def test_thresholds_suit_the_model() -> None:
    predictor, embedding, _ = scene(DISCS, seen=DISCS)
    found = calibrate(predictor, [entry(DISCS)], points_per_side=16)
    given = found.thresholds
    # All good masks have scores of 0.92 to 0.95, the ground has 0.1.
    assert 0.1 < given.search.score_threshold < 0.95
    assert 0.1 < given.labels.confidence <= 0.95
    assert found.figures["dense"] > 0.9
    assert found.figures["guided"] > 0.9
    assert found.figures["hierarchical"] >= found.figures["dense"] - 0.005
    # Logits are distances in pixels of four: something is spared, and it costs nothing.
    assert found.figures["spared"] > 0
    labels = Segmentation(predictor, embedding, thresholds=given).run().labels().labels
    assert labels.max() == len(DISCS)


def test_a_head_that_is_better_than_the_decoder_is_kept() -> None:
    """The decoder sees half of each object; its answers must not replace the outlines."""
    halves = [(x, y, radius / 2) for x, y, radius in DISCS]
    predictor, embedding, _ = scene(halves, seen=DISCS)
    found = calibrate(predictor, [entry(DISCS)], points_per_side=8)
    assert found.figures["guided"] >= found.figures["head"] - 0.002
    search = Segmentation(predictor, embedding, "guided", thresholds=found.thresholds)
    sources = {proposal.source for proposal in search.run()._search.proposals}  # type: ignore[union-attr]
    assert sources == {"head"}
    # Answers that are not used anyway are asked for once an object.
    assert len(found.thresholds.guided.guides) == 1


def test_what_is_not_there_is_left_out_and_no_more() -> None:
    """The head sees a ghost, of which it is not sure; the confidence lies below all objects."""
    ghost = (864.0, 200.0, 60.0)
    predictor, embedding, runtime = scene(DISCS, seen=[*DISCS, ghost])
    seen = runtime.object_maps

    def doubtful(features: object) -> np.ndarray | None:
        maps = seen(features)
        assert maps is not None
        place = maps[:, :100, 180:]
        place[0] *= 0.7
        place[1:] = np.where(place[0] > 0, 0.5, place[1:])
        return maps

    runtime.object_maps = doubtful  # type: ignore[method-assign]
    embedding = predictor.encode(np.zeros(embedding.original_size, np.uint8))
    found = calibrate(predictor, [entry(DISCS)], points_per_side=8)
    assert found.figures["head"] < 0.85
    assert found.figures["guided"] > 0.9
    search = Segmentation(predictor, embedding, "guided", thresholds=found.thresholds)
    proposals = search.run().proposals
    worst, *_ = sorted(proposals.scores)
    least_true = sorted(proposals.scores)[1]
    assert worst < search.settings.confidence <= least_true
    assert search.labels().labels.max() == len(DISCS)


#: The head takes two discs for one place of foreground, whose middle is in the first.
_TWO, _BLOB = [(330.0, 300.0, 100.0), (490.0, 300.0, 60.0)], (390.0, 300.0, 165.0)


@pytest.mark.parametrize("true", [_TWO, _TWO[:1]], ids=["two objects", "one object"])
def test_finds_that_the_head_says_nothing_of_count_as_far_as_they_gain(
    true: list[tuple[float, float, float]],
) -> None:
    predictor, embedding, _ = scene(_TWO, seen=[_BLOB])
    found = calibrate(predictor, [entry(true)], points_per_side=8)
    assert found.figures["guided"] > 0.75 > found.figures["head"]
    search = Segmentation(predictor, embedding, "guided", thresholds=found.thresholds)
    assert search.run().labels().labels.max() == len(true)


def test_the_grid_is_asked_on_as_few_images_as_wanted() -> None:
    predictor, _, runtime = scene(DISCS, seen=DISCS)
    entries = [entry(DISCS, str(number)) for number in range(3)]
    told: list[tuple[int, int]] = []
    calibrate(
        predictor,
        entries,
        points_per_side=8,
        grid_images=1,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 3), (2, 3), (3, 3), (1, 1)]
    # Besides, three kinds of prompts an object.
    assert len(runtime.points) == 64 + 3 * 3 * len(DISCS)


def test_images_without_objects_are_refused() -> None:
    predictor, _, _ = scene(DISCS)
    with pytest.raises(DataError, match="no image with objects"):
        calibrate(predictor, [entry([])])


def test_a_model_without_a_head_gets_thresholds_of_the_grid() -> None:
    predictor, _, _ = scene(DISCS)
    found = calibrate(predictor, [entry(DISCS)], points_per_side=8)
    assert set(found.figures) == {"dense", "hierarchical", "spared"}


def test_thresholds_are_stored_and_the_weights_stay(tmp_path: Path) -> None:
    start = write_start(tmp_path / "start.safetensors")
    model = checkpoints.load(start).model
    half = tmp_path / "half.safetensors"
    checkpoints.save(model, half, {"name": "mine"}, half=True)
    wanted = Calibration(Thresholds(), {})
    write(str(half), tmp_path / "out.safetensors", wanted)
    loaded = checkpoints.load(tmp_path / "out.safetensors")
    assert loaded.notes["name"] == "mine"
    assert Thresholds.from_notes(loaded.notes) is not None
    assert NOTE in loaded.notes
    assert (
        abs((tmp_path / "out.safetensors").stat().st_size - half.stat().st_size) < 5000
    )
    before = checkpoints.load(half).model.state_dict()
    for name, tensor in loaded.model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name].numpy(), name)


def test_modes_are_compared_on_the_same_images() -> None:
    predictor, _, _ = scene(DISCS, seen=DISCS)
    note = json.dumps(
        {
            "labels": {"confidence": 0.6},
            "search": {
                "score_threshold": 0.5,
                "stability_threshold": 0.5,
                "points_per_side": 16,
            },
        }
    )
    predictor.notes[NOTE] = note
    results = compare_modes(predictor, [entry(DISCS, "a"), entry(DISCS[:2], "b")])
    assert [r.mode for r in results[:4]] == ["dense", "hierarchical", "head", "guided"]
    by_mode = {(r.image, r.mode): r for r in results}
    assert by_mode["a", "dense"].decoded == 256
    assert by_mode["a", "hierarchical"].decoded < 256
    assert by_mode["a", "guided"].decoded == 4
    assert by_mode["a", "head"].decoded == 0
    assert all(r.ap50 == 1 for r in results if r.image == "a")
    # Two of the four objects that are found are not in the second image.
    assert by_mode["b", "guided"].ap50 == 0.5
    assert by_mode["b", "guided"].mean_iou > 0.9
    rows = table(results).splitlines()
    assert len(rows) == 2 + 4
    assert "| scene (2) | dense | " in rows[2]
    more = [replace(result, dataset="other", msa=0.0) for result in results]
    rows = table([*results, *more]).splitlines()
    assert len(rows) == 2 + 3 * 4
    mean = np.mean([r.msa for r in results if r.mode == "head"]) / 2
    assert rows[-2].startswith(f"| all images (4) | head | {mean:.3f} | ")


@pytest.mark.parametrize(("all_three", "wanted"), [(0.507, 1), (0.509, 3)])
def test_another_prompt_an_object_must_be_worth_its_time(
    monkeypatch: pytest.MonkeyPatch, all_three: float, wanted: int
) -> None:
    labels = LabelSettings()

    def best(images: Any, proposals: Any, labels: LabelSettings) -> Any:
        guides = proposals(images[0]).guides
        known = {("point",): 0.5, ("point", "box", "point_and_box"): all_three}
        return labels, known.get(guides, 0.49)

    monkeypatch.setattr(calibrate_guided, "_guided", lambda one, settings: settings)
    monkeypatch.setattr(calibrate_guided, "best_confidence", best)
    found, _ = calibrate_guided.fewest_prompts(["image"], GuidedSettings(), labels)  # type: ignore[list-item]
    assert len(found.guides) == wanted
