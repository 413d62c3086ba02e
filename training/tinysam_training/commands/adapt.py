"""Adapts a model to what was annotated in the dock, in a process of its own.

Reading, judging the start, training, calibrating, judging the result: what happens is in the
folder as it happens (`Adaptation.say`), and so is what was asked for meanwhile. The work behind
``napari-tinysam adapt``.
"""

from __future__ import annotations

import _thread
import errno
import json
import os
import shutil
import signal
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam import checkpoints
from napari_tinysam.checkpoints.own import FLOATS, NOTE, own_models
from napari_tinysam.errors import TinySAMError, is_about_memory, sentence
from napari_tinysam.everything.thresholds import Thresholds
from napari_tinysam.files.atomic import replacing, unfinished, write_text
from napari_tinysam.inference.load import load_model
from tinysam_training.calibration.calibrate import calibrate_guided_search
from tinysam_training.calibration.calibrate import write as write_calibrated
from tinysam_training.commands import finetune as finetuning
from tinysam_training.commands.samples import placed
from tinysam_training.data import check_data, find_pairs
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.evaluation import before_after
from tinysam_training.run.held_out import count_images, split_images
from tinysam_training.run.seen import Seen
from tinysam_training.run.starting import thresholds_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tinysam_training.commands.adaptation import Adaptation, Order
    from tinysam_training.evaluation.evaluate import Evaluation
    from tinysam_training.labelled_image import ImageEntry
    from tinysam_training.run.held_out import Split
    from tinysam_training.run.loop import Training

#: How many held-out images the models before and after are compared on.
JUDGED = 6

#: How many images calibrate Auto-segment.
CALIBRATED = 6

#: Figures by which the user knows a model, and their names. The first three decide.
FIGURES = {
    "box_iou": "box",
    "click1_iou": "one click",
    "msa": "found by itself (mSA)",
}

#: A mean of the deciding figures that is lower by more than this is worse, not chance.
_WORSE = 0.01

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
    except KeyboardInterrupt:
        cancelled = adaptation.request == "cancel"
        adaptation.say("cancelled" if cancelled else "paused")
        raise
    except Exception as error:
        text = sentence(error)
        passing = any(map(_may_pass, (error, error.__cause__)))
        with suppress(OSError):  # the disk may be full
            adaptation.say("stopped" if passing else "failed", text=text)
        if isinstance(error, (TinySAMError, OSError, MemoryError)):
            raise TinySAMError(text) from error
        raise
    finally:
        with suppress(OSError):
            adaptation.ask(None)  # it is done
        os.close(lock)


