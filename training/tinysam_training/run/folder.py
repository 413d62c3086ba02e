"""The output folder of a run: recipe, versions, log, checkpoints, curves."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_tinysam.errors import DataError, sentence
from napari_tinysam.files.atomic import unfinished
from tinysam_training.learning.objective import FIGURES, LOSSES
from tinysam_training.recipe import Recipe, recipe_as_yaml

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS = ("step", "seconds", "rate", "norm", "loss", *LOSSES, *FIGURES)

_VERSIONS = (
    "napari-tinysam",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "lightning-fabric",
)


class RunFolder:
    """Files of one run.

    ``recipe.yaml``, ``run.json`` (versions, seed, fingerprint of the data), ``log.csv`` (every
    step), ``validation.csv``, ``curves.png``, ``checkpoint.pt`` (to resume from), and the run's
    exports. If TensorBoard is installed, its event files as well.

    Parameters
    ----------
    path : Path
        Made if it does not exist.
    recipe : Recipe
    fingerprint : str
        Of the data.
    writes : bool
        Whether this process writes; of several, only the first does.
    best : Path, optional
        File of the best model, for messages.
    """

    def __init__(
        self,
        path: Path,
        recipe: Recipe,
        *,
        fingerprint: str = "",
        writes: bool = True,
        best: Path | None = None,
    ) -> None:
        self.path = path
        self.recipe = recipe
        self.fingerprint = fingerprint
        self.writes = writes
        self.best = best
        self._board: Any = None
        self._rows = 0

    @property
    def checkpoint(self) -> Path:
        """File from which an interrupted run continues."""
        return self.path / "checkpoint.pt"

    @property
    def holds_run(self) -> bool:
        """Whether the folder holds a run."""
        return self.checkpoint.exists() or (self.path / "log.csv").exists()

    def begin(self, *, resume: bool) -> None:
        """Write the files that describe the run.

        Parameters
        ----------
        resume : bool
            Continue the run in the folder, from its checkpoint. Otherwise its log is replaced.

        Raises
        ------
        DataError
            If the folder holds a run of another recipe or other data, or cannot be made.
        """
        described = recipe_as_yaml(self.recipe)
        before = self.path / "recipe.yaml"
        if resume and before.exists() and before.read_text("utf-8") != described:
            raise DataError(
                f"{self.path} holds a run of another recipe, which cannot continue with this "
                "one. Choose another folder."
            )
        record = self.path / "run.json"
        if resume and record.exists():
            used = json.loads(record.read_text("utf-8")).get("data")
            if used != self.fingerprint:
                raise DataError(
                    f"The data changed since the run in {self.path} began. Choose "
                    "another folder, or restore the data."
                )
        if not self.writes:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._write_text("recipe.yaml", described)
            self._write_text("run.json", json.dumps(self._record(), indent=2) + "\n")
            if not (resume and self.checkpoint.exists()):
                for name in (
                    "log.csv",
                    "validation.csv",
                    "checkpoint.pt",
                    "curves.png",
                ):
                    (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            what = f"The folder {self.path} cannot be written to"
            raise DataError(sentence(error, what)) from error
        self._board = _tensorboard(self.path)

    def _record(self) -> dict[str, Any]:
        versions = {}
        for name in _VERSIONS:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                versions[name] = "not installed"
        return {
            "recipe": self.recipe.name,
            "seed": self.recipe.seed,
            "data": self.fingerprint,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "versions": versions,
        }

    # --- logs ---------------------------------------------------------------------

    def log(self, row: Mapping[str, float]) -> None:
        """Append a step to ``log.csv``."""
        if not self.writes:
            return
        cells = [_cell(row.get(name)) for name in COLUMNS]
        self._append("log.csv", COLUMNS, cells)
        if self._board is not None and int(row["step"]) % 10 == 0:
            self._to_board("train", row)

    def log_validation(self, row: Mapping[str, float]) -> None:
        """Append a validation to ``validation.csv``."""
        if self.writes:
            self._append("validation.csv", tuple(row), [_cell(v) for v in row.values()])
            self._to_board("validation", row)

    def _append(self, name: str, columns: tuple[str, ...], cells: list[str]) -> None:
        path = self.path / name
        self.path.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(columns)
            writer.writerow(cells)

    def _to_board(self, group: str, row: Mapping[str, float]) -> None:
        if self._board is not None:
            for name, value in row.items():
                if name not in ("step", "seconds"):
                    self._board.add_scalar(f"{group}/{name}", value, int(row["step"]))

    def cut_logs(self, step: int) -> None:
        """Drop rows after a step: steps after the checkpoint are repeated."""
        for name in ("log.csv", "validation.csv"):
            path = self.path / name
            if self.writes and path.exists():
                header, *rows = path.read_text("utf-8").splitlines()
                column = header.split(",").index("step")
                kept = [r for r in rows if _step_of(r, column) <= step]
                self._write_text(name, "\n".join([header, *kept]) + "\n")

    def draw_curves(self) -> None:
        """Draw ``curves.png`` from the logs."""
        if self.writes and (self.path / "log.csv").exists():
            from tinysam_training.run.curves import draw_curves

            self._replacing("curves.png", lambda part: draw_curves(self.path, part))

    # --- checkpoints --------------------------------------------------------------

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Write ``checkpoint.pt``, whole or not at all."""
        if self.writes:
            self.path.mkdir(parents=True, exist_ok=True)
            self._replacing("checkpoint.pt", lambda part: torch.save(dict(state), part))

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Read ``checkpoint.pt``; None if there is none.

        Raises
        ------
        DataError
            If it is damaged. Only tensors and plain values are unpickled.
        """
        if not self.checkpoint.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(
                self.checkpoint, map_location="cpu", weights_only=True
            )
        except Exception as error:  # a damaged file can raise any error
            raise DataError(
                f"{self.checkpoint} is damaged; delete it to start again."
            ) from error
        return state

    def _write_text(self, name: str, text: str) -> None:
        self._replacing(name, lambda part: part.write_text(text, "utf-8"))

    def _replacing(self, name: str, write: Callable[[Path], Any]) -> None:
        with unfinished(self.path / name) as part:
            write(part)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.7g}"


def _step_of(row: str, column: int) -> float:
    cells = row.split(",")
    try:
        return float(cells[column])
    except (IndexError, ValueError):  # the last row of a process that was killed
        return float("inf")


def _tensorboard(path: Path) -> Any:
    """Return a writer, or None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(path))
