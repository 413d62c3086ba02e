"""Everything mode in a part of an image, at a finer scale than the whole allows.

The model sees a frame of 1024 pixels. A plane of 3000 pixels is shrunk to it, which leaves 4 pixels
of an object of 12; a part of 1000 pixels keeps all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_tinysam.everything.proposals import Proposal, Proposals
from napari_tinysam.everything.segmentation import InSteps, Progress, Segmentation

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_tinysam.everything.choosing import LabelSettings
    from napari_tinysam.inference.looks import Look
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor


class PartSegmentation(InSteps):
    """A `Segmentation` of a rectangle, with masks in the whole image.

    Parameters
    ----------
    predictor : Predictor
    embed : callable
        ``embed(predictor)`` reads and encodes the rectangle, at the first step.
    part : Look
        The rectangle.
    shape : (int, int)
        Height and width of the whole image.
    where : ndarray of bool, (h, w)
        Where objects are looked for in the rectangle.
    """

    def __init__(
        self,
        predictor: Predictor,
        embed: Callable[[Predictor], Embedding],
        part: Look,
        shape: tuple[int, int],
        where: npt.NDArray[np.bool_],
    ) -> None:
        self._predictor = predictor
        self._embed = embed
        self._part, self._shape = part, shape
        self._where = where
        self._inner: Segmentation | None = None

    def __iter__(self) -> Iterator[Progress]:
        """Decode batch by batch; the caller may stop at any time."""
        embedding = self._embed(self._predictor)
        self._inner = Segmentation(self._predictor, embedding, where=self._where)
        for step in self._inner:
            yield replace(step, new=[self._placed(each) for each in step.new])

    @property
    def settings(self) -> LabelSettings:
        """The model's own settings for labels."""
        return self._begun.settings

    @property
    def proposals(self) -> Proposals:
        """The proposals found so far; a new object at each access."""
        placed = (self._placed(each) for each in self._begun.proposals)
        return Proposals(placed, self._shape)

    @property
    def _begun(self) -> Segmentation:
        if self._inner is None:
            raise RuntimeError("The segmentation has not begun.")
        return self._inner

    def _placed(self, proposal: Proposal) -> Proposal:
        return proposal.moved(self._part.y0, self._part.x0, self._shape)
