"""What is said about the models before and after an adaptation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinysam_training.evaluation.before_after import ROWS
from tinysam_training.evaluation.report import means

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinysam_training.evaluation.evaluate import Evaluation

#: Figures by which the user knows a model, and their names. Their mean decides.
FIGURES = {
    "box_iou": "box",
    "click1_iou": "one click",
    "msa": "found by itself (mSA)",
}

#: A mean of the deciding figures that is lower by more than this is worse, not chance.
_WORSE = 0.01

#: A figure that is lower by more than this is named.
_FELL = 0.02

#: Before and after; None where it was not measured.
Pair = tuple[float | None, float | None]


@dataclass(frozen=True)
class Verdict:
    """How the models compare on held-out images.

    Attributes
    ----------
    kind : {"better", "worse", "none"}
        "none": no moment of the run was better than the start.
    figures : dict
        The deciding figures by their names.
    table : dict
        All figures by their names.
    remark : str
        What is to be said beside the figures, in sentences.
    """

    kind: str
    figures: dict[str, Pair]
    table: dict[str, Pair]
    remark: str = ""

    @property
    def text(self) -> str:
        """Everything in sentences."""
        shown = []
        for name, (before, after) in self.figures.items():
            if before is not None and after is not None:
                shown.append(f"{name} {before:.2f} → {after:.2f}")
            elif before is not None:
                shown.append(f"{name} {before:.2f}")
        if not shown:
            return self.remark
        text = ", ".join(shown)
        if self.kind == "none":
            return f"{self.remark} Its figures on held-out images: {text}."
        return f"On held-out images: {text}. {self.remark}".strip()


def compared(before: Evaluation, after: Evaluation) -> Verdict:
    """Judge the model after by the one before."""
    first, second = means(before.results), means(after.results)
    pairs: dict[str, Pair] = {n: (first.get(n), second.get(n)) for n in ROWS}
    figures = _named(pairs, FIGURES)
    known = {
        name: after - before
        for name, (before, after) in figures.items()
        if before is not None and after is not None
    }
    worse = bool(known) and float(np.mean(list(known.values()))) < -_WORSE
    fell = [name for name, change in known.items() if change < -_FELL]
    named = f" ({_listed(fell)})" if fell else ""
    remark = f"Worse than before: {_listed(fell)}." if fell else ""
    if worse:
        remark = f"The result is worse than before{named}, so the model as it is stays."
    return Verdict("worse" if worse else "better", figures, _named(pairs, ROWS), remark)


def nothing_better(before: Evaluation, hint: str) -> Verdict:
    """Tell that the start stays, and what it is."""
    found = means(before.results)
    pairs: dict[str, Pair] = {name: (found.get(name), None) for name in ROWS}
    return Verdict(
        "none",
        _named(pairs, FIGURES),
        _named(pairs, ROWS),
        f"Nothing better than the model as it is was found, so it stays. {hint}",
    )


def _named(pairs: Mapping[str, Pair], names: Mapping[str, str]) -> dict[str, Pair]:
    """Return the figures that were measured, by their names for people."""
    return {
        name: pairs[key]
        for key, name in names.items()
        if pairs.get(key, (None, None))[0] is not None
    }


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if names[1:] else names[0]
