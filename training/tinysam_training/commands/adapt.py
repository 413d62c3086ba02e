"""Adapts a model to what was annotated in the dock, in a process of its own.

Reading, judging the start, training, calibrating, judging the result: what happens is in the
folder as it happens (`Adaptation.say`), and so is what was asked for meanwhile. The work behind
``napari-tinysam adapt``.
"""

from __future__ import annotations

import _thread
import errno
import os
import signal
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam import checkpoints
from napari_tinysam.checkpoints.own import own_models
from napari_tinysam.errors import TinySAMError, is_about_memory, sentence
from napari_tinysam.everything.thresholds import Thresholds
from napari_tinysam.files.atomic import replacing, write_text
from napari_tinysam.inference.load import load_model
from tinysam_training.calibration.calibrate import calibrate_guided_search
from tinysam_training.calibration.calibrate import write as write_calibrated
from tinysam_training.commands import finetune as finetuning
from tinysam_training.commands.making import NotInstalledError, install, make, note
from tinysam_training.commands.representative import most_usual
from tinysam_training.commands.samples import placed
from tinysam_training.commands.verdict import Verdict, compared, nothing_better
from tinysam_training.data import check_data, find_pairs
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.evaluation import before_after
from tinysam_training.run.held_out import count_images, split_images
from tinysam_training.run.seen import Seen
from tinysam_training.run.starting import thresholds_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari_tinysam.inference.predictor import Predictor
    from tinysam_training.commands.adaptation import Adaptation, Order
    from tinysam_training.evaluation.evaluate import Evaluation
    from tinysam_training.labelled_image import ImageEntry
    from tinysam_training.run.held_out import Split
    from tinysam_training.run.loop import Training

#: How many held-out images the models before and after are compared on.
JUDGED = 6

#: How many images calibrate Auto-segment.
CALIBRATED = 6

#: Seconds for rounding a model to 8 bits, on two free cores.
ROUNDING = 120

#: Seconds between looks at what the user asks.
_LOOK = 0.5

#: Seconds between two lines about steps.
_OFTEN = 0.5


def adapt(adaptation: Adaptation) -> None:
    """Work on an adaptation until it has ended, or until the user asks to pause.

    Parameters
    ----------
    adaptation : Adaptation
        With an order. If it was begun before, it goes on from its checkpoint.

    Raises
    ------
    TinySAMError
        If it cannot be done; the folder knows it as well. Where the reason may pass (memory, a full
        disk) the adaptation can go on later.
    KeyboardInterrupt
        If the user asked to pause or to cancel.
    """
    lock = adaptation.take()
    try:
        adaptation.say("began", process=os.getpid())
        with _watched(adaptation):
            _Run(adaptation, adaptation.order()).whole()
        adaptation.tidy()
    except KeyboardInterrupt:
        cancelled = adaptation.request == "cancel"
        adaptation.say("cancelled" if cancelled else "paused")
        raise
    except Exception as error:
        text = sentence(error)
        elsewhere = isinstance(error, NotInstalledError)
        passing = elsewhere or any(map(_may_pass, (error, error.__cause__)))
        with suppress(OSError):  # the disk may be full
            if passing:
                adaptation.say("stopped", text=text, elsewhere=elsewhere)
            else:
                adaptation.say("failed", text=text)
        if isinstance(error, (TinySAMError, OSError, MemoryError)):
            raise TinySAMError(text) from error
        raise
    finally:
        with suppress(OSError):
            adaptation.ask(None)  # it is done
        os.close(lock)


def _may_pass(error: BaseException | None) -> bool:
    """Whether memory, disk space or a permission was missing: with it the run can go on."""
    missing = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
    return error is not None and (
        is_about_memory(error)
        or (isinstance(error, OSError) and error.errno in missing)
    )


