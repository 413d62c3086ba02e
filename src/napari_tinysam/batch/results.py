"""Write the results of a file: labels, table, picture and what else is asked for.

Each is whole or not there. The labels are written last, so their presence means that a file is
done. What is missing beside them is made from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.batch.forms import FORMS, FoundObjects
from napari_tinysam.batch.forms.found import PlaneObjects
from napari_tinysam.batch.tables import TABLE_FORMS, ObjectTable
from napari_tinysam.errors import FileError
from napari_tinysam.files.atomic import replacing
from napari_tinysam.files.ome_zarr import (
    is_listed,
    list_label,
    read_label_pyramid,
    write_label_pyramid,
)
from napari_tinysam.files.writing import write_label_planes, write_picture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_tinysam.batch.jobs import Job
    from napari_tinysam.batch.settings import BatchSettings
    from napari_tinysam.files.planes import FilePlane, PlaneSeries

    Labels = npt.NDArray[np.integer[Any]]

#: Longest side of a plane in pixels that is drawn as it is.
_LARGEST_DRAWN = 4096


def write_results(
    job: Job,
    planes: PlaneSeries,
    labels: Sequence[Labels],
    rows: list[dict[str, Any]],
    settings: BatchSettings,
    description: str,
) -> None:
    """Write all results of a file.

    Parameters
    ----------
    job : Job
    planes : PlaneSeries
    labels : sequence of ndarray of int, (H, W)
        One for each plane. They may be read when they are asked for: one is needed at a time.
    rows : list of dict
        Of the table.
    settings : BatchSettings
    description : str
        Kept by the labels, see `Provenance`.

    Raises
    ------
    FileError
        If something cannot be written.
    """
    table = ObjectTable(planes.axes, rows)
    if settings.overlay:
        _write_overlay(job.overlay, planes.open(planes.indices[0]), labels[0])
    _write_table(job, table, settings)
    for name in settings.also:
        _write_form(job, name, planes, labels, table)
    if job.labels_form == "tiff":
        # Labels of a plane are 1, 2, …: its rows say how many bits they take.
        most = max((row["label"] for row in rows), default=0)
        write_label_planes(
            job.labels,
            labels,
            (*planes.counts, *planes.size),
            np.uint16 if most <= np.iinfo(np.uint16).max else np.uint32,
            f"{planes.axes}YX",
            description,
        )
    else:
        write_label_pyramid(
            job.labels,
            labels,
            planes.counts,
            planes.axes,
            description,
            image=job.holder,
        )


def is_complete(job: Job, settings: BatchSettings) -> bool:
    """Whether all that is asked for is there beside the labels."""
    wanted = [
        job.table(settings.table_form),
        *([job.overlay] if settings.overlay else []),
    ]
    wanted += [job.result(FORMS[name].ending) for name in settings.also]
    listed = job.holder is None or is_listed(job.holder, job.labels.name)
    return listed and all(path.exists() for path in wanted)


def complete(job: Job, planes: PlaneSeries, settings: BatchSettings) -> None:
    """Make from the labels what is missing beside them.

    Raises
    ------
    FileError
        If the labels do not fit the image, or something cannot be read or written.
    """
    stack = _read_labels(job)
    stack = stack.reshape(-1, *stack.shape[-2:])
    if job.holder is not None:  # the run ended between the two
        list_label(job.holder, job.labels.name)
    if len(stack) != len(planes.indices):
        raise FileError(f"{job.labels} does not fit {job.image}; move it away.")
    if settings.overlay and not job.overlay.exists():
        _write_overlay(job.overlay, planes.open(planes.indices[0]), stack[0])
    there = [job.table(form) for form in TABLE_FORMS if job.table(form).exists()]
    if there:
        table = ObjectTable.read(planes.axes, there[0])
    else:
        table = ObjectTable(planes.axes)
        for index, labels in zip(planes.indices, stack, strict=True):
            table.add_labels(index, labels, planes.open(index).pixels)
    if not job.table(settings.table_form).exists():
        _write_table(job, table, settings)
    for name in settings.also:
        if not job.result(FORMS[name].ending).exists():
            _write_form(job, name, planes, list(stack), table)


def _read_labels(job: Job) -> Labels:
    if job.labels_form != "tiff":
        return read_label_pyramid(job.labels)
    import tifffile

    return np.asarray(tifffile.imread(job.labels))


def _write_table(job: Job, table: ObjectTable, settings: BatchSettings) -> None:
    with replacing(job.table(settings.table_form)) as file:
        file.write(TABLE_FORMS[settings.table_form](table))


def _write_form(
    job: Job,
    name: str,
    planes: PlaneSeries,
    labels: Sequence[Labels],
    table: ObjectTable,
) -> None:
    form = FORMS[name]
    objects = FoundObjects(
        job.name,
        planes.axes,
        table.column_names,
        [
            PlaneObjects(index, plane, table.rows_of(index))
            for index, plane in zip(planes.indices, labels, strict=True)
        ],
    )
    with replacing(job.result(form.ending)) as file:
        file.write(form.encode(objects))


def _write_overlay(path: Path, plane: FilePlane, labels: Labels) -> None:
    from napari_tinysam.files.overlay import draw_overlay
    from napari_tinysam.image import to_rgb

    # Of a large plane every second, third … pixel: the picture is smaller still.
    step = max(1, max(plane.size) // _LARGEST_DRAWN)
    rgb = to_rgb(np.asarray(plane.pixels[::step, ::step]), **plane.options)
    write_picture(path, draw_overlay(rgb, labels[::step, ::step].astype(np.int32)))
