"""The comparison of a model's precisions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from everything.scene import scene
from papers.compare_precisions import compare_precisions, table
from training.calibration.test_calibrate import DISCS, entry


def test_the_same_model_is_the_same() -> None:
    predictor, _, _ = scene(DISCS, seen=DISCS)
    (found,) = compare_precisions(predictor, predictor, [entry(DISCS)])
    assert found.click_iou == found.box_iou == 1
    assert found.msa[0] == found.msa[1] > 0.9


def test_masks_of_another_size_are_noticed() -> None:
    exact, _, _ = scene(DISCS, seen=DISCS)
    smaller = [(x, y, 0.9 * radius) for x, y, radius in DISCS]
    other, _, _ = scene(smaller, seen=smaller)
    entries = [entry(DISCS, "a"), entry([], "empty"), entry(DISCS, "b")]
    found = compare_precisions(exact, other, entries)
    assert [result.image for result in found] == ["a", "b"]
    for result in found:
        assert result.click_iou == pytest.approx(0.81, abs=0.02)
        assert result.box_iou == pytest.approx(0.81, abs=0.02)
        assert result.msa[1] < result.msa[0]
    rows = table(found).splitlines()
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| scene", "| all"]
    assert len({row.count("|") for row in rows}) == 1


def test_masks_that_are_empty_in_both_agree() -> None:
    """A click beside all that the model knows: nothing is drawn in either precision."""
    nothing: list[tuple[float, float, float]] = []
    predictor, _, _ = scene(nothing, seen=DISCS)
    (found,) = compare_precisions(predictor, predictor, [entry(DISCS)])
    assert np.isfinite(found.click_iou)
    assert found.click_iou == 1


def test_the_command_refuses_in_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "papers.compare_precisions", "default",
            str(tmp_path / "nothing"), "-o", str(tmp_path / "out.json"),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
