"""``napari-tinysam kept``: where embeddings are, how large they are, and removing them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from command import run_command
from napari_tinysam.inference.kept import ENVIRONMENT_VARIABLE, KeptEmbeddings

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_size_and_removal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
    folder = tmp_path / "embeddings"
    assert run_command(capsys, "kept").out == f"0 planes, 0 MB in {folder}\n"
    random = np.random.default_rng(0).normal(size=1_200_000).astype(np.float16)
    for key in ("one", "two"):
        KeptEmbeddings().keep(key, {"random": random})
    shown = run_command(capsys, "kept")
    assert shown.out == f"2 planes, 5 MB in {folder}\n"
    removed = run_command(capsys, "kept", "--clear")
    assert removed.out == f"2 planes, 5 MB removed from {folder}\n"
    assert list(folder.iterdir()) == []
