"""One sentence where auto-segmentation went poorly, with the step that helps. No Qt.

Its limits were chosen with the bundled model on the validation images of the sets that it was
trained for, where it is silent, and on noise, photographs, and discs of 6 to 850 pixels of the
model's frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.ui.state.parts import can_be_finer

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.everything import Proposals

#: Objects that cover less than this share of what was looked at, and are not sure, are little.
_LITTLE_COVERAGE, _SURE = 0.001, 0.7

#: Below this diameter, in pixels of the frame, discs are found poorly; at 14 well.
_SMALL = 12.0

#: Mean score of all candidates: 0.63 and more on images that are segmented well, also of such small
#: objects as are; 0.43 to 0.58 on photographs.
_UNSURE_SMALL, _UNSURE = 0.65, 0.6

#: So many candidates say something about an image; where less than this share of them is kept, most
#: of what the model sees is nothing to it. On images that are segmented well, 0.63 and more are.
_ENOUGH, _FEW_KEPT = 15, 0.6

#: Above half of the frame objects come in pieces, or with what is around them.
_LARGE, _SURE_LARGE = 550.0, 0.8

_ANOTHER = "choose another model under Settings or fine-tune one"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a finished auto-segmentation knows.

    Parameters
    ----------
    scores, diameters : ndarray of float, (N,)
        Of all candidates: 0–1, and pixels of the model's frame.
    kept : ndarray of int
        Which of them are shown with the model's own settings.
    coverage : float
        0–1, how much of the region the kept ones cover.
    side : int
        Longest side of what the model looked at, in pixels of the image.
    frame : int
        That of what it sees.
    """

    scores: npt.NDArray[np.float64]
    diameters: npt.NDArray[np.float64]
    kept: npt.NDArray[np.intp]
    coverage: float
    side: int
    frame: int = 1024

    @classmethod
    def of(
        cls,
        proposals: Proposals,
        labels: npt.NDArray[np.int32],
        numbers: list[int],
        where: npt.NDArray[np.bool_],
        side: int,
        frame: int,
    ) -> Outcome:
        """Collect it.

        Parameters
        ----------
        proposals : Proposals
        labels, numbers
            Which are shown: of a `Labelling`.
        where : ndarray of bool, (H, W)
            The region.
        side, frame : int
            As in `Outcome`.
        """
        diameters = 2 * np.sqrt(proposals.areas / np.pi) * frame / side
        covered = np.count_nonzero((labels > 0) & where)
        coverage = covered / max(1, int(np.count_nonzero(where)))
        kept = np.asarray(numbers, np.intp)
        return cls(proposals.scores, diameters, kept, coverage, side, frame)


def advice(outcome: Outcome) -> str | None:
    """Say what may have gone wrong, and what helps; None where nothing looks wrong.

    Parameters
    ----------
    outcome : Outcome
    """
    scores, kept = outcome.scores, outcome.kept
    finer = can_be_finer(outcome.side)
    sure = float(scores[kept].mean()) if len(kept) else 0.0
    if not len(kept) or (outcome.coverage < _LITTLE_COVERAGE and sure < _SURE):
        return _little(outcome, finer=finer)
    if np.median(outcome.diameters) < _SMALL and scores.mean() < _UNSURE_SMALL:
        if finer:
            return (
                "The objects are small here: zoom in, choose “view”, and start again."
            )
        return f"The objects are too small for this model: {_ANOTHER}."
    if outcome.diameters[kept].max() > _LARGE and sure < _SURE_LARGE:
        return (
            "Some objects are large here, and may come in pieces: draw a box around each "
            "(Shift+drag)."
        )
    share = len(kept) / len(scores)
    if len(scores) >= _ENOUGH and scores.mean() < _UNSURE and share < _FEW_KEPT:
        return f"The model is unsure of most of what it sees here: {_ANOTHER}."
    return None


def _little(outcome: Outcome, *, finer: bool) -> str:
    if outcome.side > outcome.frame and finer:
        return (
            "Found little here; small objects are lost in so large a plane: zoom in, choose "
            "“view”, and start again."
        )
    if len(outcome.scores) >= _ENOUGH:
        return (
            "Found little that the model is sure of: lower the confidence, or "
            f"{_ANOTHER}."
        )
    if finer:
        return (
            "Found little here: zoom in and choose “view” if objects are small, else "
            f"{_ANOTHER}."
        )
    return f"Found little here: {_ANOTHER}."
