"""What a training in the background keeps on disk between two commands."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_cache_path

from napari_tinysam.errors import TinySAMError
from napari_tinysam.files.atomic import replacing

#: Names another folder than the user's cache.
ENVIRONMENT_VARIABLE = "NAPARI_TINYSAM_TRAINING"


class RefusedError(TinySAMError):
    """A maintainer's command cannot do what was asked; the message is a sentence."""


@dataclass(frozen=True)
class Orders:
    """What a training was told when it was started.

    Attributes
    ----------
    data : str
        The data root.
    threads : int
        Of the processor.
    commit : str
        Which the copy of the code is of.
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
        Holds ``code`` (a copy of a commit), ``recipe.yaml`` (as this machine begins it), ``run``
        (as ``napari-tinysam train`` leaves it), ``output.log``, ``orders.json`` and
        ``process.json``.
    """

    folder: Path

    @classmethod
    def usual(cls) -> State:
        """Return the one in the user's cache, or where `ENVIRONMENT_VARIABLE` says."""
        named = os.environ.get(ENVIRONMENT_VARIABLE)
        if named:
            return cls(Path(named).expanduser().absolute())
        return cls(user_cache_path("napari-tinysam") / "training")

    @property
    def code(self) -> Path:
        """The copy of the code that trains."""
        return self.folder / "code"

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return self.folder / "run"

    @property
    def recipe(self) -> Path:
        """The recipe of the run, with what it begins with."""
        return self.folder / "recipe.yaml"

    @property
    def log(self) -> Path:
        """What the process says."""
        return self.folder / "output.log"

    @property
    def process(self) -> Path:
        """Which process trains."""
        return self.folder / "process.json"

    @property
    def checkpoint(self) -> Path:
        """What a run goes on with."""
        return self.run / "checkpoint.pt"

    def orders(self) -> Orders | None:
        """Read what the training was told; None if none was ever started here.

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
        """Remember what the training is told."""
        write_json(self.folder / "orders.json", asdict(orders))

    def last_words(self) -> str:
        """Return the last line that the process said, or nothing."""
        try:
            lines = self.log.read_text("utf-8", errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def write_json(path: Path, content: object) -> None:
    """Write a small file, whole or not at all."""
    with replacing(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())
