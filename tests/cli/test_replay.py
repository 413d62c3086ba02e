"""``napari-tinysam replay``: labels again, tables, training data, and sentences for mistakes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from command import Run, run_command
from napari_tinysam.journal.provenance_file import to_text
from pixel_runtime import pixel_predictor
from replay.sessions import SESSIONS, Session


class Files:
    """The files of a session."""

    def __init__(
        self, capsys: pytest.CaptureFixture[str], folder: Path, name: str
    ) -> None:
        self.capsys = capsys
        self.session: Session = SESSIONS[name]()
        self.provenance = folder / "cells_provenance.json"
        self.provenance.write_text(to_text(self.session.told()), encoding="utf-8")
        self.image = folder / "cells.tif"
        tifffile.imwrite(self.image, self.session.pixels)
        self.labels = folder / "again.tif"

    def run(self, *more: Any) -> Run:
        return run_command(self.capsys, "replay", self.provenance, self.image, *more)


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, *_: Any) -> Any:
        return pixel_predictor(int(name.removeprefix("pixels")))

    monkeypatch.setattr("napari_tinysam.cli.replay.load_predictor", load)


def test_the_same_labels_come_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = Files(capsys, tmp_path, "painting")
    found = files.run("-o", files.labels)
    assert found.code == 0, found.err
    assert "pixel by pixel" in found.out
    assert "model pixels0" in found.out
    np.testing.assert_array_equal(tifffile.imread(files.labels), files.session.labels)


def test_channels_share_the_labels_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = Files(capsys, tmp_path, "channels")
    assert "pixel by pixel" in files.run("-o", files.labels).out
    np.testing.assert_array_equal(
        tifffile.imread(files.labels), files.session.labels[:, 0]
    )


def test_another_model_gives_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, table = Files(capsys, tmp_path, "painting"), tmp_path / "table.csv"
    found = files.run("--model", "pixels7", "--table", table)
    assert found.code == 0, found.err
    assert "mean IoU" in found.out
    assert not files.labels.exists()
    rows = list(csv.DictReader(table.read_text().splitlines()))
    by_label = {row["label"]: row for row in rows}
    assert by_label["7"]["origin"] == "painted"
    assert by_label["7"]["predicted_again"] == "no"
    assert 0 < float(by_label["8"]["iou"]) < 1


def test_training_reads_what_was_clicked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tinysam_training.data import find_pairs

    files, folder = Files(capsys, tmp_path, "edits"), tmp_path / "data"
    found = files.run("--as-training", folder)
    assert found.code == 0, found.err
    (entry,) = find_pairs(folder)
    assert not entry.complete
    assert len(entry.read().boxes) == 2
    told = json.loads((folder / "prompts" / "cells.json").read_text())
    first, second = told["objects"]
    assert [len(each["rounds"]) for each in (first, second)] == [2, 2]
    assert first["rounds"][0]["prompts"]["points"] == [[40, 40, 1]]
    assert first["rounds"][1]["prompts"]["mask"] is not None
    assert first["corrected"] == 1

    other = Files(capsys, tmp_path, "boxes")  # another image
    refused = other.run("--as-training", folder)
    assert refused.code == 1
    assert "another image" in refused.err


def test_training_data_of_a_stack_are_planes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tinysam_training.data import find_pairs

    files, folder = Files(capsys, tmp_path, "following"), tmp_path / "data"
    assert files.run("--as-training", folder).code == 0
    planes = [n for n in range(5) if files.session.labels[n].any()]
    entries = sorted(find_pairs(folder), key=lambda entry: entry.name)
    assert [entry.name[-3:] for entry in entries] == [f"{n:03d}" for n in planes]
    for entry, at in zip(entries, planes, strict=True):
        ids = np.unique(files.session.labels[at])
        assert len(entry.read().boxes) == len(ids) - 1


def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = Files(capsys, tmp_path, "clicks")
    assert "Say what to write" in files.run().err
    assert "replace" in files.run("-o", files.image).err
    tifffile.imwrite(files.image, np.zeros((150, 200), np.uint16))
    wrong = files.run("-o", files.labels)
    assert wrong.code == 1
    assert "not the image that was labelled" in wrong.err
    files.provenance.write_bytes(files.provenance.read_bytes()[:3000])
    cut = files.run("-o", files.labels)
    assert "cut or damaged" in cut.err
    assert len(cut.err.strip().splitlines()) == 1
    assert not files.labels.exists()


@pytest.mark.parametrize(
    ("now", "said"),
    [("p0/other", "runs the model pixels0 here"), ("q0", "other weights")],
)
def test_another_runtime_and_other_weights_are_said(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    now: str,
    said: str,
) -> None:
    files, predictor = Files(capsys, tmp_path, "edits"), pixel_predictor()
    predictor.model_id = now
    monkeypatch.setattr(
        "napari_tinysam.cli.replay.load_predictor", lambda *_: predictor
    )
    found = files.run("-o", files.labels)
    assert found.code == 0
    assert said in found.err
    assert len(found.err.strip().splitlines()) == 1
