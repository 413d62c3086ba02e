"""Dependencies that the other machine has, and those that the pack must contain."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

from default_model.state import RefusedError

#: Packed in the versions installed here. The machine prefers its own.
CARRIED = (
    "annotated-types",
    "lightning-fabric",
    "pydantic",
    "pydantic-core",
    "segment-anything",
    "typing-inspection",
)

#: Packages that training there must not import, not even indirectly.
ABSENT = (
    "imageio",
    "magicgui",
    "napari",
    "npe2",
    "numcodecs",
    "openvino",
    "platformdirs",
    "pooch",
    "psygnal",
    "qtpy",
    "superqt",
    "vispy",
    "zarr",
)

#: Its Python and its platforms, as pip names them.
_PYTHON = ("3.12", "cp")
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def gather_wheels(source: str, folder: Path) -> None:
    """Put the wheels that the machine lacks into a folder.

    Parameters
    ----------
    source : str
        "download", "none", or a folder with wheels.
    folder : Path
        Made.

    Raises
    ------
    RefusedError
        If there are none, or the download fails.
    """
    folder.mkdir()
    if source == "none":
        return
    if source == "download":
        _download(folder)
        return
    wheels = sorted(Path(source).expanduser().glob("*.whl"))
    if not wheels:
        raise RefusedError(f"There are no wheels in {source}.")
    for wheel in wheels:
        shutil.copyfile(wheel, folder / wheel.name)


def _download(folder: Path) -> None:
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in CARRIED]
    asked = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    asked += ["--only-binary=:all:", "--disable-pip-version-check", "-d", str(folder)]
    asked += ["--python-version", _PYTHON[0], "--implementation", _PYTHON[1]]
    asked += [word for name in _PLATFORMS for word in ("--platform", name)]
    done = subprocess.run(
        [*asked, *pinned], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise RefusedError(f"Wheels cannot be downloaded: {lines[-1]}")


def blocker() -> str:
    """Write Python code that hides `ABSENT` and this machine's own copy of the code."""
    return f"""
import os
import sys
def checkout(path):
    names = ("napari_tinysam", "tinysam_training")
    found = any(os.path.isdir(os.path.join(path, name)) for name in names)
    return found and os.path.basename(path) != "site-packages"
sys.path[:] = [path for path in sys.path if not checkout(path)]
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(ABSENT)!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Absent())
"""
