"""Segment many files on this computer, and say what became of each: for the commands that do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from napari_tinysam.cli.batch_progress import batch_progress
from napari_tinysam.cli.console import counted, note
from napari_tinysam.cli.loading import load_predictor
from napari_tinysam.errors import TinySAMError, explained

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_tinysam.batch.jobs import Job
    from napari_tinysam.batch.runners.protocol import Load, Runner
    from napari_tinysam.batch.settings import BatchSettings, FileOutcome
    from napari_tinysam.inference.predictor import Predictor

#: The words of the last line for the states of files.
_STATES = {
    "written": "segmented",
    "there": "done before",
    "completed": "completed",
    "foreign": "left alone",
    "failed": "failed",
}


def load_worker(
    model: str, device: str, precision: str, images: int, threads: int
) -> Predictor:
    """Load the model of a worker, also in another process; see `load_predictor`."""
    return load_predictor(model, device, precision, threads, images)


def is_prepared(model: str, device: str, precision: str) -> bool:
    """Whether loading a model neither downloads nor converts it, nor measures what is faster."""
    from napari_tinysam.checkpoints import REGISTRY, is_available_offline
    from napari_tinysam.inference.runtime.choice import needs_preparing

    if model in REGISTRY and not is_available_offline(model):
        return False
    return not needs_preparing(model, device, precision)  # type: ignore[arg-type]  # checked later


def here(
    load: Load,
    settings: BatchSettings,
    jobs: Sequence[Job],
    workers: int,
    threads: int,
    *,
    prepared: bool = False,
) -> Runner:
    """Return what does the tasks on this computer, in one process or several.

    Also a single file may keep several busy: its planes and tiles are tasks. `prepared` says that
    all may load the model at once, see `is_prepared`.
    """
    from napari_tinysam.batch.jobs import taken_stems
    from napari_tinysam.batch.runners.here import Here
    from napari_tinysam.batch.runners.processes import Processes
    from napari_tinysam.batch.work import Worker

    stems = taken_stems(jobs)
    with explained():
        if workers == 1:
            return Here(Worker(load(threads), settings, stems))
        return Processes(workers, load, settings, stems, threads, at_once=prepared)


def run_jobs(
    jobs: Sequence[Job], runner: Runner, progress_form: str = "bar"
) -> list[FileOutcome]:
    """Segment files, and say what became of each.

    Returns
    -------
    list of FileOutcome
        Of each job.

    Raises
    ------
    TinySAMError
        If some could not be segmented; they are named before.
    """
    from napari_tinysam.batch.run import segment_files

    outcomes: list[FileOutcome] = []
    try:
        with batch_progress(progress_form, len(jobs)) as progress:
            for outcome in segment_files(jobs, runner, on_step=progress.step):
                outcomes.append(outcome)
                progress.file(outcome)
                _report(outcome, progress.note)
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
        progress.note(f"Failed: {outcome.job.image}: {outcome.reason}")
    if failed:
        raise TinySAMError(
            f"{len(failed)} of {counted(len(jobs), 'file')} could not be segmented."
        )
    return outcomes


def _report(outcome: FileOutcome, note: Callable[[str], None]) -> None:
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
