"""One sentence about a poor auto-segmentation, with the step that helps. No Qt.

The limits were chosen with the bundled model: there is no advice on the validation images of its
training sets, and some on noise, photographs, and discs (6 to 850 pixels of the frame) that it
finds poorly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.frame import FRAME
from napari_tinysam.ui.state.rectangles import can_be_finer

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.everything import Proposals
    from napari_tinysam.everything.shapes import Shapes

#: Objects that cover less than this share of the region, with a lower mean score, count as little.
_LITTLE_COVERAGE, _SURE = 0.001, 0.7

#: Discs below this diameter, in pixels of the frame, are found poorly; those of 14 well.
_SMALL = 12.0

#: Mean score of all candidates: at least 0.63 on images that are segmented well, those with small
#: objects included; 0.43 to 0.58 on photographs.
_UNSURE_SMALL, _UNSURE = 0.65, 0.6

#: With at least this many candidates, the share that is kept is informative: at least 0.63 on
#: images that are segmented well.
_ENOUGH, _FEW_KEPT = 15, 0.6

#: Objects above half of the frame come in pieces, or with their surroundings.
_LARGE, _SURE_LARGE = 550.0, 0.8

_ANOTHER = "choose another model under Settings, or fine-tune one"


@dataclass(frozen=True, eq=False)
class AutoOutcome:
    """Figures of a finished auto-segmentation.

    Parameters
    ----------
    scores, diameters : ndarray of float, (N,)
        Of all candidates: 0–1, and pixels of the model's frame.
    kept : ndarray of int
        Numbers of those shown with the model's own settings.
    coverage : float
        0–1, share of the region that they cover.
    side : int
        Longest side of the region, in pixels of the image.
    frame : int
        Longest side of what the model sees, in its pixels.
    """

    scores: npt.NDArray[np.float64]
    diameters: npt.NDArray[np.float64]
    kept: npt.NDArray[np.intp]
    coverage: float
    side: int
    frame: int = FRAME

    @classmethod
    def of(
        cls,
        proposals: Proposals,
        shapes: Shapes,
        pixels: int,
        side: int,
        frame: int,
    ) -> AutoOutcome:
        """Compute the figures.

        Parameters
        ----------
        proposals : Proposals
        shapes : Shapes
            What is shown of them.
        pixels : int
            Of the region.
        side, frame : int
            As in `AutoOutcome`.
        """
        diameters = 2 * np.sqrt(proposals.areas / np.pi) * frame / side
        covered = sum(shapes.of(number).area for number in shapes.numbers)
        kept = np.asarray(shapes.numbers, np.intp)
        coverage = min(covered / max(1, pixels), 1.0)
        return cls(proposals.scores, diameters, kept, coverage, side, frame)


def advice(outcome: AutoOutcome) -> str | None:
    """Say what may have gone wrong and what helps; None where nothing looks wrong.

    Parameters
    ----------
    outcome : AutoOutcome
    """
    scores, kept = outcome.scores, outcome.kept
    finer = can_be_finer(outcome.side)
    sure = float(scores[kept].mean()) if len(kept) else 0.0
    if not len(kept) or (outcome.coverage < _LITTLE_COVERAGE and sure < _SURE):
        return _little(outcome, finer=finer)
    if np.median(outcome.diameters) < _SMALL and scores.mean() < _UNSURE_SMALL:
        if finer:
            return "These objects are small: zoom in, choose “View” and start again."
        return f"These objects are too small for this model: {_ANOTHER}."
    if outcome.diameters[kept].max() > _LARGE and sure < _SURE_LARGE:
        return (
            "Some objects are large and may come in pieces: draw a box around each "
            "(Shift+drag)."
        )
    share = len(kept) / len(scores)
    if len(scores) >= _ENOUGH and scores.mean() < _UNSURE and share < _FEW_KEPT:
        return f"The model is unsure of most objects here: {_ANOTHER}."
    return None


def _little(outcome: AutoOutcome, *, finer: bool) -> str:
    if outcome.side > outcome.frame and finer:
        return (
            "Found little; a plane this large hides small objects: zoom in, choose “View” and "
            "start again."
        )
    if len(outcome.scores) >= _ENOUGH:
        return (
            f"Found little that the model is sure of: lower the confidence, {_ANOTHER}."
        )
    if finer:
        return (
            "Found little: zoom in and choose “View” if the objects are small, else "
            f"{_ANOTHER}."
        )
    return f"Found little: {_ANOTHER}."
