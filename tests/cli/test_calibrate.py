"""``napari-tinysam calibrate``: what it writes, and how it refuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from command import Run, run_command
from everything.scene import scene
from napari_tinysam import checkpoints
from napari_tinysam.everything import Thresholds
from training.calibration.test_calibrate import DISCS, entry
from training.small_runs import write_start

#: What the command loads models with.
LOAD_MODEL = "napari_tinysam.inference.load.load_model"

FEW = ("--images", "2", "--grid-images", "1", "--points-per-side", "8")


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Run]:
    """Run the command in a folder with images of discs, which the model sees."""
    monkeypatch.chdir(tmp_path)
    write_start(tmp_path / "start.safetensors")
    predictor, _, _ = scene(DISCS, seen=DISCS)
    monkeypatch.setattr(LOAD_MODEL, lambda *_, **__: predictor)
    image = entry(DISCS).read()
    for folder, count in (("cells/train", 3), ("cells/val", 1), ("unsplit", 1)):
        Path(folder).mkdir(parents=True)
        for number in range(count):
            iio.imwrite(f"{folder}/{number}.png", image.rgb[..., 0])
            labels = image.labels[0].astype(np.uint8)
            iio.imwrite(f"{folder}/{number}_label.png", labels)

    return partial(run_command, capsys, "calibrate")


def test_thresholds_are_written_into_the_model(run: Callable[..., Run]) -> None:
    before = checkpoints.load("start.safetensors")
    done = run("start.safetensors", "cells", "unsplit", "-o", "out.safetensors", *FEW)
    assert done.code == 0, done.err
    first, *figures = done.out.splitlines()
    assert first.startswith("out.safetensors: ")
    assert first.endswith("thresholds measured on 3 images")  # two of train, one more
    names = [line.split(":")[0].strip() for line in figures]
    assert names == ["head", "guided", "dense", "hierarchical", "spared"]
    after = checkpoints.load("out.safetensors")
    old, new = (Thresholds.from_notes(each.notes) for each in (before, after))
    assert new != old
    for name, tensor in after.model.state_dict().items():
        assert tensor.equal(before.model.state_dict()[name])


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["start.safetensors", "missing", "-o", "out.safetensors"], 1, "not a folder"),
        (["start.safetensors", "cells", "-o", "out.pth"], 1, ".safetensors"),
        (["start.safetensors", "cells", "-o", "no/out.safetensors"], 1, "not exist"),
        (["start.safetensors", "cells"], 2, "--output"),
        (
            ["start.safetensors", "cells", "-o", "o.safetensors", "--images", "0"],
            2,
            "--images",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    run: Callable[..., Run], arguments: list[Any], code: int, sentence: str
) -> None:
    done = run(*arguments)
    assert done.code == code
    assert sentence in done.err
    assert len(done.err.splitlines()) == 1
    assert done.out == ""
    assert not list(Path().glob("o*"))
