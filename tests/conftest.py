"""Every test: its own settings and folders, no network, a screen or a clear word about it."""

from __future__ import annotations

import ctypes
import gc
import os
import secrets
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# Read when napari, pooch and Hugging Face are imported, so set before any of them.
_HOME = tempfile.TemporaryDirectory(prefix="napari-tinysam-tests-")
os.environ["NAPARI_CONFIG"] = str(Path(_HOME.name) / "napari" / "settings.yaml")
os.environ["XDG_CACHE_HOME"] = str(Path(_HOME.name) / "cache")
os.environ["XDG_CONFIG_HOME"] = str(Path(_HOME.name) / "config")
os.environ["XDG_DATA_HOME"] = str(Path(_HOME.name) / "data")
os.environ["NAPARI_TINYSAM_CACHE"] = str(Path(_HOME.name) / "cache" / "graphs")
os.environ["HF_HUB_OFFLINE"] = "1"
# A napari layer changed outside the GUI's thread is an error, not a rare crash.
os.environ["NAPARI_ENSURE_PLUGIN_MAIN_THREAD"] = "1"

# Nothing asserts times: the first example may load torchvision, on a machine that others use.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_HAS_SCREEN = sys.platform != "linux" or bool(os.environ.get("DISPLAY"))
if not _HAS_SCREEN:  # Qt would abort the whole run
    os.environ["QT_QPA_PLATFORM"] = "offscreen"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Skip tests marked `gpu` where there is no CUDA device; say which stay in one process."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            item.add_marker(pytest.mark.xdist_group(_process_of(item)))
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not on_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def _process_of(item: pytest.Item) -> str:
    """Name what must be tested in one process: a file, for its fixtures, or all windows.

    Two windows on one screen take the focus from each other.
    """
    return "screen" if _needs_screen(item) else item.path.as_posix()


def _needs_screen(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    marked = item.get_closest_marker("gl") is not None
    return marked or "make_napari_viewer" in fixtures


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Say what is missing where napari would fail at an OpenGL call without a screen.

    Left alone, `glGetParameter` returns None there, and later tests fail with it.
    """
    if _needs_screen(item) and not _HAS_SCREEN:
        pytest.fail(
            "This test opens a napari viewer and needs a screen: run script/test, or "
            "xvfb-run -a .venv/bin/python -m pytest.",
            pytrace=False,
        )


@pytest.fixture(autouse=True)
def _nothing_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevent conversions in the background of the tests."""
    choice = "napari_tinysam.inference.runtime.choice"
    monkeypatch.setattr(f"{choice}.prepare_in_background", lambda *_: False)
    monkeypatch.setattr(f"{choice}.needs_preparing", lambda *_: False)


@pytest.fixture(autouse=True)
def _own_journals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test find what another one did not save; the folder is made when it is needed."""
    folder = Path(_HOME.name) / "journals" / secrets.token_hex(8)
    monkeypatch.setenv("NAPARI_TINYSAM_JOURNALS", str(folder))
    monkeypatch.setenv(
        "NAPARI_TINYSAM_LISTS", str(folder.with_name("lists") / folder.name)
    )


@pytest.fixture(autouse=True, scope="module")
def memory_goes_back() -> Iterator[None]:
    """Return what a file's tests have freed to the system.

    glibc keeps it for each thread that has ever asked for some: after a thousand tests that is
    several gigabytes in each process. What is left, modules most of all, is not looked at by later
    collections of garbage: each test of a window asks for several, which took seconds in the end.
    """
    yield
    gc.collect()
    gc.freeze()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Refuse connections to other machines."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: object) -> None:
        local = ("127.0.0.1", "::1", "localhost")
        if self.family in (socket.AF_INET, socket.AF_INET6) and (
            not isinstance(address, tuple) or address[0] not in local
        ):
            raise ConnectionRefusedError(f"Tests have no network ({address}).")
        connect(self, address)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_here)
        yield


@pytest.fixture(autouse=True)
def _triton_stays_out_beside_windows() -> Iterator[None]:
    """A test that imports torch after one that opened a window does not crash the process."""
    from napari_tinysam.ui.session.embedding.triton_guard import triton_kept_out

    with triton_kept_out():
        yield
