"""The work behind ``napari-tinysam finetune``, ``train`` and ``distill``."""

from __future__ import annotations

import math
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_tinysam.errors import (
    DataError,
    FileError,
    TinySAMError,
    UsageError,
    is_about_memory,
    sentence,
)
from napari_tinysam.files import writing
from napari_tinysam.files.atomic import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tinysam_training.commands.finetune import Finetuned
    from tinysam_training.data import DataReport, FoundEntries
    from tinysam_training.data.labelled_image import ImageEntry
    from tinysam_training.evaluation.before_after import Comparison
    from tinysam_training.evaluation.evaluate import Evaluation
    from tinysam_training.run.held_out import Split
    from tinysam_training.run.loop import Training, TrainingOutcome

#: So many held-out images the table at the end is about.
_JUDGED = 6

#: Minutes that are kept back for the picture and the files in the end.
_MINUTES_TO_WRITE = 0.15

WAYS = ("auto", "frozen", "lora", "whole")


@dataclass(frozen=True)
class FinetuneRequest:
    """What the command line says.

    Parameters
    ----------
    data : Path
        Folder of annotated images.
    output : Path
        The model to write.
    model : str
        What to begin with: a registry name or a file.
    way : str
        One of `WAYS`.
    held_out : Path or None
        Folder of images that are not learnt from; those in `data`'s ``val`` and ``test``, or a part
        of `data`, if left out. `tinysam_training.run.held_out` says what they are used for.
    minutes : float
        For everything.
    device : str
        "auto", "cpu", "cuda" or "mps".
    partly_annotated : bool
        Whether a pixel without label may belong to an object.
    seed : int
        Of all random choices.
    """

    data: Path
    output: Path
    model: str = "default"
    way: str = "auto"
    held_out: Path | None = None
    minutes: float = 10.0
    device: str = "auto"
    partly_annotated: bool = False
    seed: int = 0

    def check(self) -> None:
        """Check what can be checked before the slow part.

        Raises
        ------
        UsageError, TinySAMError
            If a value makes no sense, or the output cannot be written.
        """
        if self.way not in WAYS:
            raise UsageError(f"--way is one of {', '.join(WAYS)}, not {self.way}.")
        if not 0 < self.minutes < math.inf:
            raise UsageError("--minutes is more than 0.")
        if self.seed < 0:
            raise UsageError("--seed is 0 or more.")
        writing.check_output(self.output, (".safetensors",))
        # What writes weights looks at the suffix as it is.
        if self.output.suffix != ".safetensors":
            raise FileError(f"{self.output} should end in .safetensors.")


def finetune(request: FinetuneRequest, note: Callable[[str], None]) -> str:
    """Adapt a model to annotated images.

    Parameters
    ----------
    request : FinetuneRequest
    note : callable
        Called with sentences for the user.

    Returns
    -------
    str
        Where the model is, and the table of before and after.

    Raises
    ------
    TinySAMError
        If data or model cannot be used, or memory or disk space ends.
    """
    from tinysam_training.commands.finetune import DEFAULT_WAY, FinetuneSettings
    from tinysam_training.commands.finetune import finetune as run
    from tinysam_training.evaluation.before_after import Comparison

    request.check()
    begun = time.monotonic()
    with explained():
        report, split = _read(request, note)
        judged = split.reported[:_JUDGED]
        # Judging the start first tells how long judging the result will take on this machine.
        note("The start is judged.")
        judging = time.monotonic()
        before = _judged(request, request.model, judged)
        reserve = (time.monotonic() - judging) / 60 + _MINUTES_TO_WRITE
        spent = (time.monotonic() - begun) / 60
        settings = FinetuneSettings(
            model=request.model,
            way=DEFAULT_WAY if request.way == "auto" else request.way,  # type: ignore[arg-type]
            minutes=max(request.minutes - spent, 0.1),
            device=request.device,
            seed=request.seed,
        )
        with _bar(note) as bar:
            try:
                result = run(
                    split.train,
                    split.choosing,
                    request.output,
                    settings,
                    fingerprint=report.fingerprint,
                    reserve=min(reserve, 0.5 * settings.minutes),
                    on_message=bar.say,
                    on_step=bar.step,
                )
            except KeyboardInterrupt:
                if bar.training is not None and bar.training.best.get("step"):
                    bar.say(f"The best model so far is in {request.output}.")
                raise
        if not result.better:
            advice = (
                result.outcome.shortness or "More images, or more --minutes, may help."
            )
            raise TinySAMError(
                "No model was better than the start on the held-out images, so none was "
                f"written. {advice}"
            )
        note("The result is judged.")
        after = _judged(request, request.output, judged)
        comparison = Comparison(before, after, split.caveat)
        return _report(request, result, comparison, judged, begun)


