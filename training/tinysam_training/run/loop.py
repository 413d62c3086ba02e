"""The training loop, on lightning-fabric: one device or many, one process or many.

A `Recipe` configures a run, an `Objective` computes the losses of a batch; this module is the loop
around them, whole in one file so that it can be read from top to bottom. Every random choice
follows from the recipe's seed and the number of the batch. So a killed run continues exactly as if
it had not been killed (on a CPU bit for bit), and R processes see the windows that one process sees
with R times as many accumulated batches.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING

import torch

from napari_tinysam.errors import (
    CheckpointError,
    DataError,
    TinySAMError,
    is_about_memory,
    sentence,
)
from tinysam_training.data.sampling import BatchRequest
from tinysam_training.learning.objective import (
    FIGURES,
    LOSSES,
    Objective,
    Sealed,
    parameter_groups,
    weights_by_name,
)
from tinysam_training.run.averaging import update_average
from tinysam_training.run.depthwise import DepthwiseGradients
from tinysam_training.run.interruption import Interruption
from tinysam_training.run.outcome import TrainingOutcome
from tinysam_training.run.schedule import rate_at, stage_at

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor
    from torch.utils.data import Dataset

    from napari_tinysam.model import SegmentAnything
    from tinysam_training.data.batches import TrainingBatch
    from tinysam_training.recipe import Recipe, Stage
    from tinysam_training.run.folder import RunFolder

#: A pause of the machine counts as at most this many seconds of the time budget.
LONGEST_PAUSE = 60.0

#: The most updates in a row that may be skipped because their gradient is NaN or infinite.
PATIENCE = 20


Judge = Callable[["SegmentAnything"], Mapping[str, float]]
Exporter = Callable[["SegmentAnything", Mapping[str, float]], None]


class Training:
    """A run: model, average, optimiser, and their progress.

    Parameters
    ----------
    objective : Objective
        On the CPU.
    batches : Dataset
        Gives a `TrainingBatch` for a `BatchRequest`.
    recipe : Recipe
    folder : RunFolder
        For log, checkpoints and curves.
    fabric : Fabric
        Launched.
    judge : callable, optional
        Validates a model and returns figures; the highest ``score`` is best.
    export : callable, optional
        Writes the best model so far; called after each validation that beats all earlier ones.
    clock : callable
        Returns seconds; replaceable for experiments that must not depend on a machine's load.
    """

    def __init__(
        self,
        objective: Objective,
        batches: Dataset[TrainingBatch],
        recipe: Recipe,
        folder: RunFolder,
        fabric: Fabric,
        *,
        judge: Judge | None = None,
        export: Exporter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.fabric = fabric
        self.batches = batches
        self.judge = judge
        self.export = export
        self.objective = objective
        self.average = copy.deepcopy(objective.student).eval().requires_grad_(False)
        self.average.to(fabric.device)
        if fabric.device.type == "cuda" or fabric.device.type == "cpu":
            objective.student.image_encoder.to(memory_format=torch.channels_last)
        settings = recipe.optimizer
        optimizer = torch.optim.AdamW(
            parameter_groups(objective),
            lr=settings.learning_rate,
            betas=settings.betas,
            # One pass over memory instead of ten.
            fused=fabric.device.type in ("cpu", "cuda"),
        )
        self.module, self.optimizer = fabric.setup(objective, optimizer)
        self.parameters = [p for p in objective.parameters() if p.requires_grad]
        self.steps = 0
        self.seconds = 0.0
        self.best: dict[str, float] = {}
        self.first: dict[str, float] = {}
        self.validated = 0.0  # progress at the last validation
        self._skipped = 0
        self._half_done = False  # weights, average and counter do not belong together
        self._interruption = Interruption()
        self._timed = (0, 0.0)  # steps of this part of the run, and their seconds
        self._clock = clock
        self._last = clock()

    # --- progress of the run ------------------------------------------------------

    @property
    def progress(self) -> float:
        """Used share of the budget, 0–1; the schedule follows it."""
        if self.recipe.steps:
            return min(self.steps / self.recipe.steps, 1.0)
        return min(self.seconds / (60 * self.recipe.minutes), 1.0)

    @property
    def finished(self) -> bool:
        """Whether the run is finished."""
        late = 0 < self.recipe.minutes <= self.seconds / 60
        return self.progress >= 1 or late

    def _tick(self) -> float:
        """Add the time since the last call to the budget; return the part that counts."""
        now = self._clock()
        passed = min(now - self._last, LONGEST_PAUSE)
        self.seconds += passed
        self._last = now
        if self.fabric.world_size > 1:  # all must see the same end
            self.seconds = float(self.fabric.broadcast(self.seconds))
        return passed

    # --- the loop -----------------------------------------------------------------

    def run(
        self,
        *,
        max_minutes: float | None = None,
        on_step: Callable[[Training, Mapping[str, float]], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> TrainingOutcome:
        """Train until the budget is used up, for `max_minutes`, or until `stop` says so.

        Parameters
        ----------
        max_minutes : float, optional
            Of this part of the run. The schedule does not change; `resume` goes on.
        on_step : callable, optional
            Called after each step with this object and the step's figures. If it raises, the run
            writes a checkpoint and ends.
        stop : callable
            Asked after each step. When it says so, the model is judged a last time and the run
            ends, with what it has.

        Returns
        -------
        TrainingOutcome

        Raises
        ------
        TinySAMError
            If memory or disk space runs out, or losses became NaN or infinite. The best model so
            far was exported when it was found, and a checkpoint is kept where possible.
        KeyboardInterrupt
            After Ctrl+C or a request to terminate; a checkpoint is written first.
        """
        begun = saved = self._last = self._clock()
        batches = self._made()
        enough = False
        try:
            with self._interruption.handled():
                if self.judge is not None and not self.first:
                    self._validate()
                    self._tick()
                # Take at least one step, even if judging used all the time; it gives the speed.
                while not (self.finished and self.steps):
                    figures = self._step(batches)
                    if on_step is not None:
                        on_step(self, figures)
                    now = self._clock()
                    if self._validation_is_due():
                        self._validate()
                        self._tick()
                    if now - saved > 60 * self.recipe.checkpoint_minutes:
                        self.save()
                        saved = now
                    if self._agreed(stop()):
                        enough = True
                        break
                    if max_minutes and self._agreed(now - begun > 60 * max_minutes):
                        break
                if self._validation_is_due() or (
                    enough and self.judge is not None and self.progress > self.validated
                ):  # a run that was stopped just before it
                    self._validate()
        except KeyboardInterrupt:
            self._save_if_possible()
            raise
        except CheckpointError as error:  # of the exported model
            self._save_if_possible()
            raise TinySAMError(self._explained(str(error).rstrip("."))) from error
        except (MemoryError, RuntimeError, TinySAMError) as error:
            self._save_if_possible()
            if not is_about_memory(error):
                raise
            raise TinySAMError(self._explained("Memory ran out")) from error
        except OSError as error:
            reason = sentence(error).rstrip(".")
            message = self._explained(f"A file could not be written ({reason})")
            raise TinySAMError(message) from error
        self.save()
        self.folder.draw_curves()
        steps, seconds = self._timed
        return TrainingOutcome(
            self.steps,
            self.seconds,
            self.finished,
            self.best,
            self.first,
            steps / seconds if seconds > 0 else 0.0,
        )

    def _step(self, batches: Iterator[TrainingBatch]) -> dict[str, float]:
        """Take one step: forward and backward over the accumulated batches, update, log."""
        recipe, fabric = self.recipe, self.fabric
        settings = recipe.optimizer
        rate = rate_at(self.progress, settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        stage = self._stage(self.progress)
        parts = [next(batches).to(fabric.device) for _ in range(self._share())]
        total = self._over_all([self.objective.counts(part) for part in parts])

        self.module.train()
        weights = weights_by_name(recipe)
        sums: dict[str, torch.Tensor] = {}
        for i, part in enumerate(parts):
            more = i + 1 < len(parts)
            with fabric.no_backward_sync(self.module, enabled=more):
                with self._gradients():
                    found = self.module(
                        Sealed(part), stage.rounds, recipe.seed, stage.dense, stage.seen
                    )
                loss = torch.stack(
                    [
                        weights[name] * value / total[name].clamp(min=1)
                        for name, value in found.items()
                        if name in weights
                    ]
                ).sum()
                fabric.backward(loss)
            for name, value in found.items():
                sums[name] = sums.get(name, 0) + value.detach()
        norm = fabric.clip_gradients(
            self.module,
            self.optimizer,
            max_norm=settings.clip,
            error_if_nonfinite=False,
        )
        means = self._means(sums, total)
        means["loss"] = sum(weights.get(n, 0.0) * v for n, v in means.items())
        figures = {"rate": rate, "norm": 0.0 if norm is None else float(norm), **means}
        # A stopped run continues exactly only if its weights match its counter.
        with self._interruption.held_back():
            self._update(norm)
            passed = self._tick()
            self._timed = self._timed[0] + 1, self._timed[1] + passed
            self.folder.log(self._row(figures))
        return figures

    def _gradients(self) -> AbstractContextManager[object]:
        cpu = self.fabric.device.type == "cpu"
        return DepthwiseGradients() if cpu else nullcontext()

    def _means(
        self, sums: Mapping[str, torch.Tensor], total: Mapping[str, torch.Tensor]
    ) -> dict[str, float]:
        """Return the mean losses of the step over all processes, for the log."""
        names = [name for name in (*LOSSES, *FIGURES) if name in sums]
        values = torch.stack([sums[n] / total[n].clamp(min=1) for n in names])
        return dict(zip(names, self._averaged(values).tolist(), strict=True))

    def _averaged(self, values: torch.Tensor) -> torch.Tensor:
        """Average over processes, as DDP does with gradients."""
        if self.fabric.world_size == 1:
            return values
        reduced = self.fabric.all_reduce(values, reduce_op="mean")
        assert isinstance(reduced, torch.Tensor)
        return reduced

    def _update(self, norm: torch.Tensor | None) -> None:
        """Update the weights and their average; skip a gradient that is NaN or infinite."""
        if norm is not None and not torch.isfinite(norm):
            self._skipped += 1
            if self._skipped > PATIENCE:
                raise TinySAMError(self._explained("The losses became NaN or infinite"))
        else:
            self._skipped = 0
            self._half_done = True
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        # A young average follows closely, or it would keep the start for too long.
        decay = min(self.recipe.optimizer.ema, self.steps / (self.steps + 10))
        update_average(self.average, self.objective.student, decay)
        self._half_done = False

    def _over_all(
        self, counts: list[Mapping[str, torch.Tensor]]
    ) -> dict[str, torch.Tensor]:
        """Add the counts of all batches, and average over processes."""
        names = (*LOSSES, *FIGURES)
        values = torch.stack([sum(c[n] for c in counts) for n in names])  # type: ignore[misc]
        return dict(zip(names, self._averaged(values), strict=True))

    # --- batches ------------------------------------------------------------------

    def _stage(self, progress: float) -> Stage:
        return self.recipe.stages[stage_at(progress, self.recipe.stages)]

    def _share(self) -> int:
        """Return the number of batches per step for this process."""
        return math.ceil(self.recipe.optimizer.accumulate / self.fabric.world_size)

    def _requests(self) -> Iterator[BatchRequest]:
        accumulate = self._share()
        world, rank = self.fabric.world_size, self.fabric.global_rank
        step = self.steps
        while True:
            stage = stage_at(self.progress, self.recipe.stages)
            for i in range(accumulate):
                yield BatchRequest((step * accumulate + i) * world + rank, stage)
            step += 1

    def _made(self) -> Iterator[TrainingBatch]:
        return (self.batches[request] for request in self._requests())

    # --- validation ---------------------------------------------------------------

    def _validation_is_due(self) -> bool:
        since = self.progress - self.validated
        if self.judge is None or since <= 0:
            return False
        return self.finished or since >= self.recipe.judging.every - 1e-9

    def _validate(self) -> None:
        """Judge the averaged model; export it if it is the best so far."""
        assert self.judge is not None
        if self.fabric.is_global_zero:
            # At the start there is nothing to average yet.
            figures = dict(self.judge(self.average))
            figures["step"] = float(self.steps)
            with self._interruption.held_back():
                self._keep(figures)
        if self.fabric.world_size > 1:
            self.best = self.fabric.broadcast(self.best)
            self.first = self.fabric.broadcast(self.first)
        self.validated = self.progress

    def _keep(self, figures: dict[str, float]) -> None:
        """Log a validation, and export the model if it is better than all before."""
        self.folder.log_validation({"seconds": self.seconds, **figures})
        if not self.first:
            self.first = figures
        if not self.best or figures["score"] > self.best["score"]:
            if self.export is not None and self.steps:
                self.export(self.average, figures)
            self.best = figures  # after the file is written: messages name it
        self.validated = self.progress  # last, when nothing else can fail

    # --- checkpoints --------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint atomically."""
        if not self.fabric.is_global_zero:
            return
        self.folder.save_checkpoint(
            {
                "student": self.objective.student.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "steps": self.steps,
                "seconds": self.seconds,
                "validated": self.validated,
                "best": dict(self.best),
                "first": dict(self.first),
            }
        )

    def resume(self) -> bool:
        """Continue from the folder's checkpoint; False if there is none.

        Raises
        ------
        DataError
            If it is damaged, or of a model that this one has replaced.
        """
        state = self.folder.load_checkpoint()
        if state is None:
            return False
        own = self.objective.student.state_dict()
        if _shapes(own) != _shapes(state["student"]):
            raise DataError(
                f"{self.folder.checkpoint} is of another model than the one that the training "
                "begins with, as after an update, and cannot go on. Start again."
            )
        self.objective.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.seconds = state["steps"], state["seconds"]
        self.validated = state["validated"]
        self.best, self.first = state["best"], state["first"]
        if self.fabric.is_global_zero:
            self.folder.cut_logs(self.steps)
        return True

    def _save_if_possible(self) -> None:
        if self._half_done:  # only the checkpoint before this step can continue
            return
        with suppress(Exception):  # the error that ended the run is reported
            self.save()

    def _explained(self, reason: str) -> str:
        kept = (
            f"the best model so far (step {self.best['step']:.0f}) is in "
            f"{self.folder.best}"
            if self.best.get("step") and self.folder.best is not None
            else "no better model than the start was found yet"
        )
        return f"{reason} at step {self.steps}; {kept}."

    def _agreed(self, stop: bool) -> bool:
        """Return process 0's decision, in all processes."""
        if self.fabric.world_size > 1:
            return bool(self.fabric.broadcast(stop))
        return stop

    def _row(self, figures: Mapping[str, float]) -> dict[str, float]:
        return {"step": self.steps, "seconds": self.seconds, **figures}


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}
