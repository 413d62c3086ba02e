"""What a worker does: the jobs of a batch, one at a time, with one model.

A job is a file, or one plane of a stack. A file of one plane is segmented and written at once. A
stack is planned first, then its planes are segmented in any order by any worker, then one worker
writes its results.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_tinysam.batch.parts import Parts, PlaneResult
from napari_tinysam.batch.provenance import Provenance, content_hash, find_place
from napari_tinysam.batch.results import complete, is_complete, write_results
from napari_tinysam.batch.settings import BatchSettings, FileOutcome
from napari_tinysam.batch.tables import ObjectTable
from napari_tinysam.errors import FileError, sentence
from napari_tinysam.everything import (
    TiledSegmentation,
    label_proposals,
    segmentation_of,
)
from napari_tinysam.files.formats.ome_zarr import is_zarr
from napari_tinysam.files.ome_zarr import can_be_ome_zarr
from napari_tinysam.files.planes import open_planes

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.batch.jobs import Job, LabelsForm
    from napari_tinysam.files.planes import FilePlane, PlaneSeries
    from napari_tinysam.inference.predictor import Predictor


#: Forms in which labels may be there, if none is asked for.
_FORMS: tuple[LabelsForm, ...] = ("tiff", "ome-zarr")

#: Labels of planes with more pixels are OME-Zarr.
_LARGE = 4096**2


class Identity(NamedTuple):
    """What must be the same for all workers of a run.

    Attributes
    ----------
    version : str
        Of this package.
    model, model_id : str
        Name of the model; its weights and runtime.
    has_object_head : bool
    """

    version: str
    model: str
    model_id: str
    has_object_head: bool


@dataclass(frozen=True)
class Plan:
    """How a stack will be done.

    Attributes
    ----------
    job : Job
        Under the stem of its results.
    wanted : Provenance
    planes : int
        How many there are.
    missing : tuple of int
        Those that were not segmented before.
    notes : tuple of str
        As of `FileOutcome`.
    """

    job: Job
    wanted: Provenance
    planes: int
    missing: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes
    ----------
    number : int
        Of the file in the run.
    job : Job
    plan : Plan, optional
        Of a stack; without it the file is begun, and finished if it is a single plane.
    plane : int, optional
        Which plane to segment. With a plan but no plane the results are written.
    """

    number: int
    job: Job
    plan: Plan | None = None
    plane: int | None = None

    @property
    def name(self) -> tuple[int, bool, int | None]:
        """Tells tasks of a run apart."""
        return self.number, self.plan is None, self.plane


@dataclass(frozen=True)
class PlaneMade:
    """A plane of a stack is segmented and kept."""


@dataclass(frozen=True)
class Failed:
    """A task failed.

    Attributes
    ----------
    reason : str
        One sentence.
    """

    reason: str


Answer = Plan | PlaneMade | FileOutcome | Failed


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
            return self._segment(task.plan, task.plane)
        except Exception as error:  # noqa: BLE001  # one file must not end the run
            return Failed(sentence(error))

    def _begin(self, job: Job) -> Plan | FileOutcome:
        wanted = Provenance(self._noted(), content_hash(job.image))
        others = self._stems - {job.stem.casefold()}
        form = self._settings.labels_form
        if form == "inside" and not is_zarr(job.image):
            raise FileError(
                f"{job.image} is no OME-Zarr image, so labels cannot be written inside."
            )
        forms = _FORMS if form == "auto" else (form,)
        job, state, notes = find_place(job, wanted, others, forms)
        if state == "foreign":
            return FileOutcome(job, "foreign")
        if job.image.resolve() in (job.labels.resolve(), job.overlay.resolve()):
            raise FileError(f"The output would replace the image {job.image} itself.")
        if state == "there" and is_complete(job, self._settings):
            return FileOutcome(job, "there", notes=notes)
        planes = self._open(job)
        if state == "there":
            complete(job, planes, self._settings)
            return FileOutcome(job, "completed", notes=notes)
        if form == "auto" and not job.labels.exists() and _is_large(planes):
            job = replace(job, labels_form="ome-zarr")
        count = len(planes.indices)
        if count > 1:
            missing = Parts(job, wanted.description(job)).missing(count)
            return Plan(job, wanted, count, missing, notes)
        plane = planes.read(planes.indices[0])
        found = self._found(planes, planes.indices[0], plane)
        return self._written(job, wanted, planes, [found], notes, plane)

    def _segment(self, plan: Plan, number: int) -> PlaneMade:
        self._plane(plan, self._open(plan.job), number)
        return PlaneMade()

    def _finish(self, plan: Plan) -> FileOutcome:
        planes = self._open(plan.job)
        parts = Parts(plan.job, plan.wanted.description(plan.job))
        found = [
            parts.find(number) or self._plane(plan, planes, number)
            for number in range(plan.planes)
        ]
        outcome = self._written(plan.job, plan.wanted, planes, found, plan.notes)
        parts.remove()
        return outcome

    def _plane(self, plan: Plan, planes: PlaneSeries, number: int) -> PlaneResult:
        """Segment a plane of a stack and keep it."""
        index = planes.indices[number]
        found = self._found(planes, index, planes.read(index))
        Parts(plan.job, plan.wanted.description(plan.job)).keep(number, found)
        return found

    def _found(
        self, planes: PlaneSeries, index: tuple[int, ...], plane: FilePlane
    ) -> PlaneResult:
        table = ObjectTable(planes.axes)
        segmentation = segmentation_of(
            self._predictor,
            plane.pixels,
            self._settings.mode,
            tiles_of=self._settings.tiles,
            **plane.options,
        )
        notes = plane.notes
        if isinstance(segmentation, TiledSegmentation):
            notes = (*notes, segmentation.note)
        proposals = segmentation.run().proposals
        how = replace(segmentation.settings, **self._settings.labels)  # type: ignore[arg-type]
        found = label_proposals(proposals, how)
        table.add(index, found, proposals, plane.pixels)
        labels = found.labels.astype(_dtype(found.labels))
        return PlaneResult(labels, table.rows, notes)

    def _written(
        self,
        job: Job,
        wanted: Provenance,
        planes: PlaneSeries,
        found: list[PlaneResult],
        notes: tuple[str, ...],
        first: FilePlane | None = None,
    ) -> FileOutcome:
        description = wanted.description(job)
        write_results(job, planes, found, self._settings, description, first)
        objects = sum(len(plane.rows) for plane in found)
        said = next((plane.notes for plane in found if plane.notes), ())
        notes = (*notes, *planes.notes, *said)
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
        }


def _is_large(planes: PlaneSeries) -> bool:
    stack = planes.stack
    size = [stack.shape[stack.axes.index(axis)] for axis in "YX" if axis in stack.axes]
    return int(np.prod(size)) > _LARGE and can_be_ome_zarr(planes.axes)


def _dtype(labels: npt.NDArray[np.int32]) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if labels.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
