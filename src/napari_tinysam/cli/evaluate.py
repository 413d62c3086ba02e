"""The work behind ``napari-tinysam evaluate``: a model, labelled images, figures."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_tinysam.cli.running import Running
from napari_tinysam.errors import (
    DataError,
    FileError,
    TinySAMError,
    UsageError,
    explained,
)
from napari_tinysam.files import writing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_tinysam.inference.predictor import Predictor
    from tinysam_training.data.labelled_image import ImageEntry
    from tinysam_training.evaluation.evaluate import Evaluation, EvaluationSettings

#: The part of a split set that is meant for judging models.
_HELD_OUT = "val"


@dataclass(frozen=True)
class EvaluateRequest:
    """What the command line says.

    Parameters
    ----------
    model : str
        A registry name or a file.
    data : Path
        A folder of labelled images.
    json, output : Path or None
        A file for the figures, and a folder for pictures and the figures of each image.
    split : str or None
        Which part of the data; None: the held-out one where there is one, else all.
    objects : int
        Objects an image that get prompts; 0 for all.
    clicks : int
        Clicks on each.
    images : int or None
        At most so many images of each set, evenly spaced.
    running : Running
        How the model runs.
    partly_annotated : bool
        Whether a pixel without label may belong to an object.
    automatic : bool
        Whether images are also segmented without prompts, as Auto-segment does.
    """

    model: str
    data: Path
    json: Path | None = None
    output: Path | None = None
    split: str | None = None
    objects: int = 8
    clicks: int = 9
    images: int | None = None
    running: Running = field(default_factory=Running)
    partly_annotated: bool = False
    automatic: bool = True

    def check(self) -> None:
        """Check all that can be checked before the slow part.

        Raises
        ------
        UsageError
            If a number makes no sense.
        TinySAMError
            If an output cannot be written, or something to draw with is missing.
        """
        if self.objects < 0:
            raise UsageError("--objects is 0 (all objects) or more.")
        if self.clicks < 1:
            raise UsageError("--clicks is 1 or more.")
        if self.images is not None and self.images < 1:
            raise UsageError("--images is 1 or more.")
        if self.json is not None:
            writing.check_output(self.json, (".json",))
        if self.output is not None:
            _check_folder(self.output)
        if self.output is not None and importlib.util.find_spec("matplotlib") is None:
            raise TinySAMError(
                "Pictures need matplotlib, which is not installed: pip install "
                '"napari-tinysam[train]", or leave out --output.'
            )

    @property
    def settings(self) -> EvaluationSettings:
        """What is measured."""
        from tinysam_training.evaluation.evaluate import EvaluationSettings

        return EvaluationSettings(
            objects=self.objects,
            clicks=self.clicks,
            automatic=self.automatic,
            keep_masks=self.output is not None,
        )


def _check_folder(folder: Path) -> None:
    """Refuse a folder that is not there and cannot be made; raises `FileError`."""
    try:
        existing = folder.resolve()
        while not existing.exists():
            existing = existing.parent
    except (OSError, ValueError, RuntimeError) as error:  # too long, null byte, loop
        raise FileError(f"{str(folder)!r} cannot be written.") from error
    if not existing.is_dir():
        raise FileError(f"{existing} is a file; --output names a folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise FileError(f"The folder {existing} may not be written to by you.")


@dataclass(frozen=True, eq=False)
class EvaluationOutcome:
    """What the command has to say.

    Parameters
    ----------
    text : str
        For stdout.
    interrupted : bool
        Whether Ctrl+C ended it, after some of the images.
    """

    text: str
    interrupted: bool = False


def evaluate_model(
    request: EvaluateRequest,
    *,
    note: Callable[[str], None],
) -> EvaluationOutcome:
    """Judge a model on labelled images, and write what was asked for.

    Parameters
    ----------
    request : EvaluateRequest
        What to do.
    note : callable
        Called with sentences for the user.

    Raises
    ------
    TinySAMError
        If model, images or outputs cannot be had.
    """
    request.check()
    entries = _entries(request, note)
    with explained():
        predictor = request.running.load(request.model, len(entries))
        evaluation = _evaluate(predictor, entries, request.settings)
    if len(evaluation.results) < len(entries):
        return _interrupted(evaluation, len(entries), note)
    return EvaluationOutcome(_report(request, evaluation, entries))


def _entries(request: EvaluateRequest, note: Callable[[str], None]) -> list[ImageEntry]:
    """List the images to judge by, and say what is left out."""
    from tinysam_training.data.findings import findings_of
    from tinysam_training.data.sources.folders import find_pairs

    complete = not request.partly_annotated
    found: list[ImageEntry] = []
    with explained():
        if request.split is None:
            with suppress(
                DataError
            ):  # not split; the next one says what cannot be read
                found = find_pairs(request.data, _HELD_OUT, complete)
        if not found:
            found = find_pairs(request.data, request.split, complete)
    findings = findings_of(found)
    if not found:
        raise TinySAMError(
            findings[0].text if findings else f"{request.data} holds no images."
        )
    for finding in findings[:3]:
        note(finding.text)
    if len(findings) > 3:
        note(f"{len(findings) - 3} more files were left out.")
    return found if request.images is None else _some_of_each_set(found, request.images)


def _some_of_each_set(entries: list[ImageEntry], count: int) -> list[ImageEntry]:
    """At most `count` images of each set."""
    from tinysam_training.data.spacing import evenly_spaced

    sets: dict[str, list[ImageEntry]] = {}
    for entry in entries:
        sets.setdefault(entry.dataset, []).append(entry)
    chosen = []
    for some in sets.values():
        chosen += evenly_spaced(some, count)
    return chosen


def _evaluate(
    predictor: Predictor, entries: list[ImageEntry], settings: EvaluationSettings
) -> Evaluation:
    """Results of all images, or after Ctrl+C of those before it."""
    from tqdm import tqdm

    from tinysam_training.evaluation.evaluate import Evaluation, evaluate_images

    results = []
    bar = tqdm(
        evaluate_images(predictor, entries, settings),
        total=len(entries),
        unit="image",
        file=sys.stderr,
        disable=None,  # where nobody watches
        leave=False,
    )
    try:
        for result in bar:
            results.append(result)
    except KeyboardInterrupt:
        if not results:
            raise
    finally:
        bar.close()
    name, runtime = predictor.name, predictor.runtime_name
    return Evaluation(name, runtime, settings, tuple(results))


def _interrupted(
    evaluation: Evaluation, total: int, note: Callable[[str], None]
) -> EvaluationOutcome:
    from tinysam_training.evaluation.report import table

    done = len(evaluation.results)
    images = "image" if done == 1 else "images"
    note(f"These figures are of {done} {images} of {total}; no file was written.")
    return EvaluationOutcome(table(evaluation), interrupted=True)


def _report(
    request: EvaluateRequest, evaluation: Evaluation, entries: list[ImageEntry]
) -> str:
    """Write the files that were asked for; return the table and where they are."""
    from tinysam_training.evaluation.pictures import write_pictures
    from tinysam_training.evaluation.report import table, write_csv, write_json

    lines = [f"{evaluation.model}, {evaluation.runtime}", table(evaluation)]
    with explained():
        if request.json is not None:
            write_json(request.json, evaluation)
            lines.append(f"{request.json}: these figures and more")
        if request.output is not None:
            request.output.mkdir(parents=True, exist_ok=True)
            write_json(request.output / "evaluation.json", evaluation)
            write_csv(request.output / "images.csv", evaluation)
            names = write_pictures(request.output, evaluation, entries)
            files = ", ".join(["evaluation.json", "images.csv", *names])
            lines.append(f"{request.output}: {files}")
    return "\n".join(lines)
