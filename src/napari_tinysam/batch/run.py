"""Segment many image files: all objects of each, as labels, a table and a picture.

Each file is finished or untouched. The labels are written last, so their presence means that a file
is done. A second run skips such files and makes a missing table or picture from the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_tinysam.batch.provenance import Provenance, content_hash, find_place
from napari_tinysam.batch.tables import ObjectTable
from napari_tinysam.errors import FileError, TinySAMError, explained
from napari_tinysam.everything import Mode, Segmentation, label_proposals
from napari_tinysam.files.atomic import replacing
from napari_tinysam.files.planes import open_planes
from napari_tinysam.files.writing import write_label_stack, write_picture

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_tinysam.batch.jobs import Job
    from napari_tinysam.files.planes import FilePlane, PlaneSeries
    from napari_tinysam.inference.predictor import Predictor


@dataclass(frozen=True)
class BatchSettings:
    """How each file is segmented.

    Attributes
    ----------
    mode : str
        See `napari_tinysam.everything.Mode`.
    labels : dict
        Fields of `LabelSettings` that replace the model's own.
    channel : tuple of int, optional
        As in `napari_tinysam.files.planes.read_plane`.
    overlay : bool
        Whether a picture of the first plane is written, with the objects outlined.
    series : int, optional
        As in `napari_tinysam.files.planes.read_plane`.
    """

    mode: Mode = "auto"
    labels: dict[str, float | bool] = field(default_factory=dict)
    channel: tuple[int, ...] | None = None
    overlay: bool = False
    series: int | None = None


@dataclass
class FileOutcome:
    """The outcome of one file.

    Attributes
    ----------
    job : Job
    state : {"written", "there", "completed", "foreign", "failed"}
        "there": it was done before, with the same settings. "completed": likewise, and a missing
        table or picture was made from the labels. "foreign": a label file of this name is left
        alone, because this command did not make it or somebody changed it.
    objects, planes : int
        How many were written.
    reason : str
        Why it failed, in one sentence.
    notes : tuple of str
        Choices that were made where the file left one open.
    """

    job: Job
    state: Literal["written", "there", "completed", "foreign", "failed"]
    objects: int = 0
    planes: int = 0
    reason: str = ""
    notes: tuple[str, ...] = field(default=())


def segment_files(
    jobs: Sequence[Job],
    predictor: Predictor,
    settings: BatchSettings | None = None,
    *,
    on_plane: Callable[[Job, int, int], None] = lambda job, done, total: None,
) -> Iterator[FileOutcome]:
    """Segment one file after another.

    Parameters
    ----------
    jobs : sequence of Job
    predictor : Predictor
    settings : BatchSettings, optional
    on_plane : callable
        Called after each plane with the job, the number of planes done, and of all planes.

    Yields
    ------
    FileOutcome
        For each file, once it is done. A file that fails does not stop the others.
    """
    settings = settings or BatchSettings()
    stems = [job.stem.casefold() for job in jobs]
    for job in jobs:
        others = frozenset(stem for stem in stems if stem != job.stem.casefold())
        try:
            with explained():
                outcome = _segment_file(job, predictor, settings, others, on_plane)
            yield outcome
        except TinySAMError as error:
            yield FileOutcome(job, "failed", reason=str(error))


def _segment_file(
    job: Job,
    predictor: Predictor,
    settings: BatchSettings,
    others: frozenset[str],
    on_plane: Callable[[Job, int, int], None],
) -> FileOutcome:
    wanted = Provenance(_noted(predictor, settings), content_hash(job.image))
    job, state, notes = find_place(job, wanted, others)
    if state == "foreign":
        return FileOutcome(job, "foreign")
    if job.image.resolve() in (job.labels.resolve(), job.overlay.resolve()):
        raise FileError(f"The output would replace the image {job.image} itself.")
    if state == "there":
        made = _completed(job, settings)
        return FileOutcome(job, "completed" if made else "there", notes=notes)
    planes = open_planes(job.image, settings.channel, settings.series)
    table = ObjectTable(planes.axes)
    said: tuple[str, ...] = ()
    labels: list[npt.NDArray[np.unsignedinteger[Any]]] = []
    for number, index in enumerate(planes.indices):
        plane = planes.read(index)
        said = said or plane.notes
        embedding = predictor.encode(plane.pixels, **plane.options)
        segmentation = Segmentation(predictor, embedding, settings.mode).run()
        proposals = segmentation.proposals
        how = replace(segmentation.settings, **settings.labels)  # type: ignore[arg-type]
        found = label_proposals(proposals, how)
        table.add(index, found, proposals, plane.pixels)
        if not number and settings.overlay:
            _write_overlay(job.overlay, plane, found.labels)
        labels.append(found.labels.astype(_dtype(found.labels)))
        on_plane(job, number + 1, len(planes.indices))
    with replacing(job.table) as file:
        file.write(table.to_csv())
    _write_labels(job.labels, labels, planes, wanted.description(job))
    notes = (*notes, *planes.notes, *said)
    return FileOutcome(job, "written", len(table.rows), len(labels), notes=notes)


def _completed(job: Job, settings: BatchSettings) -> bool:
    """Make a missing table or picture from the labels; returns whether one was missing."""
    without_table = not job.table.exists()
    without_overlay = settings.overlay and not job.overlay.exists()
    if not without_table and not without_overlay:
        return False
    import tifffile

    planes = open_planes(job.image, settings.channel, settings.series)
    labels = tifffile.imread(job.labels)
    labels = labels.reshape(-1, *labels.shape[-2:])
    if len(labels) != len(planes.indices):
        raise FileError(f"{job.labels} does not fit {job.image}; move it away.")
    if without_overlay:
        first = planes.read(planes.indices[0])
        _write_overlay(job.overlay, first, labels[0].astype(np.int32))
    if without_table:
        table = ObjectTable(planes.axes)
        for index, plane in zip(planes.indices, labels, strict=True):
            table.add_labels(index, plane, planes.read(index).pixels)
        with replacing(job.table) as file:
            file.write(table.to_csv())
    return True


def _write_overlay(
    path: Path, plane: FilePlane, labels: npt.NDArray[np.integer[Any]]
) -> None:
    from napari_tinysam.files.overlay import draw_overlay
    from napari_tinysam.image import to_rgb

    write_picture(path, draw_overlay(to_rgb(plane.pixels, **plane.options), labels))


def _dtype(labels: npt.NDArray[np.int32]) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if labels.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32


def _write_labels(
    path: Path,
    labels: list[npt.NDArray[np.unsignedinteger[Any]]],
    planes: PlaneSeries,
    description: str,
) -> None:
    """Write all planes with the axes of the stack."""
    stack = np.stack(labels).reshape(*planes.counts, *labels[0].shape)
    write_label_stack(path, stack, f"{planes.axes}YX", description)


def _noted(predictor: Predictor, settings: BatchSettings) -> dict[str, Any]:
    """Return all settings that labels depend on; equal ones give equal labels."""
    from napari_tinysam import __version__

    return {
        "version": __version__.partition("+")[0],
        "model": predictor.name,
        "id": predictor.model_id,
        "mode": settings.mode,
        "labels": settings.labels,
        "channel": None if settings.channel is None else list(settings.channel),
        "series": settings.series or 0,
    }
