"""Which pixels each chosen proposal gets, found without a label image of the plane.

These are the rules 4 and 5 of `napari_tinysam.everything.choosing`. Drawn pixels never become free
again, so the pixels of a proposal depend on the proposals that share pixels with it, and on nothing
else of the plane: most have the pixels of their mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.masks import BoxedMask

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.everything.proposals import Proposals

#: Returns which pixels of a rectangle, rows and columns, belong to existing objects.
TakenAt = Callable[[tuple[slice, slice]], "npt.NDArray[np.bool_]"]

#: Eight neighbours are connected.
_AROUND = np.ones((3, 3), bool)


class TakenPixels:
    """Pixels of a plane that existing objects have, as far as proposals reach.

    Parameters
    ----------
    proposals : Proposals
    at : callable
        See `TakenAt`.

    Attributes
    ----------
    counts : ndarray of int64, (N,)
        Taken pixels of each proposal's mask.
    """

    def __init__(self, proposals: Proposals, at: TakenAt) -> None:
        self.at = at
        self.counts = np.zeros(len(proposals), np.int64)
        self._proposals = proposals
        self._count(range(len(proposals)))

    def changed(self, rows: slice, columns: slice) -> None:
        """Count again where objects were changed."""
        x0, y0, x1, y1 = self._proposals.boxes.T
        near = (y0 < rows.stop) & (y1 >= rows.start)
        near &= (x0 < columns.stop) & (x1 >= columns.start)
        self._count(np.flatnonzero(near).tolist())

    def _count(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            mask = self._proposals[number].mask
            taken = self.at(mask.slices)
            self.counts[number] = (
                np.count_nonzero(taken & mask.mask) if taken.any() else 0
            )


class Shapes:
    """The chosen proposals that are drawn, and the pixels of each.

    Parameters
    ----------
    proposals : Proposals
    chosen : sequence of int
        Numbers of proposals, the best first.
    overlap : float
        0–1, the share of a proposal that others may cover before it is refused.
    connected : bool
        Whether only the largest connected piece of an object is kept.
    taken : TakenPixels, optional
        Of the same proposals.

    Attributes
    ----------
    numbers : list of int
        The proposals that are drawn, the best first.
    meets_taken : ndarray of bool, (N,)
        Which of all proposals have pixels that are taken.
    """

    def __init__(
        self,
        proposals: Proposals,
        chosen: list[int],
        *,
        overlap: float,
        connected: bool,
        taken: TakenPixels | None = None,
    ) -> None:
        self.proposals = proposals
        self._connected = connected
        self._taken = taken
        self._cut: dict[int, BoxedMask] = {}  # shapes that are not whole masks
        areas, shared = proposals.areas, proposals.shared
        left = areas if taken is None else areas - taken.counts
        self.is_drawn = np.zeros(len(proposals), bool)
        self.is_drawn[chosen] = True
        covered = self._shared_pixels(shared.worse)
        least = np.maximum((1 - overlap) * areas, 1)
        # All others have enough pixels even if their neighbours take all that they share.
        for number in np.flatnonzero(self.is_drawn & (left - covered < least)).tolist():
            got = np.count_nonzero(self._beside_better(number))
            self.is_drawn[number] = got >= least[number]
        lost = self._shared_pixels(shared.worse) + self._shared_pixels(shared.better)
        self.meets_taken = (
            np.zeros(len(proposals), bool) if taken is None else taken.counts > 0
        )
        self._touched = (lost > 0) | self.meets_taken
        shown = self.is_drawn.copy()
        for number in np.flatnonzero(shown & (left <= lost)).tolist():
            shown[number] = self._own(number).any()
        self.numbers: list[int] = np.flatnonzero(shown).tolist()

    def of(self, number: int) -> BoxedMask:
        """Return the pixels of a proposal that is drawn, in its mask's rectangle.

        Different proposals have different pixels.
        """
        proposal = self.proposals[number]
        whole = not self._touched[number]
        if whole and (not self._connected or proposal.in_one_piece):
            return proposal.mask
        if number not in self._cut:
            own = self._own(number)
            if self._connected:
                own = _largest_piece(own)
            mask = proposal.mask
            self._cut[number] = BoxedMask(own, mask.y0, mask.x0, mask.shape)
        return self._cut[number]

    def at(self, y: int, x: int) -> int | None:
        """Find the object that has a pixel; None for none."""
        x0, y0, x1, y1 = self.proposals.boxes.T
        near = self.is_drawn & (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)
        for number in np.flatnonzero(near).tolist():
            shape = self.of(number)
            if shape.mask[y - shape.y0, x - shape.x0]:
                return int(number)
        return None

    def labels(self) -> npt.NDArray[np.int32]:
        """Draw them: label k is ``numbers[k - 1]``; (H, W)."""
        labels = np.zeros(self.proposals.shape, np.int32)
        for label, number in enumerate(self.numbers, start=1):
            shape = self.of(number)
            labels[shape.slices][shape.mask] = label
        return labels

    def _shared_pixels(self, of: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """(N,) sums of the pixels of pairs that are both drawn, for one of the two."""
        shared = self.proposals.shared
        both = self.is_drawn[shared.better] & self.is_drawn[shared.worse]
        count = len(self.proposals)
        found = np.bincount(of[both], shared.pixels[both], count)
        return found.astype(np.float64)

    def _beside_better(self, number: int) -> npt.NDArray[np.bool_]:
        """Return what a proposal gets when it is drawn, after the better ones."""
        proposal = self.proposals[number]
        mask, territory = proposal.mask, proposal.territory
        own = mask.mask.copy()
        for other in self._drawn(self.proposals.shared.better_than(number)):
            own &= ~self.proposals[other].mask.within(mask.slices)
        if territory is not None:
            own |= mask.mask & territory.within(mask.slices)
        if self._taken is not None and self._taken.counts[number]:
            own &= ~self._taken.at(mask.slices)
        return own

    def _own(self, number: int) -> npt.NDArray[np.bool_]:
        """Return what a proposal has in the end: worse ones take their territory from it."""
        own = self._beside_better(number)
        slices = self.proposals[number].mask.slices
        for other in self._drawn(self.proposals.shared.worse_than(number)):
            territory = self.proposals[other].territory
            if territory is not None:
                mask = self.proposals[other].mask
                own &= ~(mask.within(slices) & territory.within(slices))
        return own

    def _drawn(self, numbers: npt.NDArray[np.intp]) -> list[int]:
        found: list[int] = numbers[self.is_drawn[numbers]].tolist()
        return found


def _largest_piece(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    from scipy import ndimage as ndi

    pieces, count = ndi.label(mask, _AROUND)
    if count < 2:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == sizes.argmax())
