"""Decide whether a model may replace another: set by set, on held-out images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from default_model.columns import in_columns
from tinysam_training.evaluation.report import means

if TYPE_CHECKING:
    from tinysam_training.evaluation.evaluate import Evaluation

#: Figures to compare: Auto-segment with each model's own thresholds, a box, one click.
FIGURES = {"msa": "mSA", "box_iou": "box", "click1_iou": "1 click"}

#: Largest loss of a set, in the mean of `FIGURES`.
TOLERANCE = 0.02

SetFigures = Mapping[str, Mapping[str, float | None]]


def set_figures(evaluation: Evaluation) -> dict[str, dict[str, float | None]]:
    """Return `FIGURES` of each set."""
    return {
        name: {key: found.get(key) for key in FIGURES}
        for name, results in evaluation.by_set.items()
        if (found := means(results))
    }


@dataclass(frozen=True)
class ModelComparison:
    """Figures of two models on the same sets.

    Attributes
    ----------
    bundled, new : mapping
        Values of `FIGURES` of each set, measured with the same code; None counts as 0.
    """

    bundled: SetFigures
    new: SetFigures

    @property
    def gains(self) -> dict[str, float]:
        """Gain of each set, in the mean of its figures."""
        return {n: _mean(self.new[n]) - _mean(self.bundled[n]) for n in self.new}

    @property
    def objections(self) -> list[str]:
        """Reasons against the new model; none if it is better."""
        gains = self.gains
        mean = float(np.mean(list(gains.values())))
        found = []
        if not mean > 0:
            found.append(f"the mean over sets is not better ({mean:+.4f})")
        found += [
            f"{name} loses {-gain:.3f}, more than {TOLERANCE}"
            for name, gain in gains.items()
            if gain < -TOLERANCE
        ]
        return found

    def table(self) -> str:
        """Write each figure before → after, and the gain of each set."""
        rows = [["", *FIGURES.values(), "gain"]]
        for name, gain in self.gains.items():
            old, new = self.bundled[name], self.new[name]
            cells = [f"{old.get(k) or 0:.3f} → {new.get(k) or 0:.3f}" for k in FIGURES]
            rows.append([name, *cells, f"{gain:+.3f}"])
        mean = float(np.mean(list(self.gains.values())))
        rows.append(["mean of sets", *[""] * len(FIGURES), f"{mean:+.3f}"])
        return in_columns(rows)


def _mean(figures: Mapping[str, float | None]) -> float:
    return float(np.mean([figures.get(name) or 0.0 for name in FIGURES]))
