"""The files of a training in the background, which the commands share."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_cache_path

from napari_tinysam.errors import TinySAMError
from napari_tinysam.files.atomic import write_text

#: Names a folder to use instead of the user's cache.
ENVIRONMENT_VARIABLE = "NAPARI_TINYSAM_TRAINING"


class RefusedError(TinySAMError):
    """A maintainer's command refuses; the message is a sentence."""


@dataclass(frozen=True)
class Orders:
    """The settings that a training was started with.

    Attributes
    ----------
    data : str
        The data root.
    threads : int
        Number of CPU threads.
    commit : str
        The commit of the copied code.
    """

    data: str
    threads: int
    commit: str


@dataclass(frozen=True)
class State:
    """The folder of a training in the background.

    Attributes
    ----------
    folder : Path
        Holds ``code`` (a copy of a commit), ``recipe.yaml`` (with this machine's start), ``run``
        (of ``napari-tinysam train``), ``output.log``, ``orders.json`` and ``process.json``.
    """

    folder: Path

    @classmethod
    def usual(cls) -> State:
        """Return the folder in the user's cache, or the one that `ENVIRONMENT_VARIABLE` names."""
        named = os.environ.get(ENVIRONMENT_VARIABLE)
        if named:
            return cls(Path(named).expanduser().absolute())
        return cls(user_cache_path("napari-tinysam") / "training")

    @property
    def code(self) -> Path:
        """The copy of the code."""
        return self.folder / "code"

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return self.folder / "run"

    @property
    def recipe(self) -> Path:
        """The recipe of the run, with its start."""
        return self.folder / "recipe.yaml"

    @property
    def log(self) -> Path:
        """Output of the process."""
        return self.folder / "output.log"

    @property
    def process(self) -> Path:
        """Record of the process that trains."""
        return self.folder / "process.json"

    @property
    def checkpoint(self) -> Path:
        """The checkpoint that a run resumes from."""
        return self.run / "checkpoint.pt"

    def orders(self) -> Orders | None:
        """Read the settings of the training; None if none was ever started here.

        Raises
        ------
        RefusedError
            If the file is damaged.
        """
        path = self.folder / "orders.json"
        try:
            return Orders(**json.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise RefusedError(f"{path} cannot be read; delete it.") from error

    def keep(self, orders: Orders) -> None:
        """Store the settings of the training."""
        write_json(self.folder / "orders.json", asdict(orders))

    def last_words(self) -> str:
        """Return the last line of the log, or ""."""
        try:
            lines = self.log.read_text("utf-8", errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def write_json(path: Path, content: object) -> None:
    """Write a small file as a whole."""
    write_text(path, json.dumps(content, indent=2))
