"""Tracks of the dock to files of other programs, and back, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from napari.layers import Labels, Tracks

from napari_tinysam.background import start_thread
from napari_tinysam.errors import DataError, FileError, sentence
from napari_tinysam.ui.session.labels.edits import read_ids
from napari_tinysam.ui.session.labels.writing import plane_in
from napari_tinysam.ui.session.tracks.changes import Arrival, with_imported
from napari_tinysam.ui.state.planes import full_shape, transform_for_labels

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.tracks.state import TrackState
    from napari_tinysam.ui.session.tracks.tracked_movie import TrackedMovie
    from napari_tinysam.ui.session.tracks.tracking import Tracking
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.subject import Subject
    from napari_tinysam.volume.ctc import TrackedFrames
    from napari_tinysam.volume.exchange.attaching import Attached
    from napari_tinysam.volume.exchange.points import TrackPoints

#: Forms that are written, and the ends of their names; a folder has none.
FORMS = {
    "Cell Tracking Challenge": "",
    "GEFF": ".geff",
    "TrackMate": ".xml",
    "CSV": ".csv",
}
CTC, GEFF, TRACKMATE, CSV = FORMS

#: The step that lets objects have imported tracks.
IMPORT = "import tracks"

#: Ends of names of files with places only.
_GEFF_ENDS = (".geff", ".zarr")
_TABLE_ENDS = (".csv", ".tsv", ".txt")


@dataclass(frozen=True, eq=False)
class _Movie:
    """What is written; nothing of the viewer is asked for in the thread, but pixels."""

    layer: Labels
    image: Image
    frames: list[list[tuple[Plane, Plane]]]  # planes of the labels and of the image
    parents: Mapping[int, int]
    scale: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W) or (T, Z, H, W)."""
        depth, plane = len(self.frames[0]), self.frames[0][0][0]
        deep = (depth,) if depth > 1 else ()
        return (len(self.frames), *deep, *plane.shape)

    def labels(self) -> Iterator[npt.NDArray[Any]]:
        """Read the labels of each frame, (H, W) or (Z, H, W)."""
        for group in self.frames:
            yield _frame([read_ids(self.layer, plane) for plane, _ in group])

    def images(self) -> Iterator[npt.NDArray[Any]]:
        """Read each frame of the image; colours follow."""
        data = self.image.data[0] if self.image.multiscale else self.image.data
        for group in self.frames:
            planes = [np.asarray(data[plane.cut()]) for _, plane in group]
            yield _frame(
                [
                    plane.swapaxes(0, 1) if group[0][1].transposed else plane
                    for plane in planes
                ]
            )


@dataclass(frozen=True, eq=False)
class _Attachable:
    """Tracks that were read as places, and the objects in which these lie."""

    points: TrackPoints
    layer: Labels
    attached: Attached


_Found: TypeAlias = "tuple[Any, TrackedFrames] | TrackPoints | _Attachable"


