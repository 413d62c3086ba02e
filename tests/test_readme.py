"""What the README and the documentation say is run as it stands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from functools import wraps
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from analytic_runtime import analytic_predictor
from napari_tinysam import checkpoints
from napari_tinysam import export as exporting
from napari_tinysam.batch import run as batch
from napari_tinysam.cli import demo as cli_demo
from napari_tinysam.cli import main as cli
from napari_tinysam.files.remote import RemotePath
from napari_tinysam.inference import load
from napari_tinysam.labels import Overlap
from napari_tinysam.ui.canvas.keys import KEYS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_python_example_segments_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the bundled model, without a network."""
    monkeypatch.chdir(tmp_path)
    (code,) = (block for block in blocks("python") if "load_model" in block)
    assert len([line for line in code.splitlines() if line.strip()]) <= 16
    names: dict[str, object] = {}
    exec(compile(code, "python.md", "exec"), names)
    image, labels = names["image"], names["labels"]
    assert isinstance(image, np.ndarray)
    assert isinstance(labels, np.ndarray)
    assert labels.shape == image.shape[:2]
    objects = np.unique(labels[labels > 0])
    assert objects.size >= 2
    for number in objects:  # something, and not everything
        assert 20 < np.count_nonzero(labels == number) < labels.size / 4


def test_the_python_example_of_tracks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = (block for block in blocks("python") if "MeasuredFrames" in block)
    exec(compile(code, "tracking.md", "exec"), {})


def commands() -> list[str]:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    found = [line.partition("#")[0].strip() for line in lines]
    return sorted({line for line in found if line.startswith("napari-tinysam ")})


@pytest.mark.parametrize("command", commands())
def test_the_commands_are_understood(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(cli_demo, "_has_screen", lambda: False)
    monkeypatch.setattr(load, "load_model", lambda *_, **__: analytic_predictor())
    # What they do with such words is tested elsewhere, and takes minutes.
    for known in cli.app.registered_commands:
        if known.callback in (
            *(cli.evaluate, cli.finetune, cli.train, cli.distill),
            *(cli.quantize, cli.calibrate, cli.prepare, cli.track, cli.replay),
        ):
            options = wraps(known.callback)(lambda **_: None)
            monkeypatch.setattr(known, "callback", options)
    monkeypatch.setattr(batch, "segment_files", lambda *_, **__: iter(()))
    monkeypatch.setattr(RemotePath, "is_file", lambda self: False)  # no network
    loaded = SimpleNamespace(model=None, name="model", fingerprint="0", notes={})
    monkeypatch.setattr(checkpoints, "load", lambda *_, **__: loaded)
    monkeypatch.setattr(exporting, "export", lambda *_, **__: [])
    (tmp_path / "images").mkdir()
    tifffile.imwrite("images/cells.tif", np.zeros((600, 600), np.uint8))
    words = shlex.split(command)[1:]
    for word in words:
        if word.endswith(".tif") and words[words.index(word) - 1] != "-o":
            tifffile.imwrite(word, np.zeros((600, 600), np.uint8))
    with pytest.raises(SystemExit) as exit_:
        cli.main(words)
    assert exit_.value.code == 0


def test_there_are_commands_in_the_documents() -> None:
    assert {shlex.split(line)[1] for line in commands()} >= {
        *("segment", "auto", "finetune", "evaluate", "quantize", "export"),
    }


def test_the_page_of_keys_has_all_of_them() -> None:
    page = (ROOT / "docs" / "keys.md").read_text("utf-8").replace("Delete", "Del")
    written = re.split(
        r", | or ", " or ".join(re.findall(r"^\| ([^|]+) \|", page, re.M))
    )
    assert {action.label for action in KEYS} <= set(written)


def test_the_page_about_saving_has_all_rules_of_overlap() -> None:
    page = (ROOT / "docs" / "save.md").read_text("utf-8")
    rules = set(re.findall(r"^\| ([a-z ]+) \|", page, re.M))
    assert rules == {overlap.value for overlap in Overlap}


def test_links_of_the_documents_lead_to_files() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for path in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / path).is_file(), f"{page.name}: {path}"


def test_files_that_developers_are_told_of_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rooms = [ROOT, ROOT / "src" / "napari_tinysam", ROOT / "training"]
    rooms.append(ROOT / "training" / "tinysam_training")
    named = re.findall(r"`([a-z_]+(?:/[a-z_]*)*(?:\.py|/))`", text)
    assert len(named) > 25
    assert not [n for n in named if not any((room / n).exists() for room in rooms)]


def test_the_package_index_gets_absolute_links(tmp_path: Path) -> None:
    (tmp_path / "script").mkdir()
    for name in ("README.md", "script/absolute-links"):
        shutil.copy(ROOT / name, tmp_path / name)
    script = [sys.executable, str(tmp_path / "script" / "absolute-links")]
    subprocess.run([*script, "https://github.com/OWNER/NAME", "v0.5.0"], check=True)
    text = (tmp_path / "README.md").read_text("utf-8")
    pictures = "https://github.com/OWNER/NAME/raw/v0.5.0/docs/images"
    assert f"]({pictures}/annotate.png)" in text
    assert "](https://github.com/OWNER/NAME/blob/v0.5.0/CONTRIBUTING.md)" in text
    assert not re.findall(r"\]\((?!https:)", text)
