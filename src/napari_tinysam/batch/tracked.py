"""The results of a tracked movie: a folder of the Cell Tracking Challenge, tables, other forms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_tinysam.errors import FileError
from napari_tinysam.files.ome_zarr import read_note, write_label_pyramid
from napari_tinysam.files.writing import write_label_planes
from napari_tinysam.volume.ctc import write_ctc
from napari_tinysam.volume.exchange.geff_store import check_geff, write_geff
from napari_tinysam.volume.exchange.points import TrackPoints
from napari_tinysam.volume.exchange.tables import write_csv
from napari_tinysam.volume.exchange.trackmate import write_trackmate
from napari_tinysam.volume.learned import chained_by_trackastra
from napari_tinysam.volume.linking import LinkSettings, linked_stack
from napari_tinysam.volume.measuring import MeasuredFrames
from napari_tinysam.volume.tracking import Tracking, TrackSettings, track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from napari_tinysam.files.movie import Movie

#: Forms that are written on request, and the ends of their names.
FORMS = {
    "geff": "_tracks.geff",
    "trackmate": "_tracks.xml",
    "tiff": "_tracks.tif",
    "ome-zarr": "_tracks.ome.zarr",
}

#: Written into labels, to tell them from those of others.
_NOTE = "napari-tinysam track"

_FRAME = re.compile(r"mask(\d+)\.tif", re.IGNORECASE)


class Written(NamedTuple):
    """What was written.

    Attributes
    ----------
    files : list of Path
        The tables and other forms.
    notes : tuple of str
        What was not as it should be, a sentence each.
    """

    files: list[Path]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TrackedMovie:
    """A movie, its labels, and how its objects are tracked.

    Attributes
    ----------
    movie : Movie
    labels : Movie
        Of the objects of each frame, of the shape of the movie.
    settings : TrackSettings
    link_depth : bool
        Whether labels of volumes are those of single planes, to be linked first.
    step : float
        Distance of planes in depth, in pixels of a plane.
    by_trackastra : bool
        Whether trackastra links the objects; all frames are in memory then.
    """

    movie: Movie
    labels: Movie
    settings: TrackSettings = field(default_factory=TrackSettings)
    link_depth: bool = False
    step: float = 1.0
    by_trackastra: bool = False

    def __post_init__(self) -> None:
        if self.movie.shape != self.labels.shape:
            sizes = [
                " × ".join(map(str, each.shape)) for each in (self.labels, self.movie)
            ]
            raise FileError(
                f"{self.labels.path} does not fit {self.movie.path}: it is {sizes[0]}, the movie "
                f"{sizes[1]}."
            )

    def frame(self, number: int) -> npt.NDArray[Any]:
        """Read the labels of a frame."""
        labels = self.labels.labels(number)
        if self.link_depth and self.labels.deep:
            return linked_stack(labels, LinkSettings())
        return labels

    @property
    def scale(self) -> tuple[float, ...]:
        """Side of a pixel along the axes of a frame, in pixels of a plane."""
        return (self.step, 1.0, 1.0) if self.labels.deep else (1.0, 1.0)

    def track(self, progress: Callable[[int], None]) -> Tracking:
        """Measure all frames and find tracks.

        Parameters
        ----------
        progress : callable
            Called with the frames that are measured.
        """

        def frames() -> Iterator[npt.NDArray[Any]]:
            for number in range(len(self.labels)):
                yield self.frame(number)
                progress(number + 1)

        if not self.by_trackastra:
            return track(MeasuredFrames.of(frames(), self.scale), self.settings)
        labels = np.stack(list(frames()))
        images = np.stack([self.movie.frame(n) for n in range(len(self.movie))])
        if images.ndim > labels.ndim:  # channels
            images = images.mean(axis=-1)
        measured = MeasuredFrames.of(labels, self.scale)
        chains = chained_by_trackastra(images, labels, measured)
        return track(measured, self.settings, chains=chains)

    def write(
        self,
        folder: Path,
        stem: str,
        found: Tracking,
        forms: tuple[str, ...],
        progress: Callable[[int], None],
    ) -> Written:
        """Write all results; each is whole or not there.

        Parameters
        ----------
        folder : Path
        stem : str
            First part of the names of files, but those of the challenge.
        found : Tracking
        forms : tuple of str
            Of `FORMS`.
        progress : callable
            Called with the frames that are written.

        Returns
        -------
        Written

        Raises
        ------
        FileError
            If the folder holds a longer movie, or something cannot be written.
        """
        check_folder(folder, stem, forms, len(self.labels))

        def frames() -> Iterator[npt.NDArray[Any]]:
            for number in range(len(self.labels)):
                yield found.links.relabelled(number, self.frame(number))

        write_ctc(folder, frames(), found.tracks, progress=progress)
        parents = {each.label: each.parent for each in found.tracks}
        blank: list[int] = []

        def images() -> Iterator[npt.NDArray[Any]]:
            for number in range(len(self.movie)):
                image = self.movie.frame(number)
                if image.dtype.kind == "f" and not np.isfinite(image).any():
                    blank.append(number)
                yield image

        points = TrackPoints.of(frames(), parents, images())
        written = [folder / f"{stem}_tracks.csv"]
        write_csv(written[0], points)
        for form in forms:
            written.append(folder / f"{stem}{FORMS[form]}")
            self._write_form(form, written[-1], points, found)
        notes = tuple(
            f"Frame {number} of {self.movie.path} has no numbers (NaN); nothing is found there."
            for number in blank
        )
        return Written(written, notes)

    def _write_form(
        self, form: str, path: Path, points: TrackPoints, found: Tracking
    ) -> None:
        counts = self.labels.shape[:-2]
        axes = "TZ"[: len(counts)]
        if form == "geff":
            write_geff(path, points, self.scale)
        elif form == "trackmate":
            image = self.movie.parts[0][0][0].stack.path
            local = image if isinstance(image, Path) else None
            write_trackmate(
                path, points, self.labels.shape, scale=self.scale, image=local
            )
        elif form == "tiff":
            kind = "uint16" if len(found.tracks) < 2**16 else "uint32"
            planes, shape = _Planes(self, found), self.labels.shape
            write_label_planes(path, planes, shape, kind, f"{axes}YX", _NOTE)
        else:
            write_label_pyramid(path, _Planes(self, found), counts, axes, _NOTE)


class _Planes(Sequence["npt.NDArray[np.int32]"]):
    """The planes of a tracked movie, each made when it is asked for."""

    def __init__(self, tracked: TrackedMovie, found: Tracking) -> None:
        self._tracked, self._found = tracked, found
        self._depth = tracked.labels.shape[1] if tracked.labels.deep else 1
        self._last: tuple[int, npt.NDArray[np.int32]] | None = None

    def __len__(self) -> int:
        return len(self._tracked.labels) * self._depth

    def __getitem__(self, number: Any) -> Any:
        if not 0 <= number < len(self):
            raise IndexError(number)
        at, plane = divmod(number, self._depth)
        if self._last is None or self._last[0] != at:
            labels = self._tracked.frame(at)
            self._last = at, self._found.links.relabelled(at, labels)
        frame = self._last[1]
        return frame[plane] if self._tracked.labels.deep else frame


def check_folder(folder: Path, stem: str, forms: tuple[str, ...], frames: int) -> None:
    """Check before the slow part that results can be written.

    Raises
    ------
    FileError
        If the folder is a file, holds frames of a longer movie, or something else of a result's
        name.
    TinySAMError
        If a package is missing.
    """
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file; --output names a folder.")
    there = folder.iterdir() if folder.is_dir() else ()
    numbers = [int(m.group(1)) for p in there if (m := _FRAME.fullmatch(p.name))]
    if max(numbers, default=-1) >= frames:
        raise FileError(
            f"{folder} holds frames up to {max(numbers)}, and this movie has {frames}; choose "
            "another folder."
        )
    zarr = folder / f"{stem}{FORMS['ome-zarr']}"
    if "ome-zarr" in forms and zarr.exists() and read_note(zarr) != _NOTE:
        raise FileError(
            f"{zarr} is there, and was made by something else; it is left alone."
        )
    if "geff" in forms:
        check_geff(folder / f"{stem}{FORMS['geff']}")
