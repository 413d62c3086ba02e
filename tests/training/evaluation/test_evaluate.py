"""Evaluation of models whose masks are known, its report, its pictures."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from analytic_runtime import AnalyticRuntime
from napari_tinysam import Predictor
from napari_tinysam.errors import DataError
from napari_tinysam.everything import (
    LabelSettings,
    SearchSettings,
    Thresholds,
    segment_everything,
)
from napari_tinysam.everything.thresholds import NOTE
from napari_tinysam.masks import BoxedMask
from napari_tinysam.metrics import THRESHOLDS, MatchCounts, object_overlaps
from napari_tinysam.objects.maps import boundary_distance, centre_distance
from tinysam_training.data import ImageEntry, LabelledImage
from tinysam_training.evaluation.boxes import tight_boxes
from tinysam_training.evaluation.evaluate import (
    Evaluation,
    EvaluationSettings,
    ImageResult,
    chosen_objects,
    evaluate,
    evaluate_image,
    figure_names,
)
from tinysam_training.evaluation.point_protocol import point_curve
from tinysam_training.evaluation.report import (
    intervals,
    mean_over_sets,
    means,
    pooled_counts,
    summary,
    table,
    write_csv,
)

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 128  # a pixel is 8 × 8 of the frame, 2 × 2 mask logits


def squares(*corners: tuple[int, int, int]) -> np.ndarray:
    """(128, 128) labels: x, y and side of each."""
    labels = np.zeros((SIZE, SIZE), np.int32)
    for number, (x, y, side) in enumerate(corners, start=1):
        labels[y : y + side, x : x + side] = number
    return labels


LABELS = squares((5, 5, 20), (60, 10, 15), (20, 60, 30), (90, 90, 10))


def image(
    labels: np.ndarray = LABELS,
    name: str = "a",
    dataset: str = "squares",
    complete: bool = True,
) -> LabelledImage:
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    return LabelledImage.from_arrays(name, dataset, pixels, labels, complete=complete)


def entry(picture: LabelledImage) -> ImageEntry:
    return ImageEntry(
        picture.name,
        picture.dataset,
        picture.complete,
        partial(_same, picture),
        "0",
    )


def _same(picture: LabelledImage) -> LabelledImage:
    return picture


def ideal_maps(labels: np.ndarray) -> np.ndarray:
    layers = [
        labels > 0,
        centre_distance(labels) / 255,
        boundary_distance(labels) / 255,
    ]
    return np.repeat(np.repeat(np.stack(layers), 2, 1), 2, 2).astype(np.float32)


def predictor(
    maps: np.ndarray | None = None, thresholds: Thresholds | None = None
) -> Predictor:
    found = Predictor(AnalyticRuntime(maps), name="geometry", model_id="g")
    if thresholds is not None:
        found.notes = {NOTE: thresholds.to_note()}
    return found


FEW = EvaluationSettings(clicks=3, automatic=False)
WITH_MASKS = EvaluationSettings(keep_masks=True, automatic=False)


# ------------------------------------------------------------ what is measured


def test_boxes_and_their_scores() -> None:
    """The runtime fills the box it gets, and predicts 0.9 for that."""
    result = evaluate_image(predictor(), image(), WITH_MASKS)
    assert result.prompted is not None
    ious = []
    for (x0, y0, x1, y1), mask in zip(
        result.prompted.boxes, result.prompted.by_box.masks, strict=True
    ):
        true = np.zeros((SIZE, SIZE), bool)
        true[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1] = True
        ious.append(BoxedMask.from_full(true).iou(mask))
    assert min(ious) > 0.8
    assert result.figures["box_iou"] == pytest.approx(np.mean(ious))
    assert result.objects == 4
    error = np.abs(0.9 - np.array(ious)).mean()
    assert result.figures["box_score_error"] == pytest.approx(error)
    assert result.scores == pytest.approx(0.9)
    both = np.abs(result.scores - result.ious).mean()
    assert result.figures["score_error"] == pytest.approx(both)
    # Each side is off by .075 of the extent on average.
    loose = result.figures["loose_box_iou"]
    assert loose is not None
    assert 0.6 < loose < 0.95
    # A disc beside the middle of a square fills less of it than one in the middle.
    off, centred = result.figures["off_click_iou"], result.figures["click1_iou"]
    assert off is not None
    assert centred is not None
    assert 0 < off <= centred


def test_clicks() -> None:
    result = evaluate_image(predictor(), image(), WITH_MASKS)
    figures = result.figures
    assert result.prompted is not None
    curve = result.prompted.clicks.iou.mean(axis=0)
    for n in range(1, 10):
        assert figures[f"click{n}_iou"] == pytest.approx(curve[n - 1])
    # Discs of 7.5 pixels for each click never fill squares this well.
    assert figures["clicks_to_90"] == 10
    needed = [
        next((n for n, iou in enumerate(row, start=1) if iou >= 0.8), 10)
        for row in result.prompted.clicks.iou
    ]
    assert figures["clicks_to_80"] == np.mean(needed)
    oracle = figures["click1_oracle"]
    assert oracle is not None
    assert oracle >= curve[0]


def test_fewer_clicks_leave_figures_out() -> None:
    two = EvaluationSettings(clicks=2, automatic=False)
    figures = evaluate_image(predictor(), image(), two).figures
    assert figures["click3_iou"] is None
    assert figures["click2_iou"] is not None
    assert figures["clicks_to_90"] == 3
    without = EvaluationSettings(clicks=1, loose=0, off_centre=0, automatic=False)
    figures = evaluate_image(predictor(), image(), without).figures
    assert figures["loose_box_iou"] is None
    assert figures["off_click_iou"] is None


def test_objects_are_chosen_by_name_and_from_all_layers() -> None:
    layers = np.stack([LABELS, squares((0, 0, 100))])
    one = image(layers)
    everything = chosen_objects(one, EvaluationSettings(objects=0))
    assert sorted(mask.area for mask in everything) == [100, 225, 400, 900, 10_000]
    some = EvaluationSettings(objects=2)
    first = tight_boxes(chosen_objects(one, some)).tolist()
    assert len(first) == 2
    assert tight_boxes(chosen_objects(one, some)).tolist() == first
    others = [
        tight_boxes(chosen_objects(image(layers, name), some)).tolist()
        for name in "bcdefgh"
    ]
    assert any(other != first for other in others)
    assert [5, 5, 24, 24] in tight_boxes(everything).tolist()


def test_all_objects_at_once_by_the_object_head() -> None:
    maps = ideal_maps(LABELS)
    figures = evaluate_image(predictor(maps), image(), FEW).figures
    assert figures["head_ap50"] == 1
    msa = figures["head_msa"]
    assert msa is not None
    assert msa > 0.8
    without_one = squares((5, 5, 20), (60, 10, 15), (20, 60, 30))
    result = evaluate_image(predictor(maps), image(without_one), FEW)
    assert result.figures["head_ap50"] == result.figures["head_precision50"] == 3 / 4
    assert result.figures["head_recall50"] == 1
    assert result.head_counts is not None
    assert result.head_counts[0].false_positives == 1
    assert result.mode == "head"
    assert result.figures["msa"] is result.counts is None  # it was not asked for


#: Of the model that `predictor` makes; its grid is decoded quickly.
QUICK = Thresholds(
    search=SearchSettings(
        points_per_side=8, score_threshold=0.5, stability_threshold=0.0
    ),
    labels=LabelSettings(confidence=0.5),
    guided_labels=LabelSettings(confidence=0.1),
)


@pytest.mark.parametrize("head", [True, False])
def test_automatic_is_what_the_button_gives(head: bool) -> None:
    """Not what the object head gives: discs around prompts, while the head sees the squares."""
    model = predictor(ideal_maps(LABELS) if head else None, QUICK)
    settings = EvaluationSettings(clicks=1, keep_masks=True)
    found = evaluate_image(model, image(), settings)
    button = segment_everything(image().rgb, model)
    assert found.automatic is not None
    np.testing.assert_array_equal(found.automatic, button)
    assert button.max() > 0
    overlaps = object_overlaps(LABELS, button, None)
    accuracies = [overlaps.counts(threshold).accuracy for threshold in THRESHOLDS]
    assert found.figures["msa"] == pytest.approx(np.mean(accuracies))
    assert found.mode == ("guided" if head else "hierarchical")
    if head:
        alone = evaluate_image(model, image(), FEW).figures["head_msa"]
        assert found.figures["head_msa"] == alone != found.figures["msa"]
    else:
        assert found.figures["head_msa"] is found.head_counts is None


def test_without_object_head_it_finds_nothing() -> None:
    result = evaluate_image(predictor(), image(), FEW)
    assert result.figures["msa"] is result.figures["head_msa"] is None
    assert result.counts is result.head_counts is None
    assert result.mode == ""


@pytest.mark.parametrize("automatic", [True, False])
def test_partly_annotated(automatic: bool) -> None:
    """What is found where nobody drew is not wrong."""
    drawn = image(squares((5, 5, 20), (60, 10, 15)), complete=False)
    settings = replace(FEW, automatic=automatic)
    result = evaluate_image(predictor(ideal_maps(LABELS), QUICK), drawn, settings)
    for counts in (result.head_counts, *[result.counts] * automatic):
        assert counts is not None
        assert counts[0].false_positives == 0
    assert result.figures["head_ap50"] == 1


def test_an_image_without_objects() -> None:
    nothing = image(np.zeros((SIZE, SIZE), int))
    result = evaluate_image(predictor(ideal_maps(LABELS)), nothing, FEW)
    assert result.objects == 0
    assert result.figures["box_iou"] is None
    assert result.figures["head_msa"] == 0
    none = np.zeros((3, 256, 256), np.float32)
    both = replace(FEW, automatic=True)
    figures = evaluate_image(predictor(none, QUICK), nothing, both).figures
    assert figures["msa"] == figures["head_msa"] == 1


def test_evaluate_reports_progress() -> None:
    entries = [entry(image(name=name)) for name in "ab"]
    seen = []
    found = evaluate(predictor(), entries, FEW, lambda *n: seen.append(n))
    assert seen == [(1, 2), (2, 2)]
    assert [result.name for result in found.results] == ["a", "b"]
    assert (found.model, found.runtime) == ("geometry", "geometry")


@pytest.mark.parametrize(
    "wrong",
    [{"objects": -1}, {"clicks": 0}, {"loose": -0.1}, {"off_centre": 1.0}],
)
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is"):
        EvaluationSettings(**wrong)


# ------------------------------------------------------------ means


def result(
    name: str, dataset: str, box: float | None, msa: float | None
) -> ImageResult:
    figures: dict[str, float | None] = dict.fromkeys(figure_names(FEW))
    figures |= {"box_iou": box, "msa": msa}
    counts = None if msa is None else (MatchCounts(int(10 * msa), 1, 2),) * 10
    none = np.zeros(0)
    return ImageResult(name, dataset, 2, figures, none, none, counts, mode="guided")


RESULTS = (
    result("a", "x", 0.5, 0.2),
    result("b", "x", 0.7, None),
    result("c", "y", None, 0.6),
    result("d", "y", 0.9, 0.4),
)
EVALUATION = Evaluation("m", "r", FEW, RESULTS)


def test_means_are_over_images_that_have_the_figure() -> None:
    found = means(RESULTS)
    assert found["box_iou"] == pytest.approx(0.7)
    assert found["msa"] == pytest.approx(0.4)
    assert found["click1_iou"] is None
    sets = mean_over_sets(EVALUATION)
    assert sets["box_iou"] == pytest.approx((0.6 + 0.9) / 2)
    assert sets["msa"] == pytest.approx((0.2 + 0.5) / 2)
    interval = intervals(RESULTS)["box_iou"]
    assert interval is not None
    assert 0.5 <= interval[0] < 0.7 < interval[1] <= 0.9
    pooled = pooled_counts(RESULTS)
    assert pooled is not None
    assert pooled[0] == MatchCounts(12, 3, 6)


def test_summary_fits_json_and_has_the_agreed_keys() -> None:
    content = json.loads(json.dumps(summary(EVALUATION), allow_nan=False))
    for name in (
        "box_iou",
        "click1_iou",
        "click3_iou",
        "clicks_to_85",
        "msa",
        "ap50",
        "score_error",
    ):
        assert name in content
        assert name in content["intervals"]
        assert name in content["sets"]["x"]
        assert name in content["sets"]["x"]["intervals"]
        assert name in content["mean_over_sets"]
    assert content["box_iou"] == pytest.approx(0.7)
    assert content["images"] == 4
    assert content["objects"] == 8
    assert content["sets"]["y"]["msa"] == pytest.approx(0.5)
    assert content["pooled"]["true_objects"] == 18
    assert content["settings"]["clicks"] == 3
    assert content["automatic"] == "guided"
    assert content["head_pooled"] is None


def test_table_and_csv(tmp_path: Path) -> None:
    lines = table(EVALUATION).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        "x",
        "y",
        "mean",
        "all",
        "95",
        "95",
        "mSA",
    ]
    assert lines[0].split("  ")[-3:] == ["mSA", "AP50", "mSA, head"]
    assert lines[-1].endswith("the search that the object head guides")
    assert "0.700" in lines[4]
    assert "–" in lines[4]
    write_csv(tmp_path / "images.csv", EVALUATION)
    with open(tmp_path / "images.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == list("abcd")
    assert float(rows[0]["box_iou"]) == 0.5
    assert rows[2]["box_iou"] == ""


# ------------------------------------------------------------ points as in the papers


def test_point_curve_is_a_mean_over_masks() -> None:
    pictures = [
        image(squares((5, 5, 20)), "a"),
        image(squares((9, 9, 15), (50, 50, 8))),
    ]
    empty = image(np.zeros((SIZE, SIZE), int), "c")
    found = point_curve(
        predictor(), [entry(p) for p in (*pictures, empty)], 2, feed_back=False
    )
    settings = EvaluationSettings(
        clicks=2, drop_specks=False, objects=0, automatic=False
    )
    ious = [evaluate_image(predictor(), p, settings) for p in pictures]
    assert found.masks == 3
    for n in (1, 2):
        first, second = (r.figures[f"click{n}_iou"] for r in ious)
        assert first is not None
        assert second is not None
        assert found.iou[n - 1] == pytest.approx((first + 2 * second) / 3)
    assert all(o >= i for o, i in zip(found.oracle, found.iou, strict=True))
    figures = found.figures()
    assert list(figures)[:3] == ["masks", "points1_iou", "points1_oracle"]
    assert figures["points2_oracle"] == found.oracle[1]
    with pytest.raises(DataError, match="no objects"):
        point_curve(predictor(), [entry(empty)], 2)
