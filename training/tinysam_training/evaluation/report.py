"""Results of an evaluation as means, intervals, a table and files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.files.atomic import write_text
from napari_tinysam.metrics import (
    THRESHOLDS,
    MatchCounts,
    bootstrap_interval,
    pooled,
)
from tinysam_training.evaluation.evaluate import figure_names

if TYPE_CHECKING:
    from pathlib import Path

    from tinysam_training.evaluation.evaluate import Evaluation, ImageResult

Figures = dict[str, float | None]

#: Figures of the table and their headings.
_COLUMNS = {
    "box_iou": "box",
    "loose_box_iou": "loose",
    "click1_iou": "1 click",
    "off_click_iou": "off centre",
    "click1_oracle": "best of 3",
    "click3_iou": "3 clicks",
    "clicks_to_85": "to 0.85",
    "score_error": "score err.",
    "msa": "mSA",
    "ap50": "AP50",
    "head_msa": "mSA, head",
}

#: Descriptions of `mSA` and `AP50` in the table, by the mode of segmentation.
_MODES = {
    "guided": "Auto-segment, the search that the object head guides",
    "hierarchical": "Auto-segment, the grid of points",
}


def means(results: Iterable[ImageResult]) -> Figures:
    """Mean of each figure over the images that have it; None where no image has."""
    columns: dict[str, list[float]] = {}
    for result in results:
        for name, value in result.figures.items():
            columns.setdefault(name, []).extend([] if value is None else [value])
    return {
        name: float(np.mean(values)) if values else None
        for name, values in columns.items()
    }


def intervals(results: Sequence[ImageResult]) -> dict[str, tuple[float, float] | None]:
    """95 % bootstrap interval over images of each of `means`."""
    found: dict[str, tuple[float, float] | None] = {}
    for name in results[0].figures if results else ():
        values = [value for r in results if (value := r.figures[name]) is not None]
        found[name] = bootstrap_interval(values) if values else None
    return found


def mean_over_sets(evaluation: Evaluation) -> Figures:
    """Mean of each figure over the sets that have it; each set counts once."""
    of_sets = [means(results) for results in evaluation.by_set.values()]
    names = figure_names(evaluation.settings)
    found: Figures = {}
    for name in names:
        values = [value for each in of_sets if (value := each[name]) is not None]
        found[name] = float(np.mean(values)) if values else None
    return found


def pooled_counts(
    results: Iterable[ImageResult], *, head: bool = False
) -> list[MatchCounts] | None:
    """Count matches at each of `THRESHOLDS`, with the objects of all images pooled.

    Of the automatic segmentation, or of the object head alone.
    """
    rows = _known_counts(results, head)
    if not rows:
        return None
    return [pooled(column) for column in zip(*rows, strict=True)]


def accuracies(
    results: Iterable[ImageResult], *, head: bool = False
) -> list[float] | None:
    """Segmentation accuracy at each of `THRESHOLDS`, mean over images; None without any.

    Of the automatic segmentation, or of the object head alone.
    """
    rows = [
        [count.accuracy for count in counts] for counts in _known_counts(results, head)
    ]
    return [float(value) for value in np.mean(rows, axis=0)] if rows else None


def _known_counts(
    results: Iterable[ImageResult], head: bool
) -> list[tuple[MatchCounts, ...]]:
    found = (result.head_counts if head else result.counts for result in results)
    return [counts for counts in found if counts is not None]


def automatic_mode(evaluation: Evaluation) -> str | None:
    """Mode of segmentation behind ``msa``; None where nothing was segmented."""
    modes = {result.mode for result in evaluation.results if result.counts is not None}
    return modes.pop() if len(modes) == 1 else None


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """Everything in an evaluation that fits JSON.

    Returns
    -------
    dict
        The `means` over all images at the top (``box_iou``, ``click1_iou``, ``click3_iou``,
        ``clicks_to_85``, ``msa``, ``ap50``, ``head_msa``, ``score_error`` and the other figures of
        `ImageResult`), ``intervals`` of them, ``mean_over_sets``, ``pooled`` (of objects instead of
        images), ``accuracy`` by threshold, ``head_pooled`` and ``head_accuracy`` of the object head
        alone, ``sets`` with the same for each set, and what was measured: ``model``, ``runtime``,
        ``automatic`` (how the objects behind ``msa`` were found), ``images``, ``objects``,
        ``settings``. Missing values are null.
    """
    settings = asdict(evaluation.settings)
    del settings["keep_masks"]
    return {
        "model": evaluation.model,
        "runtime": evaluation.runtime,
        "automatic": automatic_mode(evaluation),
        **_block(evaluation.results),
        "mean_over_sets": mean_over_sets(evaluation),
        "thresholds": list(THRESHOLDS),
        "settings": settings,
        "sets": {name: _block(rows) for name, rows in evaluation.by_set.items()},
    }


def _block(results: Sequence[ImageResult]) -> dict[str, Any]:
    counts, of_head = pooled_counts(results), pooled_counts(results, head=True)
    return {
        "images": len(results),
        "objects": sum(result.objects for result in results),
        **means(results),
        "intervals": intervals(results),
        "accuracy": accuracies(results),
        "pooled": None if counts is None else _pooled_block(counts),
        "head_accuracy": accuracies(results, head=True),
        "head_pooled": None if of_head is None else _pooled_block(of_head),
    }


def _pooled_block(counts: Sequence[MatchCounts]) -> dict[str, Any]:
    half = counts[THRESHOLDS.index(0.5)]
    return {
        "accuracy": [count.accuracy for count in counts],
        "ap50": half.accuracy,
        "precision50": half.precision,
        "recall50": half.recall,
        "f1_50": half.f1,
        "pq50": half.panoptic_quality,
        "true_objects": half.true_positives + half.false_negatives,
        "found_objects": half.true_positives + half.false_positives,
    }


def table(evaluation: Evaluation) -> str:
    """Readable lines: a row for each set, all images, and the interval of their mean."""
    results = evaluation.results
    rows = [["", "images", "objects", *_COLUMNS.values()]]
    sets = evaluation.by_set
    for name, some in sets.items():
        rows.append(_row(name, some, means(some)))
    if len(sets) > 1:
        rows.append(["mean of sets", "", "", *_cells(mean_over_sets(evaluation))])
        rows.append(_row("all images", results, means(results)))
    ends = intervals(results)
    for name, end in (("  95 % from", 0), ("  95 % to", 1)):
        values = {
            key: None if pair is None else pair[end] for key, pair in ends.items()
        }
        rows.append([name, "", "", *_cells(values)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *others = (
            cell.ljust(width) if not i else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    mode = automatic_mode(evaluation)
    if mode is not None:
        lines.append(f"mSA and AP50: {_MODES.get(mode, mode)}")
    return "\n".join(lines)


def _row(name: str, results: Sequence[ImageResult], figures: Figures) -> list[str]:
    objects = sum(result.objects for result in results)
    return [name, str(len(results)), str(objects), *_cells(figures)]


def _cells(figures: Figures) -> list[str]:
    values = [figures.get(name) for name in _COLUMNS]
    return ["–" if value is None else f"{value:.3f}" for value in values]


def write_json(path: Path, evaluation: Evaluation) -> None:
    """Write `summary`; raises `FileError` if that fails."""
    text = json.dumps(summary(evaluation), indent=2, allow_nan=False)
    write_text(path, text)


def write_csv(path: Path, evaluation: Evaluation) -> None:
    """Write a row of figures for each image; raises `FileError` if that fails."""
    names = figure_names(evaluation.settings)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "set", "objects", *names])
    for result in evaluation.results:
        values = [result.figures[name] for name in names]
        writer.writerow(
            [
                result.name,
                result.dataset,
                result.objects,
                *("" if value is None else f"{value:.6g}" for value in values),
            ]
        )
    write_text(path, text.getvalue())


def ranked(results: Iterable[ImageResult]) -> list[ImageResult]:
    """Results from worst to best, by the mean of the figures for a box, a click and no prompt."""

    def quality(result: ImageResult) -> float:
        names = ["box_iou", "click1_iou", "msa" if result.counts else "head_msa"]
        values = [result.figures[name] for name in names]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else math.inf

    return sorted(results, key=quality)
