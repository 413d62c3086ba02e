"""The training on the GPU machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from default_model.on_gpu.delivery import deliver
from napari_tinysam import checkpoints
from tinysam_training.commands.train import run_recipe
from tinysam_training.recipe import load_recipe
from tinysam_training.run.exporting import whole_model

if TYPE_CHECKING:
    from tinysam_training.run.loop import Training

#: Seconds between two deliveries; a run that is cut loses at most that.
_EVERY = 120.0

#: Seconds reserved for the last validation and the files.
_RESERVE = 25.0


def train(
    pack: Path, out: Path, run: Path, manifest: Mapping[str, Any], began: float
) -> None:
    """Train with a pack for its minutes, reading included.

    Parameters
    ----------
    pack : Path
        From `default_model.on_gpu.packing`.
    out : Path
        Where the delivery goes.
    run : Path
        Folder of the run, which is not delivered.
    manifest : mapping
        Of the pack.
    began : float
        When the command began, by `time.monotonic`.
    """
    recipe = load_recipe(pack / "recipe.yaml")
    start = str(pack / recipe.model.start)
    recipe = replace(recipe, model=replace(recipe.model, start=start))
    device = "a GPU" if torch.cuda.is_available() else "the CPU"
    _say(f"commit {manifest['commit'][:10]}, {sys.version.split()[0]}, on {device}")
    delivery = _Deliveries(run, out)
    outcome = run_recipe(
        recipe,
        pack,
        run,
        ends=began + 60 * manifest["minutes"] - _RESERVE,
        on_message=_say,
        on_step=delivery.step,
    )
    # The rate has fallen to almost nothing, so the last weights are the best.
    last = run / "last.safetensors"
    delivery.send(checkpoints.load(last), outcome.steps, last.stem)
    figures = ", ".join(f"{k} {v:.3f}" for k, v in outcome.best.items() if k != "step")
    _say(f"{outcome.steps} steps in {time.monotonic() - began:.0f} s; best: {figures}")


class _Deliveries:
    """Delivers the averaged weights at intervals."""

    def __init__(self, run: Path, out: Path) -> None:
        self.run, self.out = run, out
        self._last = time.monotonic()
        self._said = 0.0

    def step(self, training: Training, figures: Mapping[str, float]) -> None:
        """Look at the clock after a step."""
        now = time.monotonic()
        if now - self._said > 20:
            self._said = now
            _say(
                f"step {training.steps}, {training.seconds:.0f} s, loss {figures['loss']:.3f}"
            )
        if now - self._last > _EVERY:
            self._last = now
            training.folder.draw_curves()
            notes = {"step": str(training.steps)}
            model = whole_model(training.average)
            loaded = checkpoints.LoadedCheckpoint(
                "average", self.run, "", notes, model=model
            )
            self.send(loaded, training.steps, "average")

    def send(self, loaded: checkpoints.LoadedCheckpoint, step: int, what: str) -> None:
        """Deliver weights in 16 bits."""
        path = self.run / "delivered.safetensors"
        notes = {k: v for k, v in loaded.notes.items() if k != "format"}
        checkpoints.save(loaded.model, path, notes, half=True)
        deliver(path, self.run, self.out, step=step, what=what)
        path.unlink()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
