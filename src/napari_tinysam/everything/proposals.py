"""Proposals: masks that may become objects, and the pixels that they share.

All that a decision among them needs is computed once. Deciding again with other settings
(`labelling`) then takes milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_tinysam.boxes import meeting_boxes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from napari_tinysam.everything.candidates import Candidate
    from napari_tinysam.masks import BoxedMask

#: Source of a proposal: a point of the grid, a prompt at an instance, or the object head's own
#: segmentation.
Source = Literal["grid", "prompt", "head"]


@dataclass(frozen=True, eq=False)
class Proposal:
    """A mask that may become an object.

    Attributes
    ----------
    mask : BoxedMask
        At the size of the image, not empty.
    score : float
        0–1, IoU that the model predicts for it.
    point : (float, float)
        The prompt, x and y in pixels of the image; without a prompt the deepest pixel.
    source : str
        See `Source`.
    stability : float
        0–1, see `napari_tinysam.masks.stability_scores`; 1 if unknown.
    territory : BoxedMask, optional
        The instance that was prompted, as the object head sees it. Where two proposals meet, each
        gets the pixels in its own territory.
    """

    mask: BoxedMask
    score: float
    point: tuple[float, float]
    source: Source = "grid"
    stability: float = 1.0
    territory: BoxedMask | None = None

    @cached_property
    def area(self) -> int:
        """Pixels of the mask."""
        return self.mask.area

    @cached_property
    def in_one_piece(self) -> bool:
        """Whether all pixels of the mask are connected; eight neighbours are."""
        from scipy import ndimage as ndi

        return bool(ndi.label(self.mask.mask, np.ones((3, 3)))[1] < 2)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the mask's first and last pixels."""
        return self.mask.box

    def moved(self, y: int, x: int, shape: tuple[int, int]) -> Proposal:
        """Return it in an image of another shape, `y` rows down and `x` columns right."""
        own = self.territory
        territory = None if own is None else own.moved(y, x, shape)
        return replace(
            self,
            mask=self.mask.moved(y, x, shape),
            point=(self.point[0] + x, self.point[1] + y),
            territory=territory,
        )

    @classmethod
    def of_candidate(
        cls, candidate: Candidate, *, drop_specks: bool = True
    ) -> Proposal:
        """Make a proposal of a candidate, without its stray pixels unless told otherwise."""
        mask = candidate.mask
        return cls(
            mask.without_specks() if drop_specks else mask,
            candidate.score,
            candidate.point,
            "grid",
            candidate.stability,
        )


class Proposals:
    """Proposals of one image, the best first.

    Parameters
    ----------
    proposals : iterable of Proposal
        Empty ones are left out.
    shape : (int, int)
        Height and width of the image.
    """

    def __init__(
        self,
        proposals: Iterable[Proposal],
        shape: tuple[int, int],
    ) -> None:
        given = [proposal for proposal in proposals if proposal.area]
        order = np.argsort([-proposal.score for proposal in given], kind="stable")
        self.shape = shape
        self._members: tuple[Proposal, ...] = tuple(given[n] for n in order.tolist())
        self.scores = np.array([p.score for p in self._members], np.float64)
        self.areas = np.array([p.area for p in self._members], np.int64)
        self.boxes = np.array([p.box for p in self._members], np.int64).reshape(-1, 4)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._members)

    def __getitem__(self, number: int) -> Proposal:
        """Return one of them."""
        return self._members[number]

    def __iter__(self) -> Iterator[Proposal]:
        """Give them by number."""
        return iter(self._members)

    @cached_property
    def shared(self) -> Shared:
        """The pixels that pairs of them share."""
        return Shared.of(self._members, self.boxes)

    def at(self, y: float, x: float, among: Sequence[int]) -> int | None:
        """Find the smallest proposal that holds a pixel.

        Parameters
        ----------
        y, x : float
            In pixels of the image.
        among : sequence of int
            Numbers of the proposals to look at.

        Returns
        -------
        int or None
            Its number; None for none.
        """
        numbers = np.asarray(among, np.intp)
        row, column = int(np.floor(y)), int(np.floor(x))
        x0, y0, x1, y1 = self.boxes[numbers].T
        near = (x0 <= column) & (column <= x1) & (y0 <= row) & (row <= y1)
        holding = [
            int(number)
            for number in numbers[near]
            if self._members[number].mask.mask[
                row - self.boxes[number, 1], column - self.boxes[number, 0]
            ]
        ]
        return min(holding, key=lambda n: (self.areas[n], n), default=None)


@dataclass(frozen=True, eq=False)
class Shared:
    """Pairs of proposals that share pixels, the better one first.

    Attributes
    ----------
    better, worse : ndarray of int, (P,)
        Numbers of the two; sorted by `worse`.
    pixels : ndarray of int64, (P,)
        How many they share.
    """

    better: npt.NDArray[np.intp]
    worse: npt.NDArray[np.intp]
    pixels: npt.NDArray[np.int64]

    def better_than(self, number: int) -> npt.NDArray[np.intp]:
        """Numbers of the better proposals that share pixels with one."""
        first, last = np.searchsorted(self.worse, [number, number + 1])
        return self.better[first:last]

    def worse_than(self, number: int) -> npt.NDArray[np.intp]:
        """Numbers of the worse proposals that share pixels with one."""
        better, worse = self._by_better
        first, last = np.searchsorted(better, [number, number + 1])
        return worse[first:last]

    @cached_property
    def _by_better(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        order = np.argsort(self.better, kind="stable")
        return self.better[order], self.worse[order]

    @classmethod
    def of(cls, proposals: Sequence[Proposal], boxes: npt.NDArray[np.int64]) -> Shared:
        """Count the pixels of all pairs whose boxes meet."""
        better, worse = meeting_boxes(boxes)
        counts = (
            proposals[one].mask.shared_area(proposals[other].mask)
            for one, other in zip(better.tolist(), worse.tolist(), strict=True)
        )
        pixels = np.fromiter(counts, np.int64, len(better))
        shares = pixels > 0
        return cls(better[shares], worse[shares], pixels[shares])