def _may_pass(error: BaseException | None) -> bool:
    """Whether memory or disk space ran out: with more of it the run can go on."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return error is not None and (
        is_about_memory(error) or (isinstance(error, OSError) and error.errno in full)
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
        self.stage("Reading the images")
        report, split = self.read()
        self.stage("Judging the model as it is")
        judging = time.monotonic()
        start = float_origin(order.start)
        judged = evenly_spaced(split.reported, JUDGED)
        before = self.judge(start, judged)
        # Judging again, and calibrating, which asks as much.
        self.reserve = 2 * (time.monotonic() - judging) + 5
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
            fingerprint=report.fingerprint,
            metadata=split.notes,
            reserve=min(self.reserve / 60, 0.5 * minutes),
            resume=True,
            stop=lambda: adaptation.request == "stop",
            on_step=self.step,
            on_judged=self.judged,
        )
        if not result.better:
            adaptation.say(
                "done",
                verdict="none",
                text="Nothing better than the model as it is was found, so it stays. "
                + (result.outcome.shortness or "More images, or more time, may help."),
            )
            return
        self.stage("Calibrating Auto-segment")
        self.calibrate(start, split)
        self.stage("Judging the result")
        after = self.judge(str(adaptation.model), judged)
        comparison = before_after.Comparison(before, after, split.caveat)
        self.write_comparison(comparison, judged)
        figures = {
            name: comparison.figures[key]
            for key, name in FIGURES.items()
            if comparison.figures.get(key) is not None
        }
        worse = _is_worse(figures)
        self.note(figures)
        path = ""
        if not worse:
            if start != order.start:
                self.stage("Rounding to 8 bits")
                self.quantize(split)
            path = self.install()
        adaptation.say(
            "done",
            verdict="worse" if worse else "better",
            model=path,
            figures=figures,
            held_out=count_images(judged),
            caveat=split.caveat,
            text=_verdict(figures, worse=worse),
        )

    # --- parts ------------------------------------------------------------------------------

    def read(self) -> tuple[Any, Split]:
        found = find_pairs(self.adaptation.data, dataset=self.order.name)
        report = check_data(found)
        if report.refused:
            raise TinySAMError(report.refused)
        for finding in report.findings:
            if finding.severity == "error":
                self.adaptation.say("note", text=finding.text)
        usable = [placed(entry) for entry in report.keyed(report.usable_train)]
        seen = Seen.by(float_origin(self.order.start))
        return report, split_images(usable, seed=self.order.seed, seen=seen)

    def judge(self, model: str, entries: Sequence[ImageEntry]) -> Evaluation:
        predictor = load_model(model, device=self.order.device)
        return before_after.judge(predictor, entries)

    def calibrate(self, start: str, split: Split) -> None:
        """Measure the thresholds of Auto-segment anew, if that gives more than the start's."""
        model = str(self.adaptation.model)
        predictor = load_model(model, device=self.order.device)
        if not predictor.has_object_head:
            return
        entries = evenly_spaced([*split.train, *split.choosing], CALIBRATED)
        notes = thresholds_of(start)
        known = Thresholds.from_notes(notes) if notes else Thresholds.uncalibrated()
        found = calibrate_guided_search(predictor, entries, known)
        write_calibrated(model, self.adaptation.model, found)

    def note(self, figures: Mapping[str, Any]) -> None:
        """Write into the model what it is."""
        about = {
            "title": self.order.name,
            "date": date.today().isoformat(),
            "images": self.order.images,
            "objects": self.order.objects,
            "figures": figures,
        }
        loaded = checkpoints.load(self.adaptation.model)
        notes: dict[str, str] = dict(loaded.notes)
        notes |= {NOTE: json.dumps(about), "made_by": "napari-tinysam adapt"}
        notes.pop("format", None)
        checkpoints.save(loaded.model, self.adaptation.model, notes, half=True)

    def quantize(self, split: Split) -> None:
        """Round the weights to 8 bits, as those of the start were."""
        from tinysam_training.quantize.run import quantize

        loaded = checkpoints.load(self.adaptation.model)
        kept = self.adaptation.path / "floats.safetensors"
        with unfinished(kept) as file:
            shutil.copyfile(self.adaptation.model, file)
        made = quantize(loaded.model, evenly_spaced(split.train, 8))
        notes: dict[str, str] = dict(loaded.notes)
        notes.pop("format", None)
        notes["quantized_from"] = f"{kept.name} {loaded.fingerprint}"
        checkpoints.save(made.model, self.adaptation.model, notes)

    def install(self) -> str:
        """Copy the model, and its floats if it was rounded, to the user's own models."""
        from napari_tinysam.checkpoints.own import model_path

        wanted = Path(self.order.model)
        path = model_path(wanted.stem, wanted.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        floats = self.adaptation.path / "floats.safetensors"
        pairs = [(self.adaptation.model, path)]
        if floats.exists():
            pairs.append((floats, path.with_name(f"{path.stem}{FLOATS}.safetensors")))
        for source, target in pairs:
            with unfinished(target) as file:
                shutil.copyfile(source, file)
        return str(path)

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


def _is_worse(figures: Mapping[str, Any]) -> bool:
    pairs = [(b, a) for b, a in figures.values() if b is not None and a is not None]
    return bool(pairs) and float(np.mean([a - b for b, a in pairs])) < -_WORSE


def _verdict(figures: Mapping[str, Any], *, worse: bool) -> str:
    shown = ", ".join(
        f"{name} {before:.2f} → {after:.2f}"
        for name, (before, after) in figures.items()
        if before is not None and after is not None
    )
    if worse:
        return (
            f"On held-out images the result is worse than before ({shown}), so the model as it "
            "is stays."
        )
    return f"On held-out images: {shown}."
