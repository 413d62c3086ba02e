"""``napari-tinysam auto``: all objects of many images, as labels, tables and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from napari_tinysam.cli.console import counted, note, progress_bar
from napari_tinysam.cli.loading import load_predictor
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
from napari_tinysam.errors import FileError, TinySAMError, UsageError, explained

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_tinysam.batch.jobs import Job
    from napari_tinysam.batch.run import BatchSettings, FileOutcome
    from napari_tinysam.inference.predictor import Predictor

#: The words of the last line for the states of files.
_STATES = {
    "written": "segmented",
    "there": "done before",
    "completed": "completed",
    "foreign": "left alone",
    "failed": "failed",
}


def auto(
    images: Annotated[
        list[str],
        argument(
            "IMAGE...",
            "Files, folders or patterns such as '*.tif': TIFF, OME-TIFF, NPY, PNG or JPEG.",
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
    channel: ChannelOption = None,
    overlay: Annotated[
        bool,
        typer.Option("--overlay", help="Also write a PNG with the objects outlined."),
    ] = False,
    series: SeriesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = 0,
) -> None:
    """Find all objects of many images, without a click.

    For each image NAME the folder gets NAME_labels.tif (stacks plane by plane), NAME_objects.csv
    with a row for each object, and NAME_overlay.png with --overlay.

    A file that fails does not stop the others; it is named at the end. Images that were done with
    the same settings are skipped, so an interrupted run goes on where it stopped; a missing table
    or picture is made from the labels. A second image of the same name gets a number. Label files
    that were changed since, or come from elsewhere, are never replaced. Files whose names say that
    they are labels or results of another image are skipped.
    """
    from napari_tinysam.batch.jobs import find_images, jobs_for
    from napari_tinysam.batch.run import BatchSettings
    from napari_tinysam.cli.prompt_options import parse_indices
    from napari_tinysam.everything import LabelSettings, Mode

    if mode not in get_args(Mode):
        raise UsageError(f"--mode is one of {', '.join(get_args(Mode))}, not {mode!r}.")
    labels: dict[str, Any] = {
        "confidence": confidence,
        "least_area": min_area,
        "largest_area": max_area,
        "parts": parts,
    }
    given = {name: value for name, value in labels.items() if value is not None}
    channels = None if channel is None else tuple(parse_indices(channel))
    try:
        LabelSettings(**given)
        found, skipped = find_images(images)
        jobs = jobs_for(found, output)
    except (ValueError, FileError) as error:
        raise UsageError(str(error)) from error
    settings = BatchSettings(mode, given, channels, overlay, series)  # type: ignore[arg-type]
    if skipped:
        few = ", ".join(path.name for path in skipped[:3])
        more = ", …" if len(skipped) > 3 else ""
        note(
            f"{counted(len(skipped), 'file')} skipped, named like labels or results of an image: "
            f"{few}{more}."
        )
    with explained(f"The folder {output} cannot be made"):
        output.mkdir(parents=True, exist_ok=True)
    with explained():
        predictor = load_predictor(model, device, precision, threads, len(jobs))
    if mode in ("guided", "head") and not predictor.has_object_head:
        raise UsageError(
            f"The model {predictor.name!r} has no object head; use --mode hierarchical."
        )
    _run(jobs, predictor, settings)


def _run(jobs: Sequence[Job], predictor: Predictor, settings: BatchSettings) -> None:
    outcomes: list[FileOutcome] = []
    try:
        for outcome in _watched(jobs, predictor, settings):
            outcomes.append(outcome)
            _report(outcome)
    except KeyboardInterrupt:
        note(
            f"{len(outcomes)} of {len(jobs)} files are done; run the same command to continue."
        )
        raise
    states = [outcome.state for outcome in outcomes]
    written = states.count("written")
    parts = [f"{counted(written, 'file')} {_STATES['written']}"]
    parts += [
        f"{states.count(state)} {text}"
        for state, text in _STATES.items()
        if state in states and state != "written"
    ]
    objects = sum(outcome.objects for outcome in outcomes)
    found = f": {counted(objects, 'object')}" if written else ""
    typer.echo(f"{', '.join(parts)}{found}.")
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for outcome in failed:
        note(f"Failed: {outcome.job.image}: {outcome.reason}")
    if failed:
        raise TinySAMError(
            f"{len(failed)} of {counted(len(jobs), 'file')} could not be segmented."
        )


def _report(outcome: FileOutcome) -> None:
    job = outcome.job
    for text in outcome.notes:
        note(text)
    if outcome.state == "written":
        planes = f" in {outcome.planes} planes" if outcome.planes > 1 else ""
        typer.echo(f"{job.labels}: {counted(outcome.objects, 'object')}{planes}")
    elif outcome.state == "completed":
        typer.echo(f"{job.labels}: done before; missing files are made from the labels")
    elif outcome.state == "foreign":
        note(
            f"{job.labels} is left alone: it was changed, or made by something else. Move it away "
            "to segment the image again."
        )


def _watched(
    jobs: Sequence[Job], predictor: Predictor, settings: BatchSettings
) -> Iterator[FileOutcome]:
    """Yield outcomes, with a progress bar that estimates the time left."""
    from napari_tinysam.batch.run import segment_files

    with progress_bar(total=len(jobs), unit="file") as bar:

        def on_plane(job: Job, done: int, total: int) -> None:
            bar.set_postfix_str(f"{job.image.name}, plane {done} of {total}")
            bar.update(1 / total)  # so that the time left follows the planes

        outcomes = segment_files(jobs, predictor, settings, on_plane=on_plane)
        for number, outcome in enumerate(outcomes, start=1):
            bar.update(number - bar.n)
            bar.clear()
            yield outcome
