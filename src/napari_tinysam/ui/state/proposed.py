"""The proposals of one plane, as a value: undo only has to restore it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_tinysam.masks import BoxedMask

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_tinysam.everything import Labelling, LabelSettings, Proposals


@dataclass(frozen=True, eq=False)
class Proposed:
    """Proposals of a plane, and what the user decided about them.

    Parameters
    ----------
    proposals : Proposals
        All that were found, whatever the settings.
    settings : LabelSettings
        Which of them are shown.
    colors : ndarray of int, (N,)
        Of all proposals, see `choose_colors`.
    gone : frozenset of int
        Numbers of those that were accepted or rejected.
    version : int
        Of the image's data, as `ImageState` counts it; void for other data.
    advice : str
        Advice after a poor result; "" where nothing looks wrong.
    """

    proposals: Proposals
    settings: LabelSettings
    colors: npt.NDArray[np.intp]
    gone: frozenset[int] = frozenset()
    version: int = 0
    advice: str = ""

    def with_settings(self, settings: LabelSettings) -> Proposed:
        """Return the same proposals with another filter."""
        return replace(self, settings=settings)

    def without(self, numbers: frozenset[int]) -> Proposed:
        """Return the rest after some were accepted or rejected."""
        return replace(self, gone=self.gone | numbers)

    def labelling(self, taken: npt.NDArray[np.bool_] | None) -> Labelling:
        """Decide which are shown; nothing is drawn over pixels that are taken, (H, W) bool."""
        from napari_tinysam.everything import label_proposals

        return label_proposals(
            self.proposals, self.settings, taken=taken, without=self.gone
        )


def piece(labels: npt.NDArray[np.int32], label: int, mask: BoxedMask) -> BoxedMask:
    """Cut out the shown part of a proposal.

    Parameters
    ----------
    labels : ndarray of int32, (H, W)
        What is shown.
    label : int
        Of the proposal in it.
    mask : BoxedMask
        The whole proposal.
    """
    shown = labels[mask.slices] == label
    return BoxedMask(shown, mask.y0, mask.x0, mask.shape).trimmed()
