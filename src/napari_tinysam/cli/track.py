"""``napari-tinysam track``: the objects of a movie, followed through its frames."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from napari_tinysam.cli.batch_runs import here, load_worker, run_jobs
from napari_tinysam.cli.console import counted, note, progress_bar
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

    from napari_tinysam.batch.runners.protocol import Load
    from napari_tinysam.batch.settings import BatchSettings
    from napari_tinysam.files.movie import Movie
    from napari_tinysam.files.remote import ImagePath
    from napari_tinysam.volume.tracking import Tracking, TrackSettings

#: The folder in the output that holds what was found in each frame.
_SEGMENTATION = "segmentation"


def track(
    movie: Annotated[
        str,
        argument(
            "MOVIE",
            "A file with an axis of time (and of depth), or a folder or pattern of frames, such "
            "as 't*.tif', that are sorted by name.",
        ),
    ],
    output: Annotated[
        Path, output_option("FOLDER", "Where the results go; made if it is not there.")
    ],
    labels: Annotated[
        str | None,
        option(
            "FILE|FOLDER",
            "Track these objects instead of segmenting: labels of all frames, as MOVIE is. MOVIE "
            "is then read for intensities only.",
        ),
    ] = None,
    link_z: Annotated[
        bool,
        typer.Option(
            "--link-z",
            help="With --labels of volumes: each plane has labels of its own.",
        ),
    ] = False,
    way: Annotated[
        str,
        option(
            "NAME",
            "overlap: an object is the one it lies over in the next frame. centres: it is the "
            "nearest. auto is overlap, unless objects move further than they are large. "
            "trackastra: what that package says, if it is installed with its weights.",
        ),
    ] = "auto",
    overlap: Annotated[
        float | None,
        option("O", "For overlap: the least intersection over union, 0 to 1."),
    ] = None,
    distance: Annotated[
        float | None,
        option("D", "For centres: the furthest step, in diameters of an object."),
    ] = None,
    gap: Annotated[
        int | None,
        option("N", "Frames that an object may be missing in, 0 to 3.", min=0, max=3),
    ] = None,
    division: Annotated[
        float | None,
        option("C", "The least confidence of a division, 0 to 1."),
    ] = None,
    least_frames: Annotated[
        int | None,
        option("N", "Objects that show in fewer frames are left out.", min=1),
    ] = None,
    z_step: Annotated[
        float,
        option("S", "Distance of planes in depth, in pixels of a plane."),
    ] = 1.0,
    frames: Annotated[
        str | None, option("A-B", "Only these frames, from 0, both inclusive.")
    ] = None,
    also: Annotated[
        str | None,
        option(
            "FORMS",
            "Write the tracks in more forms, as a list with commas: geff, trackmate (XML), tiff "
            "or ome-zarr (labels of the whole movie).",
        ),
    ] = None,
    model: ModelOption = "default",
    mode: Annotated[
        str, option("NAME", "As of 'napari-tinysam auto', for each frame.")
    ] = "auto",
    confidence: Annotated[
        float | None,
        option("C", "0 to 1; higher keeps only surer objects of a frame."),
    ] = None,
    channel: ChannelOption = None,
    series: SeriesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = 0,
) -> None:
    """Find the objects of all frames and track them, with their divisions.

    The folder gets a result of the Cell Tracking Challenge, mask000.tif … and res_track.txt, and
    NAME_tracks.csv with a row for each object of each frame: track, parent, t, z, y, x, area,
    intensity; places in pixels, z empty for planes. What was found in the frames is kept in its
    folder segmentation: the same command with other settings only tracks anew, and labels that you
    corrected there are used as they are.
    """
    from napari_tinysam.batch.tracked import FORMS, TrackedMovie, check_folder

    by_trackastra = way == "trackastra"
    if by_trackastra:
        _check_trackastra()
        way = "auto"
    settings = _settings(way, overlap, distance, gap, division, least_frames)
    forms = tuple(dict.fromkeys((also or "").lower().replace(",", " ").split()))
    for name in forms:
        if name not in FORMS:
            raise UsageError(f"--also knows {', '.join(FORMS)}, not {name!r}.")
    if link_z and labels is None:
        raise UsageError("--link-z is for --labels.")
    if not z_step > 0:
        raise UsageError(f"--z-step is above 0, not {z_step:g}.")
    wanted = _range(frames)
    paths = _paths(movie)
    shown = _opened(movie, paths, channel, series)
    stem = _stem(movie)
    chosen = shown if wanted is None else shown.some(*wanted)
    check_folder(output, stem, forms, len(chosen))
    if labels is None:
        auto = _batch(mode, confidence, channel, series)
        load = partial(load_worker, model, device, precision, len(paths))
        found = _segmented(movie, paths, output / _SEGMENTATION, auto, load, threads)
    else:
        found = _opened(labels, _paths(labels, labels=True), None, None)
    with explained():
        if wanted is not None and len(found) == len(shown):
            found = found.some(*wanted)
        tracked = TrackedMovie(
            chosen,
            found,
            settings,
            link_z or labels is None,
            z_step,
            by_trackastra,
        )
        with progress_bar(total=2 * len(chosen), unit="frame") as bar:
            made = tracked.track(lambda _: bar.update(1))
            files, notes = tracked.write(
                output, stem, made, forms, lambda _: bar.update(1)
            )
    for text in (*shown.notes, *notes):
        note(text)
    typer.echo(_summary(output, files, made, len(chosen)))


def _summary(output: Path, files: Sequence[Path], made: Tracking, frames: int) -> str:
    taken = sum(each.taken for each in made.divisions)
    more = len(made.divisions) - taken
    unsure = f" ({more} more may be)" if more else ""
    names = ", ".join(["res_track.txt", *(path.name for path in files)])
    return (
        f"{output}: {counted(len(made.tracks), 'track')} in {frames} frames, "
        f"{counted(taken, 'division')}{unsure}: mask000.tif …, {names}"
    )


def _settings(
    way: str,
    overlap: float | None,
    distance: float | None,
    gap: int | None,
    division: float | None,
    least_frames: int | None,
) -> TrackSettings:
    from napari_tinysam.volume.tracking import TrackSettings

    given = {
        "overlap": overlap,
        "distance": distance,
        "gap": gap,
        "division": division,
        "least_frames": least_frames,
    }
    try:
        known = {name: value for name, value in given.items() if value is not None}
        return TrackSettings(way, **known)  # type: ignore[arg-type]  # checked there
    except ValueError as error:
        raise UsageError(f"--{str(error).replace('_', '-', 1)}") from error


def _check_trackastra() -> None:
    from napari_tinysam.volume.learned import check_trackastra

    check_trackastra()


def _range(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, dash, last = text.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal()):
        raise UsageError(f"--frames is a range such as 0-49, not {text!r}.")
    if int(first) > int(last):
        raise UsageError(f"--frames {text} is an empty range.")
    return int(first), int(last)


def _paths(name: str, *, labels: bool = False) -> list[ImagePath]:
    """List the files that a name stands for; those of labels may be called so."""
    from napari_tinysam.batch.jobs import find_images
    from napari_tinysam.volume.ctc import frames_of

    if labels and (challenge := frames_of(Path(name))):
        return [*challenge]
    try:
        found = find_images([name])
    except FileError as error:
        raise UsageError(str(error)) from error
    if labels and found.passed_over:
        return sorted([*found.images, *found.passed_over], key=lambda path: path.name)
    return found.images


def _opened(
    name: str, paths: Sequence[ImagePath], channel: str | None, series: int | None
) -> Movie:
    from napari_tinysam.cli.prompt_options import parse_indices
    from napari_tinysam.files.movie import open_movie

    channels = None if channel is None else tuple(parse_indices(channel))
    return open_movie(Path(name), paths, channels, series)


def _stem(name: str) -> str:
    path = Path(name)
    stem = path.name if path.is_dir() and not path.suffix else path.stem
    return stem.removesuffix(".ome").strip("*? ") or "movie"


def _segmented(
    movie: str,
    paths: Sequence[ImagePath],
    folder: Path,
    settings: BatchSettings,
    load: Load,
    threads: int,
) -> Movie:
    """Segment the frames, but those that were before, and open their labels."""
    from napari_tinysam.batch.jobs import jobs_for
    from napari_tinysam.batch.lock import sole_run
    from napari_tinysam.files.movie import open_movie

    jobs = jobs_for(paths, folder)
    with explained(f"The folder {folder} cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
    with sole_run(folder):
        runner = here(load, settings, jobs, 1, threads)
        try:
            outcomes = run_jobs(jobs, runner)
        finally:
            runner.close()
    return open_movie(folder, [each.job.labels for each in outcomes])


def _batch(
    mode: str, confidence: float | None, channel: str | None, series: int | None
) -> BatchSettings:
    from napari_tinysam.batch.settings import BatchSettings
    from napari_tinysam.cli.prompt_options import parse_indices
    from napari_tinysam.everything import LabelSettings, Mode

    if mode not in get_args(Mode):
        raise UsageError(f"--mode is one of {', '.join(get_args(Mode))}, not {mode!r}.")
    given: dict[str, float | bool] = (
        {} if confidence is None else {"confidence": confidence}
    )
    try:
        LabelSettings(**given)  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(str(error)) from error
    channels = None if channel is None else tuple(parse_indices(channel))
    return BatchSettings(mode, given, channels, series=series)  # type: ignore[arg-type]
