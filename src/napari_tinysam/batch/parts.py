"""Planes and tiles of files that are not finished yet, kept so that nothing is segmented twice.

Each finished plane of a stack is a file in a hidden folder beside the results, and so is each tile
of a large plane. When all are there the results are written and the folder is removed; the results
then say by themselves that they are done (see `napari_tinysam.batch.provenance`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_tinysam.batch.packing import packed, unpacked
from napari_tinysam.errors import FileError, sentence
from napari_tinysam.files.atomic import replacing, write_text
from napari_tinysam.inference.looks import LookGrid

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_tinysam.batch.jobs import Job
    from napari_tinysam.everything import Proposal

_FOLDER = ".tinysam-planes"


@dataclass(frozen=True, eq=False)
class PlaneResult:
    """The objects of one plane.

    Attributes
    ----------
    labels : ndarray of int, (H, W)
    rows : list of dict
        Of the table.
    notes : tuple of str
        As of `FilePlane`.
    """

    labels: npt.NDArray[np.integer[Any]]
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def without_labels(self) -> PlaneResult:
        """Return the rest of it."""
        return PlaneResult(np.zeros((0, 0), np.uint16), self.rows, self.notes)


class Parts:
    """The finished planes of one file, for one content and one group of settings.

    Parameters
    ----------
    job : Job
        Under the stem of its results.
    description : str
        All that the labels depend on; planes of another one are not seen.
    """

    def __init__(self, job: Job, description: str) -> None:
        self._of_stem = job.folder / _FOLDER / job.stem
        key = hashlib.sha256(description.encode()).hexdigest()[:16]
        self._folder = self._of_stem / key

    def keep(self, number: int, plane: PlaneResult) -> None:
        """Write a plane; raises `FileError` if that fails."""
        _make(self._folder)
        text = json.dumps({"rows": plane.rows, "notes": plane.notes})
        known = np.frombuffer(text.encode(), np.uint8)
        with replacing(self._path(number)) as file:
            labels = plane.labels.astype(_dtype(plane.labels))
            np.savez_compressed(file, labels=labels, known=known)

    def find(self, number: int) -> PlaneResult | None:
        """Read a plane; None if it is not there, or damaged."""
        try:
            with (
                open(self._path(number), "rb") as opened,  # np.load would leave it open
                np.load(opened, allow_pickle=False) as file,
            ):
                known = json.loads(file["known"].tobytes())
                return PlaneResult(file["labels"], known["rows"], tuple(known["notes"]))
        except Exception:  # noqa: BLE001  # however it is broken, it is made again
            return None

    def missing(self, count: int) -> tuple[int, ...]:
        """Return the numbers below `count` of planes that are not there."""
        return tuple(n for n in range(count) if not self._path(n).exists())

    def labels(self, number: int) -> npt.NDArray[np.integer[Any]]:
        """Read the labels of a plane; raises `FileError` if it vanished."""
        found = self.find(number)
        if found is None:
            raise FileError(f"{self._path(number)} vanished or was damaged.")
        return found.labels

    def tiles(self, number: int) -> TileParts:
        """Return the tiles of a plane."""
        return TileParts(self._folder / f"{number}-tiles")

    def remove(self) -> None:
        """Delete planes and tiles, also those of earlier contents and settings."""
        shutil.rmtree(self._of_stem, ignore_errors=True)
        with suppress(OSError):  # planes of other files are there
            self._of_stem.parent.rmdir()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.npz"


class KeptLabels(Sequence["npt.NDArray[np.integer[Any]]"]):
    """The labels of all planes of a file, each read when it is asked for.

    Parameters
    ----------
    parts : Parts
        All planes are there.
    count : int
        How many.
    """

    def __init__(self, parts: Parts, count: int) -> None:
        self._parts, self._count = parts, count

    def __len__(self) -> int:
        """Return how many planes there are."""
        return self._count

    def __getitem__(self, number: Any) -> Any:
        """Read the labels of a plane."""
        if not 0 <= number < self._count:
            raise IndexError(number)
        return self._parts.labels(number)


class TilePlan(NamedTuple):
    """What must be the same for all tiles of a plane.

    Attributes
    ----------
    limits : list of (float, float) or None
        As of `PlaneLooks`.
    grid : LookGrid
        The tiles.
    chosen : bool
        False while the side of the tiles is being chosen.
    """

    limits: list[tuple[float, float] | None]
    grid: LookGrid
    chosen: bool = True


class TileParts:
    """What was found in the tiles of one plane.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep_plan(self, plan: TilePlan) -> None:
        """Write what all tiles have in common; raises `FileError` if that fails."""
        _make(self._folder)
        known = {
            "limits": plan.limits,
            "shape": plan.grid.shape,
            "side": plan.grid.side,
            "overlap": plan.grid.overlap,
            "chosen": plan.chosen,
        }
        write_text(self._folder / "plan.json", json.dumps(known))

    def find_plan(self) -> TilePlan | None:
        """Read what all tiles have in common; None if it is not there, or damaged."""
        try:
            known = json.loads((self._folder / "plan.json").read_text("utf-8"))
            limits = [
                None if one is None else (one[0], one[1]) for one in known["limits"]
            ]
            height, width = known["shape"]
            grid = LookGrid((height, width), known["side"], known["overlap"])
            return TilePlan(limits, grid, known["chosen"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, grid: LookGrid, number: int, found: Sequence[Proposal]) -> None:
        """Write what was found in a tile; raises `FileError` if that fails."""
        with replacing(self._path(grid, number)) as file:
            np.savez_compressed(file, allow_pickle=False, **packed(found))

    def is_there(self, grid: LookGrid, number: int) -> bool:
        """Whether a tile was searched."""
        return self._path(grid, number).exists()

    def find(self, grid: LookGrid, number: int) -> list[Proposal] | None:
        """Read what was found in a tile.

        Returns
        -------
        list of Proposal or None
            None if it is not there, or damaged.
        """
        try:
            with (
                open(self._path(grid, number), "rb") as opened,
                np.load(opened, allow_pickle=False) as file,
            ):
                return unpacked({name: file[name] for name in file.files}, grid.shape)
        except Exception:  # noqa: BLE001  # however it is broken, it is made again
            return None

    def _path(self, grid: LookGrid, number: int) -> Path:
        return self._folder / f"{grid.side}-{number}.npz"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(sentence(error, f"{folder} cannot be written")) from error


def _dtype(labels: npt.NDArray[np.integer[Any]]) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if labels.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
