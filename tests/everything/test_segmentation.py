"""Segment everything: the modes, the guided search, and the model's own thresholds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from everything.scene import SceneRuntime, scene
from napari_tinysam.everything import (
    GuidedSearch,
    GuidedSettings,
    LabelSettings,
    Search,
    SearchSettings,
    Segmentation,
    Thresholds,
    segment_everything,
)
from napari_tinysam.everything.thresholds import NOTE
from napari_tinysam.inference.predictor import Predictor

#: In pixels of the frame, which has 1024 of them; the image has 512.
DISCS = [
    (200.0, 220.0, 90.0),
    (420.0, 300.0, 60.0),
    (700.0, 180.0, 45.0),
    (650.0, 700.0, 50.0),
]

LOW = Thresholds(
    search=SearchSettings(
        score_threshold=0.5, stability_threshold=0.5, points_per_side=16
    ),
    labels=LabelSettings(confidence=0.6),
)


def iou_with_discs(labels: np.ndarray, discs: list[tuple[float, ...]]) -> list[float]:
    """IoU of each disc with the label in its middle."""
    y, x = np.mgrid[:512, :512] * 2 + 0.5
    found = []
    for cx, cy, radius in discs:
        truth = np.hypot(x - cx, y - cy) <= radius
        label = labels[int(cy / 2), int(cx / 2)]
        mask = (labels == label) & (label > 0)
        found.append((truth & mask).sum() / (truth | mask).sum())
    return found


@pytest.mark.parametrize("mode", ["guided", "hierarchical", "dense", "head"])
def test_every_mode_finds_the_objects(mode: str) -> None:
    predictor, embedding, runtime = scene(DISCS, seen=DISCS)
    found = Segmentation(predictor, embedding, mode, thresholds=LOW).run()
    labels = found.labels().labels
    assert labels.max() == len(DISCS)
    # The head's distances end at its own resolution.
    assert min(iou_with_discs(labels, DISCS)) > (0.85 if mode == "head" else 0.95)
    assert len(runtime.points) == found.report.decoded
    if mode == "head":
        assert found.report.decoded == 0


def test_auto_is_what_the_model_can_do() -> None:
    for seen, mode in ((DISCS, "guided"), (None, "hierarchical")):
        predictor, embedding, _ = scene(DISCS, seen=seen)
        assert Segmentation(predictor, embedding).mode == mode
    with pytest.raises(ValueError, match="no object head"):
        Segmentation(predictor, embedding, "guided")
    with pytest.raises(ValueError, match="no mode"):
        Segmentation(predictor, embedding, "blind")  # type: ignore[arg-type]


def test_the_guided_search_asks_once_an_object() -> None:
    predictor, embedding, runtime = scene(DISCS, seen=DISCS)
    search = GuidedSearch(predictor, embedding, grid=LOW.search)
    for _ in search:
        pass
    assert len(runtime.points) == len(DISCS)
    assert {proposal.source for proposal in search.proposals} == {"prompt"}
    for cx, cy, radius in DISCS:
        away = [np.hypot(x - cx, y - cy) for x, y in runtime.points]
        assert min(away) < radius / 4


def test_every_guide_is_asked() -> None:
    predictor, embedding, runtime = scene(DISCS, seen=DISCS)
    settings = GuidedSettings(guides=("point", "box", "point_and_box"), fill=False)
    search = GuidedSearch(predictor, embedding, settings)
    for _ in search:
        pass
    assert search.report.decoded == len(runtime.points) == 3 * len(DISCS)
    assert len(search.proposals) == len(DISCS)


def test_what_the_head_does_not_see_as_objects_is_asked_by_the_grid() -> None:
    """The head takes two discs for one place of foreground, whose middle is the first."""
    discs = [(300.0, 300.0, 60.0), (420.0, 300.0, 60.0)]
    predictor, embedding, runtime = scene(discs, seen=[(360.0, 300.0, 125.0)])
    settings = GuidedSettings(agreement=0.0, trust=0.0)
    search = GuidedSearch(predictor, embedding, settings, LOW.search)
    for _ in search:
        pass
    assert {proposal.source for proposal in search.proposals} == {"prompt", "grid"}
    # Only points in foreground are asked, and none in what was explained.
    for x, y in runtime.points[1:]:
        assert np.hypot(x - 360, y - 300) < 130
        assert np.hypot(x - 420, y - 300) > 50 or np.hypot(x - 300, y - 300) > 50
    found = Segmentation(
        predictor,
        embedding,
        "guided",
        thresholds=Thresholds(LOW.search, settings, LOW.labels, LOW.labels),
    ).run()
    assert min(iou_with_discs(found.labels().labels, discs)) > 0.9
    without = GuidedSearch(predictor, embedding, GuidedSettings(fill=False))
    for _ in without:
        pass
    assert without.report.decoded == 1


def test_the_heads_outline_stays_where_the_decoder_means_something_else() -> None:
    predictor, embedding, _ = scene(
        [(200.0, 220.0, 20.0)], seen=[(200.0, 220.0, 90.0), (700.0, 180.0, 45.0)]
    )
    search = GuidedSearch(predictor, embedding, GuidedSettings(fill=False))
    for _ in search:
        pass
    assert [proposal.source for proposal in search.proposals] == ["head", "head"]
    # The head's own maps confirm them, the decoder does not.
    assert all(0.6 < proposal.score < 0.7 for proposal in search.proposals)


def test_objects_that_the_heads_maps_contradict_are_worth_less() -> None:
    """Of two discs that the decoder gives alike, the head is not sure of the second."""

    class Doubtful(SceneRuntime):
        def object_maps(self, features: Any) -> np.ndarray | None:
            maps = super().object_maps(features)
            assert maps is not None
            right = maps[:, :, 128:]
            right[0] *= 0.7
            right[1:] = np.where(right[0] > 0, 0.5, right[1:])
            return maps

    discs = [(200.0, 220.0, 60.0), (700.0, 220.0, 60.0)]
    predictor = Predictor(Doubtful(discs, seen=discs), name="discs", model_id="discs")
    embedding = predictor.encode(np.zeros((512, 512), np.uint8))
    search = GuidedSearch(predictor, embedding, GuidedSettings(fill=False))
    for _ in search:
        pass
    sure, doubtful = sorted(search.proposals, key=lambda p: p.point)
    assert sure.source == doubtful.source == "prompt"
    assert doubtful.score < sure.score - 0.15


def test_finds_of_the_grid_are_worth_what_head_and_decoder_both_say() -> None:
    class Unsure(SceneRuntime):
        def object_maps(self, features: Any) -> np.ndarray | None:
            maps = super().object_maps(features)
            assert maps is not None
            maps[0] *= 0.6
            return maps

    discs = [(300.0, 300.0, 60.0), (420.0, 300.0, 60.0)]
    runtime = Unsure(discs, seen=[(360.0, 300.0, 125.0)])
    predictor = Predictor(runtime, name="discs", model_id="discs")
    embedding = predictor.encode(np.zeros((512, 512), np.uint8))
    settings = GuidedSettings(agreement=0.0, trust=0.0)
    search = GuidedSearch(predictor, embedding, settings, LOW.search)
    for _ in search:
        pass
    grid = [each for each in search.proposals if each.source == "grid"]
    assert grid
    for each in grid:
        assert 0.5 < each.score < 0.6 * 0.95
    cautious = GuidedSearch(
        predictor, embedding, replace(settings, fill_worth=0.5), LOW.search
    )
    for _ in cautious:
        pass
    halves = [each.score for each in cautious.proposals if each.source == "grid"]
    assert halves == pytest.approx([each.score / 2 for each in grid])


def test_the_grid_does_not_ask_about_rims() -> None:
    """The head sees discs a little larger than the decoder draws them."""
    seen = [(x, y, radius + 6) for x, y, radius in DISCS]
    predictor, embedding, runtime = scene(DISCS, seen=seen)
    grid = SearchSettings(score_threshold=0.0, points_per_side=64)
    search = GuidedSearch(predictor, embedding, GuidedSettings(), grid)
    for _ in search:
        pass
    assert len(runtime.points) == len(DISCS)


def test_only_the_wanted_part_is_looked_at() -> None:
    where = np.zeros((512, 512), bool)
    where[:, :256] = True
    for mode in ("guided", "hierarchical", "head"):
        predictor, embedding, runtime = scene(DISCS, seen=DISCS)
        found = Segmentation(predictor, embedding, mode, thresholds=LOW, where=where)
        labels = found.run().labels().labels
        assert labels.max() == 2, mode
        assert all(x < 512 + 20 for x, _ in runtime.points)


def test_it_can_be_left_at_any_time() -> None:
    predictor, embedding, _ = scene(DISCS)
    found = Segmentation(predictor, embedding, thresholds=LOW)
    assert len(found.proposals) == 0
    for step in found:
        if step.new:
            break
    assert 0 < step.done < step.total
    assert 0 < found.labels().labels.max() < len(DISCS)


def test_results_do_not_depend_on_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_tinysam.everything import guided, search

    discs = [*DISCS, (300.0, 600.0, 60.0), (430.0, 620.0, 70.0)]
    results = []
    for size in (16, 3, 100):
        monkeypatch.setattr(guided, "_REPORT_EVERY", size)
        monkeypatch.setattr(search, "_REPORT_EVERY", size)
        for mode in ("guided", "hierarchical"):
            predictor, embedding, runtime = scene(
                discs, seen=[*DISCS, (365.0, 610.0, 140.0)]
            )
            found = Segmentation(predictor, embedding, mode, thresholds=LOW).run()
            results.append((mode, found.labels().labels, sorted(runtime.points)))
    for mode, labels, points in results[2:]:
        first = results[0] if mode == "guided" else results[1]
        np.testing.assert_array_equal(labels, first[1])
        assert points == first[2]


def test_the_function_gives_labels() -> None:
    predictor, _, _ = scene(DISCS, seen=DISCS)
    image = np.zeros((512, 512), np.uint16)
    labels = segment_everything(image, predictor, thresholds=LOW)
    assert labels.shape == (512, 512)
    assert labels.dtype == np.int32
    assert labels.max() == len(DISCS)
    none = segment_everything(
        image, predictor, thresholds=LOW, settings=LabelSettings(confidence=0.99)
    )
    assert not none.any()


# ---------------------------------------------------------------- the model's thresholds


def test_thresholds_come_back_from_a_note() -> None:
    mine = Thresholds(
        search=SearchSettings(confident_logit=3.5, score_threshold=0.4),
        guided=GuidedSettings(guides=("point", "box"), agreement=0.3),
        guided_labels=LabelSettings(confidence=0.2, parts=0.0),
    )
    back = Thresholds.from_notes({NOTE: mine.to_note()})
    assert back.search == mine.search
    assert back.guided == mine.guided
    assert back.guided_labels == mine.guided_labels
    # Whoever made the model: what is as by default is stored too.
    ours = {"made_by": "napari-tinysam", NOTE: Thresholds().to_note()}
    assert Thresholds.from_notes(ours) == Thresholds()


@pytest.mark.parametrize(
    "note",
    [
        "", "no json", "[]", "3", '{"search": 5}', '{"search": {"unknown": 1}}',
        '{"search": {"lattice": "spiral"}}', '{"labels": {"confidence": "high"}}',
        '{"guided": {"guides": ["lasso"]}}', '{"guided": {"objects": {"smoothing": -1}}}',
    ],
)  # fmt: skip
def test_a_foreign_note_changes_nothing(note: str) -> None:
    assert Thresholds.from_notes({NOTE: note}) == Thresholds.of_sam()
    assert Thresholds.from_notes({}) == Thresholds.of_sam()


def test_settings_that_are_no_more_are_passed_over() -> None:
    """Notes of models up to version 0.4 say how many mirror images are looked at."""
    stored = json.dumps({"guided": {"mirrors": 2, "agreement": 0.7}})
    found = Thresholds.from_notes({NOTE: stored})
    assert found.guided == GuidedSettings(agreement=0.7)


def test_a_model_of_our_own_training_finds_something_without_calibration() -> None:
    ours = Thresholds.from_notes({"made_by": "napari-tinysam finetune"})
    sam = Thresholds.from_notes({})
    assert ours.search.score_threshold < 0.5 < sam.search.score_threshold
    assert ours.labels.confidence < 0.5 < sam.labels.confidence
    stored = json.dumps({"labels": {"confidence": 0.55}})
    calibrated = Thresholds.from_notes({"made_by": "napari-tinysam", NOTE: stored})
    assert calibrated.labels.confidence == 0.55


def test_a_models_thresholds_are_used() -> None:
    note = json.dumps({"labels": {"confidence": 0.6}, "search": {"points_per_side": 8}})
    predictor = Predictor(
        SceneRuntime(DISCS), name="discs", model_id="discs", notes={NOTE: note}
    )
    found = Segmentation(predictor, predictor.encode(np.zeros((512, 512), np.uint8)))
    assert found.thresholds.search.points_per_side == 8
    found.run()
    assert isinstance(found._search, Search)
    assert found.settings.confidence == 0.6
    assert found.report.points == 64
