"""The simulated annotator adapts as the dock does: round after round from the best model so far."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.cli import protocols
from napari_tinysam.inference import load
from tinysam_training.commands import adapt as adapting
from tinysam_training.labelled_image import ImageEntry, LabelledImage

if TYPE_CHECKING:
    import pytest

LABELS = np.zeros((1, 32, 32), np.int32)
LABELS[0, 4:20, 4:20] = 1
IMAGE = LabelledImage("cells", "set", np.zeros((32, 32, 3), np.uint8), LABELS)
ENTRY = ImageEntry("cells", "set", True, lambda: IMAGE, "cells")


def test_a_round_begins_with_the_last_better_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts = iter(["better", "worse", "none", "better"])
    starts: list[str] = []

    def adapt(work: Any) -> None:
        order = work.order()
        assert (order.images, order.objects, order.minutes) == (1, 1, 2.0)
        starts.append(Path(order.start).name)
        verdict = next(verdicts)
        model = order.model if verdict == "better" else ""
        work.say("done", verdict=verdict, model=model)

    monkeypatch.setattr(adapting, "adapt", adapt)
    monkeypatch.setattr(load, "load_model", lambda path: SimpleNamespace(name=path))
    adapter = protocols._adapter("default", 2.0, tmp_path)
    found = [adapter([ENTRY]) for _ in range(4)]
    assert starts == ["default"] + 3 * ["round-1.safetensors"]
    assert [model is not None for model in found] == [True, False, False, True]
    assert found[3].name == str(tmp_path / "round-4.safetensors")
