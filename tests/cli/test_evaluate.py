"""``napari-tinysam evaluate``: what it writes, and how it refuses."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from analytic_runtime import analytic_predictor
from napari_tinysam.cli.main import main
from tinysam_training.evaluation import evaluate as evaluation_module
from training.evaluation.test_box_protocol import DETECTIONS, annotations, written
from training.evaluation.test_evaluate import (
    LABELS,
    QUICK,
    SIZE,
    ideal_maps,
    predictor,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for dataset, parts in (("one", ("train", "val")), ("two", ("val",))):
        for part in parts:
            folder = tmp_path / "data" / dataset / part
            folder.mkdir(parents=True)
            for n in range(3):
                Image.new("L", (SIZE, SIZE), 40 * n).save(folder / f"{n}.png")
                Image.fromarray(LABELS.astype(np.uint16)).save(
                    folder / f"{n}_label.png"
                )
    return tmp_path / "data"


@pytest.fixture
def known_model(monkeypatch: pytest.MonkeyPatch) -> None:
    found = predictor(ideal_maps(LABELS), QUICK)
    monkeypatch.setattr(
        "napari_tinysam.inference.load.load_model", lambda *_, **__: found
    )


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "geometry", *map(str, arguments)])
    return int(ended.value.code or 0)


@pytest.mark.usefixtures("known_model")
def test_the_command_writes_what_was_asked_for(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, folder = tmp_path / "figures.json", tmp_path / "new" / "folder"
    code = run(data, "--json", figures, "-o", folder, "--clicks", 3, "--images", 2)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    content = json.loads(figures.read_text())
    assert content["images"] == 4
    assert list(content["sets"]) == ["one", "two"]
    assert content["head_ap50"] == 1
    assert content["automatic"] == "guided"
    assert content["ap50"] is not None
    assert "mSA, head" in printed.out
    assert "mSA and AP50: Auto-segment" in printed.out
    assert str(figures) in printed.out
    assert printed.err == ""
    files = {path.name for path in folder.iterdir()}
    assert files == {
        "evaluation.json",
        "images.csv",
        "iou_over_clicks.png",
        "accuracy_over_thresholds.png",
        "score_calibration.png",
        "contact_sheet.png",
        "contact_sheet_one.png",
        "contact_sheet_two.png",
    }
    names = (folder / "images.csv").read_text()
    assert "one/val/0" in names
    assert "train" not in names
    for name in files:
        if name.endswith(".png"):
            with Image.open(folder / name) as picture:
                assert np.asarray(picture.convert("L")).std() > 5


@pytest.mark.usefixtures("known_model")
def test_the_command_uses_all_images_where_nothing_is_held_out(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = data.parent / "figures.json"
    for where in ([data / "one" / "train"], [data, "--split", "train"]):
        quick = ("--clicks", 1, "--objects", 1, "--no-automatic")
        assert run(*where, *quick, "--json", figures) == 0
        content = json.loads(figures.read_text())
        assert content["images"] == 3
        assert content["automatic"] is content["msa"] is None
        assert content["head_msa"] > 0.8
    assert "Auto-segment" not in capsys.readouterr().out
    assert run(data, "--split", "test") == 1
    assert "test" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_measured_and_writes_nothing(
    data: Path,
    tmp_path: Path,
    known_model: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured = evaluation_module.evaluate_image
    left = 2

    def interrupted(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return measured(*arguments)

    monkeypatch.setattr(evaluation_module, "evaluate_image", interrupted)
    figures = tmp_path / "figures.json"
    code = run(data, "--clicks", 1, "--json", figures, "-o", tmp_path / "folder")
    printed = capsys.readouterr()
    assert code == 130
    assert "2 images of 6; no file was written" in printed.err
    assert "one" in printed.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    assert (
        run(data, "--clicks", 1) == 130
    )  # at the first image: there is nothing to say
    printed = capsys.readouterr()
    assert printed.err.split() == ["Stopped."]
    assert printed.out == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing"], 1, "is not a folder"),
        (["data", "--objects", "-1"], 2, "--objects"),
        (["data", "--clicks", "0"], 2, "--clicks"),
        (["data", "--images", "0"], 2, "--images"),
        (["data", "--json", "figures.txt"], 1, r"\.json"),
        (["data", "--json", "nowhere/figures.json"], 1, "does not exist"),
        (["data", "-o", "data/one/val/0.png"], 1, "is a file"),
    ],
)
def test_mistakes_are_sentences(
    arguments: list[str],
    code: int,
    words: str,
    data: Path,
    known_model: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(data.parent)
    assert run(*arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert re.search(words, printed.err)


def test_a_model_that_does_not_exist(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data) == 1
    assert "geometry" in capsys.readouterr().err


# ------------------------------------------------------------ protocols


@pytest.fixture
def boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments about two images with annotations and a detector's boxes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "napari_tinysam.inference.load.load_model",
        lambda *_, **__: analytic_predictor(),
    )
    (tmp_path / "images").mkdir()
    for number in (1, 2):
        Image.new("L", (64, 64)).save(tmp_path / "images" / f"{number}.png")
    annotations(tmp_path)
    rows = [
        {"image_id": i, "category_id": c, "score": s, "bbox": b}
        for i, c, s, b in DETECTIONS
    ]
    written(tmp_path, "boxes.json", rows)
    return ["annotations.json", "--detections", "boxes.json"]


def test_coco_ap_is_a_protocol(
    boxes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--protocol", "coco", "--image-folder", "images", "--json", "ap.json")
    assert run(*boxes, *words) == 0, capsys.readouterr().err
    content = json.loads((tmp_path / "ap.json").read_text())
    assert content["protocol"] == "coco"
    assert content["ap50"] == pytest.approx((2 / 3 + 1) / 2)
    assert content["ap_large"] is None
    _, names, figures, where = capsys.readouterr().out.splitlines()
    assert names.split() == ["AP", "AP50", "AP75", "small", "medium", "large"]
    assert figures.split()[1] == "0.833"
    assert figures.split()[-1] == "–"
    assert where == "ap.json: these figures"


def test_lvis_ap_is_a_protocol(
    boxes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("1.png", "2.png"):  # beside the annotations, without --image-folder
        (tmp_path / "images" / name).rename(tmp_path / name)
    assert run(*boxes, "--protocol", "lvis") == 0, capsys.readouterr().err
    _, names, figures = capsys.readouterr().out.splitlines()
    found = dict(zip(names.split(), figures.split(), strict=True))
    assert found["rare"] == "1.000"
    assert found["common"] == "–"


@pytest.mark.usefixtures("known_model")
def test_points_are_a_protocol(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = data.parent / "points.json"
    words = ("--protocol", "points", "--clicks", 2, "--images", 1)
    assert run(data, *words, "--json", figures) == 0, capsys.readouterr().err
    content = json.loads(figures.read_text())
    assert content["protocol"] == "points"
    assert content["masks"] == 8  # two images, all four objects of each
    assert content["points2_oracle"] >= content["points2_iou"]
    assert "points3_iou" not in content
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()[1:4]]
    assert [row[0].strip() for row in rows] == ["points", "IoU", "best of 3"]
    assert rows[1][-1].strip() == f"{content['points2_iou']:.3f}"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--protocol", "voc"], 2, "coco, lvis or points, not 'voc'"),
        (["--protocol", "coco"], 2, "needs --detections"),
        (["--detections", "boxes.json"], 2, "needs --protocol coco or lvis"),
        (["--protocol", "points", "--objects", "3"], 2, "--objects means nothing"),
        (["--protocol", "points", "-o", "out"], 2, "--output means nothing"),
        (
            ["--protocol", "lvis", "--detections", "boxes.json", "--clicks", "3"],
            2,
            "--clicks means nothing with --protocol lvis",
        ),
        (
            ["--protocol", "coco", "--detections", "missing.json"],
            1,
            "missing.json cannot be read",
        ),
        (
            ["--protocol", "coco", "--detections", "boxes.json"],
            1,
            "1.png cannot be read",
        ),
        (["--protocol", "points"], 1, "is not a folder"),
    ],
)
def test_mistakes_about_protocols_are_sentences(
    boxes: list[str],
    arguments: list[str],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(boxes[0], *arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert words in printed.err


def test_without_pycocotools_it_is_named(
    boxes: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert run(*boxes, "--protocol", "coco") == 1
    assert 'pip install "napari-tinysam[train]"' in capsys.readouterr().err
