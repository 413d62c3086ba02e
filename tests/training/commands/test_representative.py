"""Images that stand for the others: neither the easiest nor the hardest."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tinysam_training.commands import representative as module
from tinysam_training.commands.representative import MANY, most_usual
from tinysam_training.labelled_image import ImageEntry
from tinysam_training.run.held_out import hold_out, split_images
from tinysam_training.run.seen import Seen


def entry(name: str) -> ImageEntry:
    def read() -> Any:
        raise AssertionError("not read")

    return ImageEntry(name, "set", True, read, name, (), name)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What a model makes of each image, by its name."""
    known: dict[str, float] = {}

    def evaluate(predictor: Any, entries: list[ImageEntry], settings: Any) -> Any:
        assert predictor == "model"
        (one,) = entries
        value = known[one.name]
        return SimpleNamespace(results=[value])

    def means(results: list[float]) -> dict[str, float | None]:
        return {"box_iou": results[0], "click1_iou": results[0], "head_msa": None}

    monkeypatch.setattr(module, "evaluate", evaluate)
    monkeypatch.setattr(module, "means", means)
    return known


def test_the_easiest_and_the_hardest_come_last(figures: dict[str, float]) -> None:
    figures |= {"easy": 0.9, "usual": 0.5, "hard": 0.1, "near": 0.55, "far": 0.3}
    images = [entry(name) for name in figures]
    order = most_usual(lambda: "model", images)  # type: ignore[arg-type, return-value]
    assert order[:2] == ["usual", "near"]
    assert set(order[-2:]) == {"easy", "hard"}
    assert [one.name for one in hold_out(images, 3, usual=order)[1]] == ["usual"]
    split = split_images(images, usual=order)
    assert [one.name for one in split.reported] == ["usual"]
    # What the start has learnt from stays behind, and what was held out before goes first.
    seen = Seen(learnt=frozenset({"usual"}))
    assert [one.name for one in hold_out(images, 0, seen, order)[1]] == ["near"]
    seen = replace(seen, held_out=frozenset({"hard"}))
    assert [one.name for one in hold_out(images, 0, seen, order)[1]] == ["hard"]


@pytest.mark.parametrize("count", [1, 2, MANY])
def test_where_there_is_nothing_to_choose_no_model_is_loaded(count: int) -> None:
    def load() -> Any:
        raise AssertionError("loaded")

    assert most_usual(load, [entry(str(number)) for number in range(count)]) == []