def _frame(planes: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return planes[0] if len(planes) == 1 else np.stack(planes)


class TrackFiles:
    """Writes and reads tracks.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    subject : Subject
    tracking : Tracking
    choose : callable
        Called with an image and its new labels layer.
    post : callable
        Runs a callable soon on the session's thread, from any thread.
    notify : callable
        ``notify(level, text)``.

    Attributes
    ----------
    running : bool
        Whether a file is being written or read.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        subject: Subject,
        tracking: Tracking,
        choose: Callable[[Image, Labels], None],
        post: Callable[[Callable[[], None]], None],
        notify: Notify,
    ) -> None:
        self._viewer = viewer
        self._subject = subject
        self._tracking = tracking
        self._choose = choose
        self._post = post
        self._notify = notify
        self.running = False

    # --- writing -------------------------------------------------------------------------

    def suggestion(self, form: str) -> Path:
        """Return where tracks would be written: beside the image, called after it."""
        image = self._subject.image
        source = None if image is None else image.source.path
        folder = Path.home() if source is None else Path(source).parent
        stem = "movie" if image is None else image.name
        stem = stem if source is None else Path(source).name.split(".")[0]
        safe = "".join("_" if letter in '/\\:*?"<>|' else letter for letter in stem)
        return folder / f"{safe}_tracks{FORMS[form]}"

    def write(self, form: str, path: Path) -> None:
        """Write the tracks of the image's labels.

        Parameters
        ----------
        form : str
            Of `FORMS`.
        path : Path
        """
        movie = self._tracking.movie
        if movie is None or movie.tracks is None:
            self._notify("info", "Track the objects first.")
            return
        self._tracking.finish()
        written = self._movie(movie)
        self._start(
            partial(_write, form, path, written),
            lambda count: self._notify(
                "info", f"{count:,} tracks are written to {path.name}."
            ),
            f"{path.name} was not written",
        )

    def _movie(self, movie: TrackedMovie) -> _Movie:
        frames = [
            [(plane_in(movie.layer, plane), plane) for plane in group]
            for group in self._tracking.image_frames(movie.image)
        ]
        scale = movie.frames.scale
        return _Movie(movie.layer, movie.image, frames, movie.all_parents, scale)

    # --- reading -------------------------------------------------------------------------

    def read(self, path: Path) -> None:
        """Read tracks of the image: a folder of the challenge, GEFF, or a table.

        A folder of the challenge becomes a labels layer with its tracks. The others hold places
        only: the objects of the image's labels in which they lie get these tracks; where there
        are none, the places become a tracks layer.
        """
        image = self._subject.image
        frames = [] if image is None else self._tracking.image_frames(image)
        if image is None or not frames:
            self._notify(
                "info", "Open the movie first, and say that its planes are time."
            )
            return
        shape = list(full_shape(image))
        channels = self._subject.memory.state_of(image).channel_axis
        if channels is not None:
            del shape[channels]
        labels = self._labels(image, frames)
        self._tracking.finish()
        self._start(
            partial(_read, path, tuple(shape), labels),
            lambda found: self._show(image, path, found),
            f"{path.name} was not read",
        )

    def _labels(self, image: Image, frames: list[list[Plane]]) -> _Movie | None:
        """Return the labels that tracks may be attached to."""
        layer = self._subject.state.target
        if layer is None or layer not in self._viewer.layers:
            return None
        planes = [[(plane_in(layer, each), each) for each in group] for group in frames]
        return _Movie(layer, image, planes, {}, ())

    def _attach(self, image: Image, path: Path, found: _Attachable) -> None:
        """Let objects of the labels have the tracks that were read."""
        points, layer, objects = found.points, found.layer, found.attached

        def change(state: TrackState, movie: TrackedMovie) -> TrackState:
            return with_imported(state, movie, objects.objects, points.parents)

        self._choose(image, layer)
        self._tracking.arrive(image, IMPORT, Arrival(layer, change))
        said = f"{path.name}: {objects.in_words(layer.name)}"
        level = "warning" if points.notes else "info"
        self._notify(level, " ".join([said, *points.notes]))

    def _show(self, image: Image, path: Path, found: _Found) -> None:
        if image not in self._viewer.layers:
            return
        if isinstance(found, _Attachable):
            if found.layer in self._viewer.layers:
                self._attach(image, path, found)
                return
            found = found.points
        axis = self._subject.memory.state_of(image).channel_axis
        options = transform_for_labels(image, axis if axis == 0 else None)
        if not isinstance(found, tuple):
            rows, graph = found.for_napari()
            layer = Tracks(rows, graph=graph, name=f"{path.stem} tracks", **options)
            self._viewer.add_layer(layer)
            notes = found.notes
            said = f"{len(found.tracks()):,} tracks are in the layer {layer.name}."
            if self._subject.state.target is not None:
                said += " None of their places lies in an object of the labels."
        else:
            data, frames = found
            labels = Labels(data, name=f"{path.name} labels", opacity=0.6, **options)
            self._viewer.add_layer(labels)
            self._choose(image, labels)
            parents = {each.label: each.parent for each in frames.tracks if each.parent}
            self._tracking.take(image, parents)
            notes = frames.notes
            said = f"{len(frames.tracks):,} tracks are in the layer {labels.name}."
        self._notify("warning" if notes else "info", " ".join([said, *notes]))

    # --- the thread ----------------------------------------------------------------------

    def _start(
        self,
        work: Callable[[], Any],
        on_done: Callable[[Any], None],
        failed: str,
    ) -> None:
        if self.running:
            self._notify("info", "Wait until the last file is done.")
            return
        self.running = True
        self._subject.changed.emit()

        def end(report: Callable[[], None]) -> None:
            try:
                report()
            finally:
                self.running = False
                self._subject.changed.emit()

        def run() -> None:
            report: Callable[[], None]
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - every failure is told
                report = partial(self._notify, "error", sentence(error, failed))
            else:
                report = partial(on_done, result)
            self._post(partial(end, report))

        start_thread(run, "tinysam-tracks")


def _write(form: str, path: Path, movie: _Movie) -> int:
    """Write tracks as the labels show them; return how many there are."""
    from napari_tinysam.volume.ctc import write_ctc
    from napari_tinysam.volume.exchange.geff_store import check_geff, write_geff
    from napari_tinysam.volume.exchange.points import TrackPoints
    from napari_tinysam.volume.exchange.tables import write_csv
    from napari_tinysam.volume.exchange.trackmate import write_trackmate

    if form == GEFF:
        check_geff(path)
    images = movie.images() if form in (GEFF, TRACKMATE, CSV) else None
    points = TrackPoints.of(movie.labels(), movie.parents, images)
    tracks = points.tracks()
    shown = {each.label for each in tracks}
    parents = {
        child: mother
        for child, mother in points.parents.items()
        if child in shown and mother in shown  # unless they were erased
    }
    points.parents.clear()
    points.parents.update(parents)
    tracks = points.tracks()
    if form == CTC:
        write_ctc(path, movie.labels(), tracks)
    elif form == GEFF:
        write_geff(path, points, movie.scale)
    elif form == TRACKMATE:
        source = movie.image.source.path
        write_trackmate(
            path,
            points,
            movie.shape,
            scale=movie.scale,
            image=None if source is None else Path(source),
        )
    else:
        write_csv(path, points)
    return len(tracks)


def _read(path: Path, shape: tuple[int, ...], labels: _Movie | None) -> _Found:
    """Read tracks of a movie of a shape, (T, H, W) or (T, Z, H, W), and of its labels."""
    from napari_tinysam.volume.ctc import read_ctc
    from napari_tinysam.volume.exchange.attaching import attached
    from napari_tinysam.volume.exchange.geff_store import read_geff
    from napari_tinysam.volume.exchange.tables import read_csv

    if path.suffix.lower() in _TABLE_ENDS and path.is_file():
        points = read_csv(path)
    elif path.suffix.lower() in _GEFF_ENDS or (path / "zarr.json").exists():
        points = read_geff(path)
    elif path.is_dir():
        frames = read_ctc(path)
        size = (len(frames), *frames.frame(0).shape)
        if size != shape:
            raise DataError(
                f"It has {' × '.join(map(str, size))} pixels, the movie "
                f"{' × '.join(map(str, shape))}: it is of another one."
            )
        data = np.zeros(shape, np.uint32)
        for number in range(len(frames)):
            data[number] = frames.frame(number)
        return data, frames
    else:
        raise FileError("Choose a folder of the challenge, a GEFF or a table (CSV).")
    points.check_inside(shape)
    if labels is not None:
        found = attached(points, labels.labels())
        if found.objects:
            return _Attachable(points, labels.layer, found)
    return points
