"""``napari-tinysam evaluate`` with ``--volume`` and ``--movie``."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cli.scenes import DISCS, Moving, load_scenes, picture
from command import Run, run_command, run_refused
from napari_tinysam.volume.ctc import write_ctc
from napari_tinysam.volume.lineage import tracks_of


def true_labels(right: int = 0) -> np.ndarray:
    """The discs of a frame of 128 pixels, moved to the right by so many."""
    labels = np.zeros((128, 128), np.uint16)
    y, x = np.mgrid[:128, :128] * 8 + 3.5
    for number, (cx, cy, radius) in enumerate(DISCS, start=1):
        labels[np.hypot(x - cx - 8 * right, y - cy) < radius] = number
    return labels


@pytest.fixture
def evaluate(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Run]:
    """Run the command in a folder with a stack and a data set of movies."""
    monkeypatch.chdir(tmp_path)
    load_scenes(monkeypatch, Moving(DISCS, seen=DISCS))
    Path("stacks").mkdir()
    labels = np.stack([true_labels()] * 4)
    for name, pixels in (
        ("a", np.stack([picture(0)] * 4)),
        ("a_label", labels),
        ("b", np.stack([picture(0)] * 4)),
        ("b_label", labels),
    ):
        tifffile.imwrite(
            f"stacks/{name}.tif",
            pixels,
            photometric="minisblack",
            metadata={"axes": "ZYX"},
        )
    for sequence in ("01", "02"):
        Path("set", sequence).mkdir(parents=True)
        frames = [true_labels(4 * number) for number in range(3)]
        for number in range(3):
            tifffile.imwrite(f"set/{sequence}/t{number:03d}.tif", picture(number))
        write_ctc(Path(f"set/{sequence}_GT/TRA"), frames, tracks_of(frames))
    return partial(run_command, capsys, "evaluate")


def test_stacks(evaluate: Callable[..., Run]) -> None:
    done = evaluate("discs", "stacks", "--volume", "--json", "figures.json")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["a", "b", "mean"]
    found = json.loads(Path("figures.json").read_text())
    assert found["protocol"] == "volume"
    assert found["objects"] == 8
    assert (found["followed"], found["planes"]) == (1, 4)
    assert found["click1_iou"] > 0.9
    assert found["ap50"] == 1
    assert [each["name"] for each in found["stacks"]] == ["a", "b"]
    quick = evaluate(
        *("discs", "stacks", "--volume", "--no-automatic"),
        *("--images", "1", "--objects", "2", "--clicks", "1"),
    )
    assert quick.code == 0, quick.err
    assert len(quick.out.splitlines()) == 3


@pytest.mark.usefixtures("evaluate")
def test_movies(evaluate: Callable[..., Run]) -> None:
    pytest.importorskip("ctc_metrics")
    done = evaluate("discs", "set", "--movie", "--json", "figures.json")
    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines()[2:4]] == ["01", "02"]
    found = json.loads(Path("figures.json").read_text())["sequences"]["01"]
    assert (found["tra"], found["det"]) == (1, 1)
    assert found["seg"] > 0.9


def test_results_of_others(evaluate: Callable[..., Run]) -> None:
    """No model is loaded."""
    pytest.importorskip("ctc_metrics")
    frames = [true_labels(4 * number) for number in range(3)]
    frames[1][frames[1] == 2] = 0
    write_ctc(Path("set/01_RES"), frames, tracks_of(frames))
    done = evaluate("set/01_RES", "set/01", "--movie", "--json", "figures.json")
    assert done.code == 0, done.err
    found = json.loads(Path("figures.json").read_text())
    assert (found["result"], found["missing"]) == ("set/01_RES", 1)
    both = evaluate("set/01_RES", "set", "--movie")
    assert both.code == 1
    assert "set has 2 sequences; give the one" in both.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("set --volume", 1, "no stack"),
        ("stacks --movie", 1, "no data set"),
        ("none --movie", 1, "no data set"),
        ("stacks --volume --movie", 2, "not both"),
        ("stacks --volume --protocol points", 2, "not both"),
        ("stacks --protocol volume", 2, "--protocol is annotator, coco"),
        ("stacks --volume --split val", 2, "nothing with --volume"),
        ("set --movie --clicks 3", 2, "nothing with --movie"),
    ],
)
@pytest.mark.usefixtures("evaluate")
def test_what_cannot_be_measured(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: str,
    code: int,
    said: str,
) -> None:
    given = ("evaluate", "discs", *arguments.split())
    assert said in run_refused(capsys, tmp_path, *given, code=code)[-1]
