"""The proposals of one plane, as a value: undo only has to restore it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_tinysam.everything import LabelSettings, Proposals
    from napari_tinysam.everything.shapes import Shapes, TakenPixels
    from napari_tinysam.ui.state.painted import KeptPixels


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
    kept : KeptPixels, optional
        Of the proposals of a large plane: coarse windows of it are painted quickly.
    """

    proposals: Proposals
    settings: LabelSettings
    colors: npt.NDArray[np.intp]
    gone: frozenset[int] = frozenset()
    version: int = 0
    advice: str = ""
    kept: KeptPixels | None = None

    def with_settings(self, settings: LabelSettings) -> Proposed:
        """Return the same proposals with another filter."""
        return replace(self, settings=settings)

    def without(self, numbers: frozenset[int]) -> Proposed:
        """Return the rest after some were accepted or rejected."""
        return replace(self, gone=self.gone | numbers)

    def shapes(self, taken: TakenPixels | None) -> Shapes:
        """Decide which are shown, and their pixels; none that are taken."""
        from napari_tinysam.everything.choosing import shapes_of

        return shapes_of(self.proposals, self.settings, taken, self.gone)
