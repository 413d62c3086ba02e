"""triton stays out where a second LLVM would crash the process, and only there."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from napari_tinysam.ui.session.embedding import triton_guard
from napari_tinysam.ui.session.embedding.triton_guard import triton_kept_out

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the list of files that are loaded into the process."""
    maps = tmp_path / "maps"
    monkeypatch.setattr(triton_guard, "_MAPPED_FILES", maps)
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    return maps


def test_beside_mesa_s_llvm_it_cannot_be_imported(mapped: Path) -> None:
    mapped.write_text("7f1e r-xp 00:00 1 /usr/lib/x86_64-linux-gnu/libLLVM-15.so.1\n")
    with triton_kept_out(), pytest.raises(ImportError):
        importlib.import_module("triton")
    assert "triton" not in sys.modules


@pytest.mark.parametrize("maps", ["7f1e r-xp 00:00 1 /usr/lib/libc.so.6\n", None])
def test_elsewhere_nothing_is_done(mapped: Path, maps: str | None) -> None:
    if maps is not None:
        mapped.write_text(maps)
    with triton_kept_out():
        assert "triton" not in sys.modules


def test_what_is_imported_already_stays(
    mapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped.write_text("7f1e r-xp 00:00 1 /usr/lib/libLLVM.so.19\n")
    monkeypatch.setitem(sys.modules, "triton", importlib)
    with triton_kept_out():
        assert sys.modules["triton"] is importlib
    assert sys.modules["triton"] is importlib