@contextmanager
def _watched(adaptation: Adaptation) -> Iterator[None]:
    """Interrupt the main thread as soon as the user asks to pause or to cancel."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK):
            if adaptation.request in ("pause", "cancel"):
                _thread.interrupt_main()
                return

    # A program that a shell starts in the background ignores Ctrl+C, and so do its children; then
    # the main thread cannot be interrupted.
    main = threading.current_thread() is threading.main_thread()
    ignored = main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    watcher = threading.Thread(target=watch, name="tinysam-requests", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(eq=False)
class _Run:
    """One process's work on an adaptation."""

    adaptation: Adaptation
    order: Order
    begun: float = field(default_factory=time.monotonic)
    reserve: float = 0.0  # seconds after training
    _said: float = 0.0
    _steps: int = 0
    _loss: float | None = None

    def whole(self) -> None:
        adaptation, order = self.adaptation, self.order
        ready = adaptation.ready
        if ready is None:
            ready = self.made()
            if ready["verdict"] == "better":
                adaptation.keep_ready(ready)  # if it cannot be installed now
        if ready["verdict"] == "better":
            ready["model"] = str(install(adaptation, order))
        adaptation.say("done", **ready)

    def made(self) -> dict[str, Any]:
        """Learn, and make the model; returns what is said about it."""
        adaptation, order = self.adaptation, self.order
        self.stage("Reading the images")
        report, split = self.read()
        self.stage("Judging the model as it is")
        judging = time.monotonic()
        start = float_origin(order.start)
        rounded = checkpoints.locate(order.start).quantized
        judged = evenly_spaced(split.reported, JUDGED)
        before = self.judge(order.start, judged)
        # Judging again, and calibrating, which asks as much.
        self.reserve = 2 * (time.monotonic() - judging) + 5 + rounded * ROUNDING
        spent = (time.monotonic() - self.begun) / 60
        minutes = max(order.minutes - spent, 0.02)
        self.stage("Learning")
        result = finetuning.finetune(
            split.train,
            split.choosing,
            adaptation.model,
            finetuning.FinetuneSettings(
                model=start,
                way=finetuning.DEFAULT_WAY if order.way == "auto" else order.way,  # type: ignore[arg-type]
                minutes=minutes,
                device=order.device,
                seed=order.seed,
            ),
            background=split.background,
            fingerprint=report.fingerprint,
            metadata=split.notes,
            reserve=min(self.reserve / 60, 0.5 * minutes),
            resume=True,
            stop=lambda: adaptation.request == "stop",
            on_step=self.step,
            on_judged=self.judged,
        )
        known = {"model": "", "held_out": count_images(judged), "caveat": split.caveat}
        if not result.better:
            hint = result.outcome.shortness or "More images, or more time, may help."
            return known | _told(nothing_better(before, hint))
        if rounded:
            self.stage("Rounding to 8 bits")
        make(adaptation, split.train, rounded=rounded)
        # What is installed is what is calibrated and judged.
        self.stage("Calibrating Auto-segment")
        self.calibrate(split)
        self.stage("Judging the result")
        after = self.judge(str(adaptation.made), judged)
        comparison = before_after.Comparison(
            before, after, split.caveat, count_images(judged)
        )
        self.write_comparison(comparison, judged)
        verdict = compared(before, after)
        note(adaptation, order, verdict.figures)
        return known | _told(verdict)

    # --- parts ------------------------------------------------------------------------------

    def read(self) -> tuple[Any, Split]:
        found = find_pairs(self.adaptation.data, dataset=self.order.name)
        report = check_data(found, background=True)
        if report.refused:
            raise TinySAMError(report.refused)
        for finding in report.findings:
            if finding.severity == "error":
                self.adaptation.say("note", text=finding.text)
        usable = [placed(entry) for entry in report.keyed(report.usable_train)]
        with_objects = [bool(len(facts.diameters)) for facts in report.train_facts]
        objects = [e for e, there in zip(usable, with_objects, strict=True) if there]
        empty = [e for e, there in zip(usable, with_objects, strict=True) if not there]
        if not objects:
            raise TinySAMError("There is no image with objects to learn from.")
        seen = Seen.by(float_origin(self.order.start))
        usual = self.adaptation.usual
        if usual is None:  # the same when it goes on
            start = float_origin(self.order.start)
            usual = most_usual(lambda: self.load(start), objects)
            self.adaptation.keep_usual(usual)
        split = split_images(objects, seed=self.order.seed, seen=seen, usual=usual)
        # All images are drawn equally often: more would leave too little of the objects.
        background = evenly_spaced(empty, len(split.train))
        return report, replace(split, background=background)

    def judge(self, model: str, entries: Sequence[ImageEntry]) -> Evaluation:
        return before_after.judge(self.load(model), entries)

    def load(self, model: str) -> Predictor:
        return load_model(model, device=self.order.device)

    def calibrate(self, split: Split) -> None:
        """Measure the thresholds of Auto-segment anew, if that gives more than the start's."""
        made = self.adaptation.made
        predictor = self.load(str(made))
        if not predictor.has_object_head:
            return
        entries = evenly_spaced([*split.train, *split.choosing], CALIBRATED)
        notes = thresholds_of(self.order.start)
        known = Thresholds.from_notes(notes) if notes else Thresholds.uncalibrated()
        found = calibrate_guided_search(predictor, entries, known)
        write_calibrated(str(made), made, found)

    def write_comparison(
        self, comparison: before_after.Comparison, entries: Sequence[ImageEntry]
    ) -> None:
        """Write the table, the picture, and images with what both models find in them."""
        folder = self.adaptation.comparison
        folder.mkdir(exist_ok=True)
        write_text(folder / "before_after.md", comparison.table())
        with replacing(folder / "before_after.png") as file:
            file.write(before_after.draw_comparison(comparison, entries))
        results = zip(
            entries, comparison.before.results, comparison.after.results, strict=True
        )
        for number, (entry, before, after) in enumerate(results):
            image = entry.read()
            empty = np.zeros(image.labels.shape[1:], np.int32)
            with replacing(folder / f"{number}.npz") as file:
                np.savez_compressed(
                    file,
                    image=image.rgb,
                    yours=image.labels[0],
                    before=empty if before.automatic is None else before.automatic,
                    after=empty if after.automatic is None else after.automatic,
                )

    # --- what is said -----------------------------------------------------------------------

    def stage(self, text: str) -> None:
        self.adaptation.say("stage", text=text, left=self.left(None))

    def step(self, training: Training, figures: Mapping[str, float]) -> None:
        loss = figures["loss"]
        self._loss = loss if self._loss is None else 0.9 * self._loss + 0.1 * loss
        self._steps = training.steps
        now = time.monotonic()
        if now - self._said > _OFTEN or training.finished:
            self._said = now
            self.adaptation.say(
                "step",
                step=training.steps,
                progress=round(training.progress, 4),
                loss=round(self._loss, 4),
                left=self.left(training),
            )

    def judged(self, figures: Mapping[str, float]) -> None:
        known = {name: round(value, 4) for name, value in figures.items()}
        self.adaptation.say("judged", step=self._steps, **known)

    def left(self, training: Training | None) -> float:
        """Seconds until the end, as far as is known."""
        if training is None:
            spent = time.monotonic() - self.begun
            return round(max(60 * self.order.minutes - spent, self.reserve), 1)
        minutes = training.recipe.minutes
        return round(max(60 * minutes - training.seconds, 0) + self.reserve, 1)


def float_origin(start: str) -> str:
    """Find the model in floats that a quantized one was made from.

    Parameters
    ----------
    start : str
        A name of the registry or a checkpoint file.

    Returns
    -------
    str
        `start` itself if it is not quantized, or if its origin is not on this machine: its weights
        are then those that rounding left.
    """
    located = checkpoints.locate(start)
    if not located.quantized:
        return start
    _, _, fingerprint = located.notes.get("quantized_from", "").rpartition(" ")
    bundled = [
        name for name in checkpoints.REGISTRY if checkpoints.is_available_offline(name)
    ]
    beside = sorted(located.path.parent.glob("*.safetensors"))
    mine = [model.path for model in own_models()]
    for candidate in (*bundled, *map(str, beside), *map(str, mine)):
        with suppress(TinySAMError):
            if fingerprint and checkpoints.locate(candidate).fingerprint == fingerprint:
                return candidate
    return start


def _told(verdict: Verdict) -> dict[str, Any]:
    """Return what an event tells of it."""
    return {
        "verdict": verdict.kind,
        "figures": verdict.figures,
        "table": verdict.table,
        "remark": verdict.remark,
        "text": verdict.text,
    }
