"""A model that any process can load: it sees discs, and does on purpose what may happen."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everything.scene import SceneRuntime
from napari_tinysam.everything.thresholds import NOTE
from napari_tinysam.inference.predictor import Predictor

if TYPE_CHECKING:
    import numpy as np

#: In pixels of the frame of 1024.
DISCS = [(200.0, 220.0, 90.0), (420.0, 300.0, 60.0), (700.0, 180.0, 80.0)]

_SEARCH = {"score_threshold": 0.5, "stability_threshold": 0.5, "points_per_side": 16}
_NOTES = {NOTE: json.dumps({"search": _SEARCH, "labels": {"confidence": 0.6}})}


class Discs(SceneRuntime):
    """Writes a line for each image that it encodes, and dies where a file says so.

    Parameters
    ----------
    folder : Path
        Holds ``encoded``, the process and the mean of each image, and may hold ``die``, the mean of
        an image at which a process kills itself; with ``die always`` each time. ``wait`` holds the
        mean of an image at which a process waits as long as the file is there.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(DISCS, seen=DISCS)
        self.folder = folder

    def encode(self, rgb: np.ndarray) -> Any:
        mean = int(rgb[0, 0, 0])
        with (self.folder / "encoded").open("a") as file:
            file.write(f"{os.getpid()} {mean}\n")
        wait = self.folder / "wait"
        while wait.exists() and int(wait.read_text() or -1) == mean:
            time.sleep(0.05)
        die = self.folder / "die"
        if die.exists():
            wanted, *always = die.read_text().split()
            if int(wanted) == mean:
                if not always:
                    die.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(rgb)


def load_discs(folder: Path, threads: int = 0) -> Predictor:
    return Predictor(Discs(folder), name="discs", model_id="discs/cpu", notes=_NOTES)


def load_together(folder: Path, threads: int = 0) -> Predictor:
    """Load only when another process loads as well."""
    (folder / f"{os.getpid()}.loading").touch()
    until = time.monotonic() + 30
    while len(list(folder.glob("*.loading"))) < 2:
        if time.monotonic() > until:
            raise OSError("nobody else loads")
        time.sleep(0.02)
    return load_discs(folder, threads)


def load_noting_threads(folder: Path, threads: int = 0) -> Predictor:
    """Note what libraries of linear algebra were told before they were imported."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    told = [os.environ.get(name, "") for name in names]
    (folder / f"{os.getpid()}.threads").write_text(" ".join([str(threads), *told]))
    return load_discs(folder, threads)


def refuse(threads: int = 0) -> Predictor:
    raise OSError("there is no such model")


def contents(folder: Path) -> dict[str, bytes]:
    """What the files of a folder hold."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def encoded(tmp_path: Path) -> list[tuple[int, int]]:
    """Process and image of each plane that `load_discs`' model encoded, in order."""
    lines = (tmp_path / "encoded").read_text().splitlines()
    return [(int(line.split()[0]), int(line.split()[1])) for line in lines]
