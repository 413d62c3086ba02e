"""``napari-tinysam quantize``: what it writes, and how it refuses."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from command import Run, run_command
from napari_tinysam import checkpoints
from tinysam_training.quantize import products
from tinysam_training.quantize import run as quantizing
from tinysam_training.quantize.search import ScaleSearch
from training.small_runs import write_pairs, write_start


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_start(tmp_path_factory.mktemp("start") / "start.safetensors")


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Run]:
    """Run the command in an empty folder, with a search of few candidates."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(products, "_KEPT", 100_000)  # some gigabytes less
    few = ScaleSearch(candidates=3, rounds=1, coarse=2)
    monkeypatch.setattr(
        quantizing, "quantize", partial(quantizing.quantize, settings=few)
    )

    return partial(run_command, capsys, "quantize")


def test_one_image_makes_a_model_that_loads(
    run: Callable[..., Run], start: Path, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "cells", 2)
    found = run(
        *(start, "cells", "-o", "small-int8", "--images", "1"),
        *("--layers", "layers.csv"),
    )
    assert found.code == 0, found.err
    written = tmp_path / "small-int8.safetensors"
    assert str(written.name) in found.out
    assert "layers are computed with integers" in found.out
    assert "disc0" in found.err
    loaded = checkpoints.load(written)
    assert loaded.model.quantization
    computed = [n for n, how in loaded.model.quantization.items() if how.input]
    assert any(name.startswith("image_encoder.") for name in computed)
    assert not any(name.startswith("mask_decoder.") for name in computed)
    # What the model said about itself, it still says; and where it comes from.
    original = checkpoints.load(start)
    assert original.notes.items() - loaded.notes.items() <= {
        ("made_by", original.notes.get("made_by", ""))
    }
    assert original.fingerprint in loaded.notes["quantized_from"]
    assert loaded.notes["made_by"] == "napari-tinysam quantize"
    floats = sum(4 * t.numel() for t in original.model.state_dict().values())
    assert written.stat().st_size < 0.35 * floats
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == ["cells", "layers.csv", written.name]
    # Every layer, the most expensive first.
    with (tmp_path / "layers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    by_name = {row["layer"]: row["computed_with"] for row in rows}
    assert by_name.keys() == loaded.model.quantization.keys()
    assert {n for n, how in by_name.items() if how == "integers"} == set(computed)
    costs = [float(row["expected_kl"]) for row in rows]
    assert costs == sorted(costs, reverse=True)
    assert all(
        float(row["expected_kl_min_max"]) >= float(row["expected_kl"]) for row in rows
    )
    # It is no beginning for another.
    again = run(written, "cells", "-o", "again")
    assert again.code == 1
    assert "quantized already" in again.err


def test_images_without_labels_serve(
    run: Callable[..., Run], start: Path, tmp_path: Path
) -> None:
    (tmp_path / "plain").mkdir()
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (40, 60), np.uint8)
    iio.imwrite(tmp_path / "plain" / "a.png", picture)
    found = run(start, "plain", "-o", "out.safetensors")
    assert found.code == 0, found.err
    assert "with 1 images" in found.err


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ({}, "no images"),
        ({"flat.png": np.full((30, 30), 7, np.uint8)}, "one colour only"),
        ({"two.npy": np.zeros((5, 6, 7, 8, 9, 3), np.float32)}, ""),
        ({"broken.png": None}, "broken.png"),
        ({"nan.npy": np.full((20, 20), np.nan, np.float32)}, ""),
    ],
)
def test_bad_images_are_refused_in_a_sentence(
    run: Callable[..., Run],
    start: Path,
    tmp_path: Path,
    images: dict[str, np.ndarray | None],
    says: str,
) -> None:
    (tmp_path / "data").mkdir()
    for name, pixels in images.items():
        path = tmp_path / "data" / name
        if pixels is None:
            path.write_bytes(b"\x89PNG nothing")
        elif name.endswith(".npy"):
            np.save(path, pixels)
        else:
            iio.imwrite(path, pixels)
    found = run(start, "data", "-o", "out.safetensors")
    assert found.code == 1
    assert says in found.err
    assert "Traceback" not in found.err
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("missing", "-o", "out"), 1, "missing"),
        (("cells", "-o", "nowhere/out"), 1, "nowhere"),
        (("cells", "-o", "out", "--images", "0"), 2, "--images"),
        (("cells", "-o", "out", "--layers", "table.txt"), 1, "table.txt"),
        (("cells", "-o", "out", "--seed", "-1"), 2, "seed"),
    ],
)
def test_bad_requests_are_refused_in_a_sentence(
    run: Callable[..., Run],
    start: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    write_pairs(tmp_path / "cells", 1)
    found = run(start, *arguments)
    assert found.code == code
    assert says in found.err
    assert "Traceback" not in found.err


def test_other_models_are_refused(run: Callable[..., Run], tmp_path: Path) -> None:
    write_pairs(tmp_path / "cells", 1)
    (tmp_path / "none.pth").write_bytes(b"nothing")
    found = run("none.pth", "cells", "-o", "out")
    assert found.code == 1
    assert "none.pth" in found.err
