"""``napari-tinysam auto``: all objects of many images, as labels, tables and pictures."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from napari_tinysam.cli.batch_runs import here, is_prepared, load_worker, run_jobs
from napari_tinysam.cli.console import counted, note
from napari_tinysam.cli.options import (
    ChannelOption,
    DeviceOption,
    ModelOption,
    PrecisionOption,
    SeriesOption,
    ThreadsOption,
    argument,
    option,
    output_option,
)
from napari_tinysam.errors import FileError, UsageError, explained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tinysam.batch.jobs import Job
    from napari_tinysam.batch.runners.protocol import Load, Runner
    from napari_tinysam.batch.settings import BatchSettings
    from napari_tinysam.everything import Tiles

#: Least side of a tile, in pixels: the model needs to see what is around an object.
LEAST_TILE = 256

#: Seconds after which half-written files of a run that was killed are removed.
_ABANDONED = 3600


def auto(
    images: Annotated[
        list[str],
        argument(
            "IMAGE...",
            "Files, folders or patterns such as '*.tif': TIFF, OME-TIFF, OME-Zarr (images and "
            "plates, also at https:// or s3://), NPY, PNG or JPEG; CZI, LIF and ND2 with bioio.",
        ),
    ],
    output: Annotated[
        Path, output_option("FOLDER", "Where the results go; made if it is not there.")
    ],
    model: ModelOption = "default",
    mode: Annotated[
        str,
        option(
            "NAME",
            "guided (the model's object head says where to look), hierarchical, dense or "
            "head. auto is guided if the model has an object head.",
        ),
    ] = "auto",
    confidence: Annotated[
        float | None,
        option(
            "C",
            "0 to 1; higher keeps only surer objects. Without it: what suits the model.",
        ),
    ] = None,
    min_area: Annotated[float | None, option("A", "In pixels.")] = None,
    max_area: Annotated[float | None, option("A", "In pixels.")] = None,
    parts: Annotated[
        float | None, option("P", "0 prefers whole objects, 1 their parts.")
    ] = None,
    max_overlap: Annotated[
        float | None,
        option(
            "O",
            "0 to 1; an object is left out if surer ones cover more than this share of it.",
        ),
    ] = None,
    channel: ChannelOption = None,
    overlay: Annotated[
        bool,
        typer.Option("--overlay", help="Also write a PNG with the objects outlined."),
    ] = False,
    series: SeriesOption = None,
    also: Annotated[
        str | None,
        option(
            "FORMS",
            "Write the objects for other programs as well, as a list with commas: coco "
            "(NAME_coco.json), roi (NAME_rois.zip for ImageJ's ROI Manager), geojson "
            "(NAME_objects.geojson for QuPath).",
        ),
    ] = None,
    labels_as: Annotated[
        str,
        option(
            "FORM",
            "tiff, ome-zarr (NAME_labels.ome.zarr, version 0.5) or inside (labels/tinysam in an "
            "OME-Zarr image). auto is tiff for planes of up to 4096 x 4096 pixels.",
            "--labels",
        ),
    ] = "auto",
    table: Annotated[
        str, option("FORM", "csv, or parquet if pyarrow is installed.")
    ] = "csv",
    workers: Annotated[
        int,
        option(
            "N",
            "Processes that share the images and the cores of this computer. Each loads the "
            "model.",
            min=1,
        ),
    ] = 1,
    scheduler: Annotated[
        str | None,
        option(
            "ADDRESS",
            "Segment on the Dask cluster of this scheduler, such as tcp://10.0.0.5:8786. Its "
            "workers need the same files and the same version of napari-tinysam.",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        option(
            "KIND",
            "Start a Dask cluster with --workers workers for this run: slurm, or local.",
        ),
    ] = None,
    tiles: Annotated[
        str,
        option(
            "TILES",
            "auto searches images of more than 1536 pixels in tiles; off: every image as a whole; "
            "a number: every image in tiles of this side in pixels.",
        ),
    ] = "auto",
    link: Annotated[
        str | None,
        option(
            "z|t",
            "z: objects of neighbouring planes that overlap become objects of the stack. t: "
            "objects of frames become tracks, with the parent of each in the table; where there "
            "are both axes, of volumes.",
        ),
    ] = None,
    least_planes: Annotated[
        int | None,
        option(
            "N",
            "With --link: objects that show in fewer planes are left out. Without it: 2 for z, 1 "
            "for t.",
            min=1,
        ),
    ] = None,
    progress: Annotated[
        str,
        option(
            "FORM",
            "bar, or json: a line of JSON on stderr for each plane, few tiles, and file.",
        ),
    ] = "bar",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = 0,
) -> None:
    """Find all objects of many images, without a click.

    For each image NAME the folder gets NAME_labels.tif (stacks plane by plane), NAME_objects.csv
    with a row for each object, and NAME_overlay.png with --overlay. With --link an object has the
    same label in all its planes, and a row in each. The fields of an OME-Zarr plate are images
    called PLATE_A01_0.

    A file that fails is tried once more. It does not stop the others, and is named at the end.
    Images that were done with the same settings are skipped, and so are finished planes of a
    stack and finished tiles of a large image: an interrupted run goes on where it stopped. A
    missing table or picture is made from the labels. A second image of the same name gets a number.
    Label files that were changed since, or come from elsewhere, are never replaced. Files whose
    names say that they are labels or results of another image are skipped.
    """
    from napari_tinysam.batch.jobs import LabelsForm, find_images, jobs_for
    from napari_tinysam.batch.lock import sole_run
    from napari_tinysam.batch.settings import BatchSettings
    from napari_tinysam.batch.tables import TABLE_FORMS
    from napari_tinysam.cli.prompt_options import parse_indices
    from napari_tinysam.everything import LabelSettings, Mode
    from napari_tinysam.files.atomic import remove_abandoned

    if mode not in get_args(Mode):
        raise UsageError(f"--mode is one of {', '.join(get_args(Mode))}, not {mode!r}.")
    if table not in TABLE_FORMS:
        raise UsageError(f"--table is {' or '.join(TABLE_FORMS)}, not {table!r}.")
    if table == "parquet" and find_spec("pyarrow") is None:
        raise UsageError("Parquet needs the package pyarrow: pip install pyarrow.")
    if progress not in ("bar", "json"):
        raise UsageError(f"--progress is bar or json, not {progress!r}.")
    if labels_as not in ("auto", *get_args(LabelsForm)):
        raise UsageError(
            f"--labels is auto, tiff, ome-zarr or inside, not {labels_as!r}."
        )
    if link not in (None, "z", "t"):
        raise UsageError(f"--link is z or t, not {link!r}.")
    if least_planes is not None and link is None:
        raise UsageError("--least-planes is for --link.")
    where = _cluster_address(scheduler, cluster)
    labels: dict[str, Any] = {
        "confidence": confidence,
        "least_area": min_area,
        "largest_area": max_area,
        "parts": parts,
        "overlap": max_overlap,
    }
    given = {name: value for name, value in labels.items() if value is not None}
    channels = None if channel is None else tuple(parse_indices(channel))
    try:
        LabelSettings(**given)
        found, skipped = find_images(images)
        if where is not None:  # paths are read elsewhere
            found, output = [path.absolute() for path in found], output.absolute()
        jobs = jobs_for(found, output)
    except (ValueError, FileError) as error:
        raise UsageError(str(error)) from error
    settings = BatchSettings(
        mode,  # type: ignore[arg-type]  # checked above
        given,
        channels,
        overlay,
        series,
        _forms(also),
        labels_as,  # type: ignore[arg-type]  # checked above
        _tiles(tiles),
        table,
        link,  # type: ignore[arg-type]  # checked above
        least_planes,
    )
    if skipped:
        few = ", ".join(path.name for path in skipped[:3])
        more = ", …" if len(skipped) > 3 else ""
        note(
            f"{counted(len(skipped), 'file')} skipped, named like labels or results of an image: "
            f"{few}{more}."
        )
    with explained(f"The folder {output} cannot be made"):
        output.mkdir(parents=True, exist_ok=True)
    load = partial(load_worker, model, device, precision, len(jobs))
    with sole_run(output):
        remove_abandoned(output, _ABANDONED)
        runner = (
            here(
                load,
                settings,
                jobs,
                workers,
                threads,
                prepared=workers > 1 and is_prepared(model, device, precision),
            )
            if where is None
            else _cluster(where, load, settings, jobs, workers)
        )
        try:
            if mode in ("guided", "head") and not runner.identity.has_object_head:
                raise UsageError(
                    f"The model {runner.identity.model!r} has no object head; use --mode "
                    "hierarchical."
                )
            run_jobs(jobs, runner, progress)
        finally:
            runner.close()


def _tiles(text: str) -> Tiles:
    if text == "auto":
        return "auto"
    if text == "off":
        return "off"
    if not text.isdecimal() or int(text) < LEAST_TILE:
        raise UsageError(
            f"--tiles is auto, off or a number of pixels from {LEAST_TILE}, not {text!r}."
        )
    return int(text)


def _forms(also: str | None) -> tuple[str, ...]:
    from napari_tinysam.batch.forms import FORMS

    names = tuple(dict.fromkeys((also or "").lower().replace(",", " ").split()))
    for name in names:
        if name not in FORMS:
            raise UsageError(f"--also knows {', '.join(FORMS)}, not {name!r}.")
    return names


def _cluster_address(scheduler: str | None, kind: str | None) -> str | None:
    """Return the address of a scheduler or the kind of a cluster; None for this computer."""
    from napari_tinysam.batch.runners.cluster import CLUSTERS

    if scheduler is not None and kind is not None:
        raise UsageError("Give --scheduler or --cluster, not both.")
    if kind is not None and kind not in CLUSTERS:
        raise UsageError(f"--cluster is {' or '.join(CLUSTERS)}, not {kind!r}.")
    return scheduler or kind


def _cluster(
    address: str,
    load: Load,
    settings: BatchSettings,
    jobs: Sequence[Job],
    workers: int,
) -> Runner:
    from napari_tinysam.batch.jobs import taken_stems
    from napari_tinysam.batch.runners.cluster import Cluster

    stems = taken_stems(jobs)
    with explained():
        return Cluster(address, load, settings, stems, workers, note)
