"""``napari-tinysam auto``: all objects of many images, as labels, tables and pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_tinysam.cli.options import (
    DeviceOption,
    ModelOption,
    SeriesOption,
    note,
)
from napari_tinysam.cli.running import PrecisionOption, Running, ThreadsOption
from napari_tinysam.errors import FileError, TinySAMError, UsageError, explained

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_tinysam.batch.jobs import Job
    from napari_tinysam.batch.run import BatchSettings, FileOutcome
    from napari_tinysam.inference.predictor import Predictor

ImagesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE...",
        help="Files, folders or patterns such as '*.tif': TIFF, OME-TIFF, NPY, PNG or JPEG.",
        show_default=False,
    ),
]
FolderOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        help="Where the results go; made if it is not there.",
        show_default=False,
    ),
]
ModeOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="guided (the model's object head says where to look), hierarchical, dense or head; "
        "auto is guided where the model can do it.",
    ),
]
ConfidenceOption = Annotated[
    float | None,
    typer.Option(
        metavar="C",
        help="0 to 1; higher keeps surer objects only. Without it what suits the model.",
    ),
]
LeastOption = Annotated[
    float | None, typer.Option("--min-area", metavar="A", help="In pixels.")
]
LargestOption = Annotated[
    float | None, typer.Option("--max-area", metavar="A", help="In pixels.")
]
PartsOption = Annotated[
    float | None,
    typer.Option(metavar="P", help="0 prefers whole objects, 1 their parts."),
]
ChannelsOption = Annotated[
    str | None,
    typer.Option(
        metavar="C",
        help="Which channel, from 0; two or three (2,0,1) are shown to the model as red, green "
        "and blue. Without it colours, or the first channel.",
    ),
]
PictureOption = Annotated[
    bool, typer.Option("--overlay", help="Also write a PNG with the objects outlined.")
]


def auto(
    images: ImagesArgument,
    output: FolderOption,
    model: ModelOption = "default",
    mode: ModeOption = "auto",
    confidence: ConfidenceOption = None,
    min_area: LeastOption = None,
    max_area: LargestOption = None,
    parts: PartsOption = None,
    channel: ChannelsOption = None,
    overlay: PictureOption = False,
    series: SeriesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = 0,
) -> None:
    """Find all objects of images, without a click.

    For each image NAME the folder gets NAME_labels.tif (stacks plane by plane), NAME_objects.csv
    with a row for each object, and NAME_overlay.png with --overlay.

    A file that cannot be done does not stop the others; it is named at the end. What is done of the
    same image with the same settings is passed over, so an interrupted run goes on where it
    stopped; a table or picture that is missing is made of the labels. Another image of the same
    name gets a number. Label files that were changed since, or come from elsewhere, are never
    replaced. Files that are called labels or results of another one are passed over.
    """
    from napari_tinysam.batch.jobs import find_images, jobs_for

    settings = _settings(
        mode,
        channel,
        series,
        overlay=overlay,
        confidence=confidence,
        least_area=min_area,
        largest_area=max_area,
        parts=parts,
    )
    try:
        images_found, passed_over = find_images(images)
        jobs = jobs_for(images_found, output)
    except FileError as error:
        raise UsageError(str(error)) from error
    if passed_over:
        few = ", ".join(path.name for path in passed_over[:3])
        more = ", …" if len(passed_over) > 3 else ""
        note(
            f"{_counted(len(passed_over), 'file')} passed over, by the name not an image but made "
            f"of one: {few}{more}."
        )
    with explained(f"The folder {output} cannot be made"):
        output.mkdir(parents=True, exist_ok=True)
    with explained():
        predictor = Running(device, precision, threads).load(model, len(jobs))
    if settings.mode in ("guided", "head") and not predictor.has_object_head:
        raise UsageError(
            f"The model {predictor.name!r} has no object head; use --mode hierarchical."
        )
    _run(jobs, predictor, settings)


def _settings(
    mode: str,
    channel: str | None,
    series: int | None,
    *,
    overlay: bool,
    **labels: float | None,
) -> BatchSettings:
    """Check everything that can be checked without a model."""
    from typing import get_args

    from napari_tinysam.batch.run import BatchSettings
    from napari_tinysam.cli.prompts import parse_indices
    from napari_tinysam.everything import LabelSettings, Mode

    modes = get_args(Mode)
    if mode not in modes:
        raise UsageError(f"--mode is one of {', '.join(modes)}, not {mode!r}.")
    given: dict[str, Any] = {k: v for k, v in labels.items() if v is not None}
    try:
        LabelSettings(**given)
        channels = None if channel is None else tuple(parse_indices(channel))
    except ValueError as error:
        raise UsageError(str(error)) from error
    return BatchSettings(mode, given, channels, overlay, series)  # type: ignore[arg-type]


def _run(jobs: Sequence[Job], predictor: Predictor, settings: BatchSettings) -> None:
    outcomes: list[FileOutcome] = []
    try:
        for outcome in _watched(jobs, predictor, settings):
            outcomes.append(outcome)
            _tell(outcome)
    except KeyboardInterrupt:
        note(
            f"{len(outcomes)} of {len(jobs)} files are done; the same command goes on."
        )
        raise
    counts = {
        state: sum(outcome.state == state for outcome in outcomes)
        for state in ("written", "there", "completed", "foreign", "failed")
    }
    parts = [f"{_counted(counts['written'], 'file')} segmented"]
    if counts["there"]:
        parts.append(f"{counts['there']} done before")
    if counts["completed"]:
        parts.append(f"{counts['completed']} completed")
    if counts["foreign"]:
        parts.append(f"{counts['foreign']} left alone")
    if counts["failed"]:
        parts.append(f"{counts['failed']} failed")
    objects = sum(outcome.objects for outcome in outcomes)
    found = f": {_counted(objects, 'object')}" if counts["written"] else ""
    typer.echo(f"{', '.join(parts)}{found}.")
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for outcome in failed:
        note(f"Failed: {outcome.job.image}: {outcome.reason}")
    if failed:
        raise TinySAMError(
            f"{len(failed)} of {_counted(len(jobs), 'file')} could not be segmented."
        )


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _tell(outcome: FileOutcome) -> None:
    job = outcome.job
    for text in outcome.notes:
        note(text)
    if outcome.state == "written":
        planes = f" in {outcome.planes} planes" if outcome.planes > 1 else ""
        typer.echo(f"{job.labels}: {_counted(outcome.objects, 'object')}{planes}")
    elif outcome.state == "completed":
        typer.echo(f"{job.labels}: done before; what was missing is made of the labels")
    elif outcome.state == "foreign":
        note(
            f"{job.labels} is left alone: it was changed, or made by something else. Move it away "
            "to segment the image again."
        )


def _watched(
    jobs: Sequence[Job], predictor: Predictor, settings: BatchSettings
) -> Iterator[FileOutcome]:
    """Yield outcomes behind a progress bar, which knows how long it will take."""
    from tqdm import tqdm

    from napari_tinysam.batch.run import segment_files

    with tqdm(
        total=len(jobs),
        unit="file",
        file=sys.stderr,
        disable=None,  # where nobody watches
        leave=False,
    ) as bar:

        def on_plane(job: Job, done: int, total: int) -> None:
            bar.set_postfix_str(f"{job.image.name}, plane {done} of {total}")
            bar.update(1 / total)  # so that the time left follows the planes

        for number, outcome in enumerate(
            segment_files(jobs, predictor, settings, on_plane=on_plane), start=1
        ):
            bar.update(number - bar.n)
            bar.clear()
            yield outcome