def _judged(
    request: FinetuneRequest, model: str | Path, entries: list[ImageEntry]
) -> Evaluation:
    """Evaluate a model on the held-out images."""
    from napari_tinysam.inference.load import load_model
    from tinysam_training.evaluation import before_after

    return before_after.judge(load_model(model, device=request.device), entries)


def _read(
    request: FinetuneRequest, note: Callable[[str], None]
) -> tuple[DataReport, Split]:
    """Find and check the images, and decide what each is for."""
    from tinysam_training.data import check_data, find_pairs
    from tinysam_training.run.held_out import split_images

    complete = not request.partly_annotated
    val = _part(request, "val")
    if request.held_out is not None:
        test = find_pairs(request.held_out, None, complete)
    else:
        test = _part(request, "test")
    is_split = bool(val) or (bool(test) and request.held_out is None)
    train = find_pairs(request.data, "train" if is_split else None, complete)
    report = check_data(train, val + test)
    note(report.text())
    if report.refused:
        raise TinySAMError(report.refused)
    chosen = {id(entry) for entry in val}
    split = split_images(
        report.usable_train,
        [entry for entry in report.usable_val if id(entry) in chosen],
        [entry for entry in report.usable_val if id(entry) not in chosen],
        request.seed,
    )
    note(split.text())
    return report, split


def _part(request: FinetuneRequest, split: str) -> FoundEntries:
    """List the images of a sub-folder of the data, if there is one."""
    from tinysam_training.data import FoundEntries, find_pairs

    # No such folder; what else may be wrong, the training images will say.
    with suppress(DataError):
        return find_pairs(request.data, split, not request.partly_annotated)
    return FoundEntries()


def _report(
    request: FinetuneRequest,
    result: Finetuned,
    comparison: Comparison,
    judged: list[ImageEntry],
    begun: float,
) -> str:
    """Write table and picture of before and after; return the text for stdout."""
    from tinysam_training.commands.finetune import run_folder_of
    from tinysam_training.evaluation.before_after import draw_comparison

    folder = run_folder_of(request.output)
    table = comparison.table()
    with replacing(folder / "before_after.md") as file:
        file.write(f"{table}\n".encode())
    with replacing(folder / "before_after.png") as file:
        file.write(draw_comparison(comparison, judged))
    minutes = (time.monotonic() - begun) / 60
    return (
        f"{request.output}: {result.outcome.steps} steps, best after "
        f"{result.outcome.best['step']:.0f}, {minutes:.1f} minutes in all\n"
        f"{_shortness(result.outcome)}\n{table}\n\n"
        f"{folder / 'before_after.png'}: pictures, and beside it the curves\n"
        f"Use it: napari-tinysam segment IMAGE --model {request.output} …, or choose the "
        "file in the dock's settings."
    )


def _shortness(outcome: TrainingOutcome) -> str:
    """Return a line if the run was too short to learn anything; else nothing."""
    return f"{outcome.shortness}\n" if outcome.shortness else ""


@dataclass(frozen=True)
class RecipeRequest:
    """What the command line says about a recipe's run.

    Parameters
    ----------
    recipe : Path
        A YAML file.
    data : Path
        What the recipe's paths are relative to.
    output : Path
        Folder of the run.
    resume : bool
        Whether to go on with the run that is there.
    max_minutes : float or None
        Stop after so many minutes with a checkpoint.
    steps : int or None
        Length of the whole run, instead of the recipe's.
    device, precision : str
        Where to compute, and how exactly.
    devices, nodes : int
        How many devices in each machine, and machines.
    distills : bool
        Whether the recipe must name a teacher.
    """

    recipe: Path
    data: Path
    output: Path
    resume: bool = False
    max_minutes: float | None = None
    steps: int | None = None
    device: str = "auto"
    precision: str = "auto"
    devices: int = 1
    nodes: int = 1
    distills: bool = False


