"""Objects of the planes of a file become objects of its stack, or tracks of its movie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from napari_tinysam.batch.tables import TABLE_FORMS
from napari_tinysam.files.movie import find_axis
from napari_tinysam.volume.linking import LinkSettings
from napari_tinysam.volume.many_axes import link_planes
from napari_tinysam.volume.tracking import TrackSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_tinysam.batch.jobs import Job
    from napari_tinysam.batch.parts import PlaneResult
    from napari_tinysam.batch.settings import BatchSettings
    from napari_tinysam.files.planes import PlaneSeries
    from napari_tinysam.volume.linking import Links

#: Planes that an object of a stack shows in at least; one of a single plane is mostly a mistake.
_LEAST_PLANES = 2


class LinkedLabels(Sequence["npt.NDArray[np.integer[Any]]"]):
    """The labels of all planes as labels of the stack, each made when it is asked for."""

    def __init__(
        self, labels: Sequence[npt.NDArray[np.integer[Any]]], links: Links
    ) -> None:
        self._labels, self._links = labels, links

    def __len__(self) -> int:
        """Return how many planes there are."""
        return len(self._labels)

    def __getitem__(self, number: Any) -> Any:
        """Return the labels of a plane."""
        return self._links.relabelled(number, self._labels[number])


def linked(
    planes: PlaneSeries,
    labels: Sequence[npt.NDArray[np.integer[Any]]],
    found: Sequence[PlaneResult],
    settings: BatchSettings,
) -> tuple[
    Sequence[npt.NDArray[np.integer[Any]]], list[dict[str, Any]], tuple[str, ...]
]:
    """Link the objects of a file.

    Parameters
    ----------
    planes : PlaneSeries
    labels : sequence of ndarray of int, (H, W)
        Of each plane.
    found : sequence of PlaneResult
        Their rows are those of each plane.
    settings : BatchSettings
        `link` says along which axis.

    Returns
    -------
    labels : sequence of ndarray of int32, (H, W)
    rows : list of dict
        With the labels of the stack, and in movies the parent of each track, 0 for none. Those of
        objects that are left out are left out.
    notes : tuple of str

    Raises
    ------
    FileError
        If the file has no such axis.
    """
    assert settings.link is not None
    if len(planes.indices) < 2:
        rows = [row for plane in found for row in plane.rows]
        note = f"{planes.stack.path.name} has a single plane; there is nothing to link."
        return labels, rows, (note,)
    axis, notes = axis_of(planes, settings.link)
    time, depth = (axis, None) if settings.link == "t" else (None, axis)
    if settings.link == "t" and len(planes.axes) == 2:
        depth = 1 - axis
    least = settings.least_planes
    made = link_planes(
        labels.__getitem__,
        planes.counts,
        time=time,
        depth=depth,
        linking=LinkSettings(
            least_planes=_LEAST_PLANES if least is None or time is not None else least
        ),
        tracking=TrackSettings(least_frames=1 if least is None else least),
    )
    kept = []
    for number, plane in enumerate(found):
        names = dict(
            zip(
                made.links.ids[number].tolist(),
                made.links.objects[number].tolist(),
                strict=True,
            )
        )
        for row in plane.rows:
            label = names.get(row["label"], 0)
            if label:
                parent = (
                    {"parent": made.parents.get(label, 0)} if time is not None else {}
                )
                kept.append({**row, "label": label, **parent})
    return LinkedLabels(labels, made.links), kept, notes


def axis_of(
    planes: PlaneSeries, link: Literal["z", "t"]
) -> tuple[int, tuple[str, ...]]:
    """Find the axis to link along; see `find_axis`."""
    return find_axis(planes.stack.path.name, planes.axes, link)


def lacks_parents(job: Job, settings: BatchSettings) -> bool:
    """Whether the table of a movie is lost: labels do not say who descends from whom."""
    return settings.link == "t" and not any(
        job.table(form).exists() for form in TABLE_FORMS
    )
