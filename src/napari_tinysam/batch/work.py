"""What a worker does: the tasks of a batch, one at a time, with one model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.batch.large_plane import LargePlane
from napari_tinysam.batch.linked import axis_of, lacks_parents, linked
from napari_tinysam.batch.parts import KeptLabels, Parts, PlaneResult
from napari_tinysam.batch.provenance import Provenance, content_hash, find_place
from napari_tinysam.batch.results import complete, is_complete, write_results
from napari_tinysam.batch.settings import BatchSettings, FileOutcome
from napari_tinysam.batch.tables import ObjectTable
from napari_tinysam.batch.tasks import (
    Answer,
    Failed,
    Identity,
    InTiles,
    Plan,
    PlaneMade,
    Task,
    TilesMade,
)
from napari_tinysam.errors import FileError, sentence
from napari_tinysam.everything import (
    Segmentation,
    TiledSegmentation,
    is_tiled,
    label_proposals,
    segmentation_of,
)
from napari_tinysam.files.formats.ome_zarr import is_zarr
from napari_tinysam.files.ome_zarr import can_be_ome_zarr
from napari_tinysam.files.planes import open_planes
from napari_tinysam.files.remote import RemotePath

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_tinysam.batch.jobs import Job, LabelsForm
    from napari_tinysam.files.planes import FilePlane, PlaneSeries
    from napari_tinysam.inference.predictor import Predictor

    Labels = npt.NDArray[np.integer[Any]]

#: Forms in which labels may be there, if none is asked for.
_FORMS: tuple[LabelsForm, ...] = ("tiff", "ome-zarr")

#: Labels of planes with more pixels are OME-Zarr.
_LARGE = 4096**2


class Worker:
    """One model and what to do with it.

    Parameters
    ----------
    predictor : Predictor
    settings : BatchSettings
    stems : frozenset of str
        See `taken_stems`.
    """

    def __init__(
        self,
        predictor: Predictor,
        settings: BatchSettings,
        stems: frozenset[str] = frozenset(),
    ) -> None:
        self._predictor = predictor
        self._settings = settings
        self._stems = stems
        #: The large plane that was opened last, and which one it is.
        self._large: tuple[tuple[str, str, int], LargePlane] | None = None

    @property
    def identity(self) -> Identity:
        """What must be the same for all workers of a run."""
        from napari_tinysam import __version__

        one = self._predictor
        return Identity(__version__, one.name, one.model_id, one.has_object_head)

    def perform(self, task: Task) -> Answer:
        """Do a task. Whatever goes wrong is an answer, so that the others go on."""
        try:
            if task.plan is None:
                return self._begin(task.job)
            if task.plane is None:
                return self._finish(task.plan)
            if task.tiles:
                large = self._large_plane(task.plan, task.plane)
                large.search(task.tiles, task.side)
                return TilesMade()
            if task.tiles is None and self._is_tiled(
                planes := self._open(task.plan.job)
            ):
                large = self._large_plane(task.plan, task.plane, planes)
                return large.choose() or InTiles(large.missing(), len(large))
            self._plane(task.plan, self._open(task.plan.job), task.plane)
            return PlaneMade()
        except Exception as error:  # noqa: BLE001  # one file must not end the run
            return Failed(sentence(error))

    def _begin(self, job: Job) -> Plan | FileOutcome:
        wanted = Provenance(self._noted(), content_hash(job.image))
        others = self._stems - {job.stem.casefold()}
        form = self._settings.labels_form
        remote = isinstance(job.image, RemotePath)
        if form == "inside" and (remote or not is_zarr(job.image)):
            raise FileError(
                f"{job.image} is no OME-Zarr image on a disk, so labels cannot be written inside."
            )
        forms = _FORMS if form == "auto" else (form,)
        job, state, notes = find_place(job, wanted, others, forms)
        if state == "foreign":
            return FileOutcome(job, "foreign")
        if job.image.resolve() in (job.labels.resolve(), job.overlay.resolve()):
            raise FileError(f"The output would replace the image {job.image} itself.")
        if state == "there" and lacks_parents(job, self._settings):
            state = "new"
        if state == "there" and is_complete(job, self._settings):
            return FileOutcome(job, "there", notes=notes)
        planes = self._open(job)
        if state == "there":
            complete(job, planes, self._settings)
            return FileOutcome(job, "completed", notes=notes)
        if form == "auto" and not job.labels.exists() and _is_large(planes):
            job = replace(job, labels_form="ome-zarr")
        count = len(planes.indices)
        if count > 1 and self._settings.link is not None:
            axis_of(planes, self._settings.link)  # not after hours
        if count > 1 or self._is_tiled(planes):
            missing = Parts(job, wanted.description(job)).missing(count)
            return Plan(job, wanted, count, missing, notes)
        found = self._found(planes, planes.indices[0])
        return self._written(job, wanted, planes, [found.labels], [found], notes)

    def _finish(self, plan: Plan) -> FileOutcome:
        planes = self._open(plan.job)
        parts = Parts(plan.job, plan.wanted.description(plan.job))
        if plan.planes == 1:
            found = [self._plane(plan, planes, 0)]
            labels: Sequence[Labels] = [found[0].labels]
        else:  # all planes may be more than fits into memory
            labels = KeptLabels(parts, plan.planes)
            found = [
                (parts.find(n) or self._plane(plan, planes, n)).without_labels()
                for n in range(plan.planes)
            ]
        outcome = self._written(
            plan.job, plan.wanted, planes, labels, found, plan.notes
        )
        parts.remove()
        self._large = None
        return outcome

    def _plane(self, plan: Plan, planes: PlaneSeries, number: int) -> PlaneResult:
        """Segment a plane, or join its tiles, and keep it."""
        index = planes.indices[number]
        if self._is_tiled(planes):
            large = self._large_plane(plan, number, planes)
            found = self._labelled(planes, index, large.plane, large.joined())
        else:
            found = self._found(planes, index)
        if plan.planes > 1:  # otherwise the results follow at once
            Parts(plan.job, plan.wanted.description(plan.job)).keep(number, found)
        return found

    def _large_plane(
        self, plan: Plan, number: int, planes: PlaneSeries | None = None
    ) -> LargePlane:
        """Open a large plane, unless it is open: a worker often goes on with the same one."""
        description = plan.wanted.description(plan.job)
        which = plan.job.stem, description, number
        if self._large is None or self._large[0] != which:
            self._large = None  # not two planes at a time
            planes = planes or self._open(plan.job)
            plane = planes.open(planes.indices[number])
            tiles = Parts(plan.job, description).tiles(number)
            large = LargePlane(self._predictor, plane, self._settings, tiles)
            self._large = which, large
        return self._large[1]

    def _is_tiled(self, planes: PlaneSeries) -> bool:
        return 0 not in planes.size and is_tiled(planes.size, self._settings.tiles)

    def _found(self, planes: PlaneSeries, index: tuple[int, ...]) -> PlaneResult:
        plane = planes.read(index)
        segmentation = segmentation_of(
            self._predictor,
            plane.pixels,
            self._settings.mode,
            tiles_of="off",
            **plane.options,
        )
        return self._labelled(planes, index, plane, segmentation.run())

    def _labelled(
        self,
        planes: PlaneSeries,
        index: tuple[int, ...],
        plane: FilePlane,
        segmentation: Segmentation | TiledSegmentation,
    ) -> PlaneResult:
        table, notes = ObjectTable(planes.axes), plane.notes
        if isinstance(segmentation, TiledSegmentation):
            notes = (*notes, segmentation.note)
        proposals = segmentation.proposals
        how = replace(segmentation.settings, **self._settings.labels)  # type: ignore[arg-type]
        found = label_proposals(proposals, how)
        table.add(index, found, proposals, plane.pixels)
        return PlaneResult(found.labels, table.rows, notes)

    def _written(
        self,
        job: Job,
        wanted: Provenance,
        planes: PlaneSeries,
        labels: Sequence[Labels],
        found: list[PlaneResult],
        notes: tuple[str, ...],
    ) -> FileOutcome:
        description = wanted.description(job)
        rows = [row for plane in found for row in plane.rows]
        said = next((plane.notes for plane in found if plane.notes), ())
        notes = (*notes, *planes.notes, *said, *planes.absent_note)
        if self._settings.link is not None:
            labels, rows, more = linked(planes, labels, found, self._settings)
            notes = (*notes, *more)
        write_results(job, planes, labels, rows, self._settings, description)
        objects = len(rows)
        if self._settings.link is not None:  # each of them once
            objects = len({row["label"] for row in rows})
        return FileOutcome(job, "written", objects, len(found), notes=notes)

    def _open(self, job: Job) -> PlaneSeries:
        return open_planes(job.image, self._settings.channel, self._settings.series)

    def _noted(self) -> dict[str, Any]:
        """Return all settings that labels depend on; equal ones give equal labels."""
        settings, identity = self._settings, self.identity
        channel = settings.channel
        return {
            "version": identity.version.partition("+")[0],
            "model": identity.model,
            "id": identity.model_id,
            "mode": settings.mode,
            "labels": settings.labels,
            "channel": None if channel is None else list(channel),
            "series": settings.series or 0,
            "tiles": settings.tiles,
            # Left out where it is not used: earlier results stay valid.
            **(
                {"link": [settings.link, settings.least_planes]}
                if settings.link
                else {}
            ),
        }


def _is_large(planes: PlaneSeries) -> bool:
    stack = planes.stack
    size = [stack.shape[stack.axes.index(axis)] for axis in "YX" if axis in stack.axes]
    return int(np.prod(size)) > _LARGE and can_be_ome_zarr(planes.axes)
