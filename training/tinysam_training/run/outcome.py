"""How a run ended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

#: Fewer steps than this change almost nothing: the learning rate only warms up.
TOO_FEW = 50


@dataclass(frozen=True)
class TrainingOutcome:
    """How a run ended.

    Attributes
    ----------
    steps : int
        Updates so far, over all parts of the run.
    seconds : float
        Time so far, over all parts of the run.
    finished : bool
        Whether the budget is used up; if not, the run can be resumed.
    best : dict
        Figures of the best validation, with ``score`` and ``step``; empty before the first.
    first : dict
        Figures before training.
    speed : float
        Steps per second, without validation; 0 where no step was taken.
    """

    steps: int
    seconds: float
    finished: bool
    best: Mapping[str, float]
    first: Mapping[str, float]
    speed: float = 0.0

    @property
    def shortness(self) -> str:
        """A warning if there were too few steps to learn anything; empty if there were enough."""
        if self.steps >= TOO_FEW or not self.speed:
            return ""
        # On a slow machine ten minutes may not be enough either.
        minutes = 10 * max(1, math.ceil(2 * TOO_FEW / (600 * self.speed)))
        steps = float(f"{60 * minutes * self.speed:.2g}")  # known to two digits
        what = "1 step is" if self.steps == 1 else f"{self.steps} steps are"
        return (
            f"{what} too few to learn anything; {minutes} minutes on this machine are about "
            f"{steps:,.0f}."
        )
