"""The simulated annotator: what is counted, and when the model is adapted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fake_predictor import disc_predictor
from tinysam_training.data import ImageEntry
from tinysam_training.evaluation import annotator as module
from tinysam_training.evaluation.annotator import (
    AnnotatedResult,
    AnnotatorSettings,
    annotate,
    annotate_images,
    summary,
)
from tinysam_training.labelled_image import LabelledImage

_PLACES = ((5, 5), (5, 30), (30, 5), (30, 30))


def image(name: str = "a") -> LabelledImage:
    """Four squares."""
    labels = np.zeros((50, 50), np.int32)
    for number, (y, x) in enumerate(_PLACES, start=1):
        labels[y : y + 10, x : x + 10] = number
    return LabelledImage.from_arrays(name, "set", labels.astype(np.uint8) * 50, labels)


@pytest.fixture
def clicks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Each object is right with the second click, but the last one never."""
    asked: list[int] = []

    def simulate(predictor: Any, embedding: Any, truth: Any, clicks: int) -> Any:
        asked.append(len(truth))
        iou = np.full((len(truth), clicks), 0.9)
        iou[:, 0] = 0.5
        iou[-1] = 0.3

        return SimpleNamespace(iou=iou, last=list(truth))

    monkeypatch.setattr(module, "simulate_clicks", simulate)
    return asked


def test_gestures_are_counted(
    clicks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = image()
    # Two squares are found, one of them badly; one find is nothing at all.
    found = np.zeros((50, 50), np.int32)
    found[5:15, 5:15], found[5:8, 30:40], found[45:48, 45:48] = 1, 2, 3
    monkeypatch.setattr(module, "segment_everything", lambda *_: found)
    predictor, _ = disc_predictor()
    result, labels = annotate(predictor, truth, AnnotatorSettings(clicks=6))
    assert (result.objects, result.accepted, result.painted) == (4, 1, 1)
    # commit, accept all, two deletions, two objects of two clicks, six in vain
    assert result.gestures == 1 + 1 + 2 + 4 + 6
    assert np.array_equal(labels, truth.labels[0])
    without, _ = annotate(
        predictor, truth, AnnotatorSettings(clicks=6, automatic=False)
    )
    assert without.gestures == 1 + 6 + 6
    assert clicks == [3, 4]


def test_the_model_is_adapted_after_each_five_images(
    clicks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module, "segment_everything", lambda *_: np.zeros((50, 50), np.int32)
    )
    entries = [
        ImageEntry(str(n), "set", True, lambda n=n: image(str(n)), str(n))  # type: ignore[misc]
        for n in range(12)
    ]
    first, _ = disc_predictor()
    second, _ = disc_predictor()
    learnt: list[int] = []

    def adapt(annotated: Any) -> Any:
        learnt.append(len(annotated))
        assert all(entry.read().labels.any() for entry in annotated)
        return second if len(learnt) == 1 else None

    results = list(annotate_images(first, entries, adapt=adapt))
    assert learnt == [5, 10]
    assert [result.adapted for result in results] == [0] * 5 + [1] * 7


def test_figures_are_per_object() -> None:
    rows = [
        AnnotatedResult("a", 10, 5, 20, 1, 4.0),
        AnnotatedResult("b", 30, 5, 20, 1, 4.0),
    ]
    found = summary(rows)
    assert found["gestures"] == 1.0
    assert found["seconds"] == 0.2
    assert found["accepted"] == 0.25
    assert summary([])["objects"] == 0
