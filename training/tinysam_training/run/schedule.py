"""Learning rate and stage along the budget of a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinysam_training.recipe import OptimizerSettings, Stage


def rate_at(progress: float, settings: OptimizerSettings) -> float:
    """Learning rate at a share of the budget: linear warm-up, then a cosine to the floor.

    Parameters
    ----------
    progress : float
        0–1.
    settings : OptimizerSettings
    """
    if progress < settings.warmup:
        return settings.learning_rate * max(progress / settings.warmup, 0.01)
    along = min((progress - settings.warmup) / max(1 - settings.warmup, 1e-9), 1.0)
    cosine = 0.5 * (1 + math.cos(math.pi * along))
    return settings.learning_rate * (settings.floor + (1 - settings.floor) * cosine)


def stage_at(progress: float, stages: tuple[Stage, ...]) -> int:
    """Return the stage at a share of the budget."""
    total = sum(stage.share for stage in stages)
    reached = 0.0
    for number, stage in enumerate(stages):
        reached += stage.share / total
        if progress < reached - 1e-12:
            return number
    return len(stages) - 1
