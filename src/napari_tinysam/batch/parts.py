"""Planes of files that are not finished yet, kept so that no plane is segmented twice.

Each finished plane of a stack is a file in a hidden folder beside the results. When all are there
the results are written and the folder is removed; the results then say by themselves that they are
done (see `napari_tinysam.batch.provenance`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.files.atomic import replacing

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_tinysam.batch.jobs import Job

_FOLDER = ".tinysam-planes"


@dataclass(frozen=True, eq=False)
class PlaneResult:
    """The objects of one plane.

    Attributes
    ----------
    labels : ndarray of uint16 or uint32, (H, W)
    rows : list of dict
        Of the table.
    notes : tuple of str
        As of `FilePlane`.
    """

    labels: npt.NDArray[np.unsignedinteger[Any]]
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: tuple[str, ...] = ()


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
        self._folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"rows": plane.rows, "notes": plane.notes})
        known = np.frombuffer(text.encode(), np.uint8)
        with replacing(self._path(number)) as file:
            np.savez_compressed(file, labels=plane.labels, known=known)

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

    def remove(self) -> None:
        """Delete the planes, also those of earlier contents and settings."""
        shutil.rmtree(self._of_stem, ignore_errors=True)
        with suppress(OSError):  # planes of other files are there
            self._of_stem.parent.rmdir()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.npz"
