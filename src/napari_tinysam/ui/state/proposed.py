"""The proposals of one plane, as a value: undo only has to restore it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.ui.state.coloring import LIKENESS, PALETTE, likeness_colors

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.everything import LabelSettings, Proposals
    from napari_tinysam.everything.shapes import Shapes, TakenPixels
    from napari_tinysam.ui.state.classes import ObjectClass
    from napari_tinysam.ui.state.painted import KeptPixels


@dataclass(frozen=True, eq=False)
class Ranking:
    """How alike proposals are to an object, or to all objects of a class.

    Parameters
    ----------
    likeness : ndarray of float, (N,)
        Of all proposals, 0–1.
    least : float
        Those that are less alike are not shown.
    example : str
        What they are compared with, in words: "object 5".
    kind : ObjectClass, optional
        The class of the object; accepted proposals get it.
    """

    likeness: npt.NDArray[np.floating]
    least: float
    example: str
    kind: ObjectClass | None = None


@dataclass(frozen=True, eq=False)
class Classed:
    """The classes of proposals: each has that of the examples it is most alike to.

    Parameters
    ----------
    classes : tuple of ObjectClass
        Those that have examples.
    kinds : ndarray of int, (N,)
        Of all proposals, which of these.
    only : ObjectClass, optional
        The class that is shown; None: all of them.
    """

    classes: tuple[ObjectClass, ...]
    kinds: npt.NDArray[np.intp]
    only: ObjectClass | None = None

    def of(self, number: int) -> ObjectClass:
        """Return the class of a proposal."""
        return self.classes[int(self.kinds[number])]


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
    ranking : Ranking, optional
        How alike they are to what the user asked about.
    classed : Classed, optional
        Their classes, without such a question.
    """

    proposals: Proposals
    settings: LabelSettings
    colors: npt.NDArray[np.intp]
    gone: frozenset[int] = frozenset()
    version: int = 0
    advice: str = ""
    kept: KeptPixels | None = None
    ranking: Ranking | None = None
    classed: Classed | None = None

    def with_settings(self, settings: LabelSettings) -> Proposed:
        """Return the same proposals with another filter."""
        return replace(self, settings=settings)

    def without(self, numbers: frozenset[int]) -> Proposed:
        """Return the rest after some were accepted or rejected."""
        return replace(self, gone=self.gone | numbers)

    def class_of(self, number: int) -> ObjectClass | None:
        """Return the class that a proposal gets when it is accepted."""
        if self.ranking is not None:
            return self.ranking.kind
        return None if self.classed is None else self.classed.of(number)

    def with_least_likeness(self, least: float) -> Proposed:
        """Return the same proposals, only those at least this alike shown."""
        if self.ranking is None:
            return self
        return replace(self, ranking=replace(self.ranking, least=least))

    @property
    def painting(self) -> tuple[npt.NDArray[np.intp], tuple[str, ...]]:
        """The colour of each proposal, (N,), and the colours that these are."""
        if self.ranking is not None:
            return likeness_colors(self.ranking.likeness), LIKENESS
        if self.classed is not None:
            classed = self.classed
            return classed.kinds, tuple(each.colour for each in classed.classes)
        return self.colors, PALETTE

    @property
    def wanted(self) -> npt.NDArray[np.bool_] | None:
        """Which may be shown, (N,), for their likeness or class; None: all."""
        if self.ranking is not None:
            return np.asarray(self.ranking.likeness >= self.ranking.least)
        if self.classed is not None and self.classed.only is not None:
            only = self.classed.classes.index(self.classed.only)
            return np.asarray(self.classed.kinds == only)
        return None

    def shapes(self, taken: TakenPixels | None) -> Shapes:
        """Decide which are shown, and their pixels; none that are taken."""
        from napari_tinysam.everything.choosing import shapes_of

        return shapes_of(
            self.proposals, self.settings, taken, self.gone, among=self.wanted
        )