def run_recipe(request: RecipeRequest, note: Callable[[str], None]) -> str:
    """Do what a recipe says.

    Parameters
    ----------
    request : RecipeRequest
    note : callable
        Called with sentences for the user.

    Returns
    -------
    str
        What came out, for stdout.

    Raises
    ------
    TinySAMError
        If recipe, data or model cannot be used, or memory or disk space ends.
    """
    from tinysam_training.commands.pipeline import run_recipe as run
    from tinysam_training.recipe import load_recipe
    from tinysam_training.run.starting import Hardware

    if request.max_minutes is not None and not request.max_minutes > 0:
        raise UsageError("--max-minutes is more than 0.")
    if request.steps is not None and request.steps < 1:
        raise UsageError("--steps is 1 or more.")
    if request.devices < 1 or request.nodes < 1:
        raise UsageError("--devices and --nodes are 1 or more.")
    if request.precision not in ("auto", "32-true", "bf16-mixed"):
        raise UsageError("--precision is auto, 32-true or bf16-mixed.")
    with explained():
        length = {} if request.steps is None else {"steps": request.steps, "minutes": 0}
        recipe = load_recipe(request.recipe, **length)
        if request.distills and not recipe.teacher.model:
            raise TinySAMError(
                f"{request.recipe} names no teacher; 'napari-tinysam train' is for that."
            )
        hardware = Hardware(
            request.device,
            request.devices,
            request.nodes,
            request.precision,  # type: ignore[arg-type]
        )
        with _bar(note) as bar:
            try:
                outcome = run(
                    recipe,
                    request.data,
                    request.output,
                    hardware=hardware,
                    resume=request.resume,
                    max_minutes=request.max_minutes,
                    on_message=bar.say,
                    on_step=bar.step,
                )
            except KeyboardInterrupt:
                if bar.training is not None:
                    bar.say(f"--resume goes on with the run in {request.output}.")
                raise
    if not _speaks():
        return ""
    figures = "; ".join(f"{k} {v:.3f}" for k, v in outcome.best.items() if k != "step")
    lines = [
        f"{request.output}: {outcome.steps} steps in {outcome.seconds / 60:.1f} minutes"
    ]
    if figures:
        lines.append(f"Best at step {outcome.best['step']:.0f}: {figures}")
    if not outcome.finished:
        lines.append("The run is not finished; --resume goes on with it.")
    elif outcome.shortness:
        lines.append(outcome.shortness)
    return "\n".join(lines)


@dataclass
class _TrainingBar:
    """A progress bar on stderr, and sentences above it."""

    note: Callable[[str], None]
    bar: Any = field(default=None)
    training: Training | None = None

    def say(self, message: str) -> None:
        if not _speaks():
            return
        if self.bar is not None:
            self.bar.clear()
        for line in message.splitlines():
            self.note(line)

    def step(self, training: Training, figures: Mapping[str, float]) -> None:
        from tqdm import tqdm

        self.training = training
        if self.bar is None:
            self.bar = tqdm(
                total=1000,
                file=sys.stderr,
                # where nobody watches, and in all processes but the first
                disable=None if _speaks() else True,
                leave=False,
                bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}",
            )
        self.bar.update(int(1000 * training.progress) - self.bar.n)
        best = training.best.get("score")
        shown = "" if best is None else f", best score {best:.3f}"
        text = f"step {training.steps}, loss {figures['loss']:.2f}{shown}"
        self.bar.set_postfix_str(text, refresh=False)


@contextmanager
def _bar(note: Callable[[str], None]) -> Iterator[_TrainingBar]:
    bar = _TrainingBar(note)
    try:
        yield bar
    finally:
        if bar.bar is not None:
            bar.bar.close()


def _speaks() -> bool:
    """Whether this is the one process of a run that talks to the user."""
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    return not getattr(rank_zero_only, "rank", 0)


@contextmanager
def explained() -> Iterator[None]:
    """Turn what can go wrong into one sentence."""
    try:
        yield
    except TinySAMError:
        raise
    except (RuntimeError, TypeError) as error:
        if not is_about_memory(error):
            raise  # a defect: its traceback helps
        raise TinySAMError(sentence(error)) from error
    except (MemoryError, ValueError, OSError) as error:
        raise TinySAMError(sentence(error)) from error
