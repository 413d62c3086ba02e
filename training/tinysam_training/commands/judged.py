"""A run that exports its best model: shared by training, distillation and fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tinysam import checkpoints
from tinysam_training.run.exporting import whole_model
from tinysam_training.run.loop import Training

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lightning_fabric import Fabric

    from napari_tinysam.model import SegmentAnything
    from tinysam_training.data.frame_batches import FrameBatches
    from tinysam_training.data.window_batches import WindowBatches
    from tinysam_training.learning.objective import Objective
    from tinysam_training.recipe import Recipe
    from tinysam_training.run.folder import RunFolder


def judged_training(
    objective: Objective,
    batches: WindowBatches | FrameBatches,
    recipe: Recipe,
    folder: RunFolder,
    fabric: Fabric,
    *,
    judge: Callable[[SegmentAnything], Mapping[str, float]] | None,
    notes: Mapping[str, str],
    clock: Callable[[], float],
) -> Training:
    """Make a training that writes the best model to the folder's `best` file.

    Parameters
    ----------
    objective, batches, recipe, folder, fabric, judge, clock
        As for `Training`.
    notes : mapping
        For the file's header, in addition to the judge's figures.
    """
    best = folder.best
    assert best is not None

    def export(model: SegmentAnything, figures: Mapping[str, float]) -> None:
        found = {name: f"{value:.4f}" for name, value in figures.items()}
        checkpoints.save(whole_model(model), best, {**notes, **found})

    return Training(
        objective,
        batches,
        recipe,
        folder,
        fabric,
        judge=judge,
        export=export,
        clock=clock,
    )
