"""The user's own models: what they tell about themselves, and names for new ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file

from napari_tinysam.checkpoints import own

if TYPE_CHECKING:
    import pytest


def write(path: Path, notes: dict[str, str], age: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"weight": np.zeros(2, np.float32)}, path, notes)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_models_are_listed_with_what_is_known_the_newest_first(tmp_path: Path) -> None:
    about = {
        "title": "My cells",
        "date": "2026-11-28",
        "images": 10,
        "objects": 1234,
        "figures": {"one click": [0.5, 0.75], "box": [None, 0.5]},
    }
    write(tmp_path / "old.safetensors", {}, age=100)
    write(tmp_path / "cells.safetensors", {own.NOTE: json.dumps(about)})
    write(tmp_path / "odd.safetensors", {own.NOTE: '{"figures": 3}'}, age=50)
    write(tmp_path / "cells-floats.safetensors", {}, age=50)
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    (tmp_path / "else.txt").write_text("no model")
    first, second = own.own_models(tmp_path)
    assert first.text == "My cells (2026-11-28): 10 images, one click 0.75, box 0.50"
    assert "10 images with 1,234 objects" in first.about
    assert "one click: 0.50 before, 0.75 after" in first.about
    assert "box" not in first.about
    assert str(first.path) in first.about
    assert second.text == "old"


def test_the_folder_may_be_missing_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own.own_models(tmp_path / "none") == []
    monkeypatch.setenv(own.MODELS_VARIABLE, str(tmp_path))
    assert own.models_folder() == tmp_path


def test_a_new_model_never_takes_the_place_of_another(tmp_path: Path) -> None:
    first = own.model_path("My cells / Tuesday", tmp_path)
    assert first == tmp_path / "My-cells-Tuesday.safetensors"
    first.touch()
    assert own.model_path("My cells / Tuesday", tmp_path).name == (
        "My-cells-Tuesday-2.safetensors"
    )
    assert own.model_path("../..", tmp_path).parent == tmp_path
