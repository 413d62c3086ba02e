"""One search for all objects of a plane: where it looks, what it found, what it proposes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.frame import FRAME
from napari_tinysam.inference.looks import Look, is_large
from napari_tinysam.ui.session.advice import AutoOutcome, advice
from napari_tinysam.ui.state.coloring import PALETTE, choose_colors, value_of
from napari_tinysam.ui.state.layer_plane import embed_looks
from napari_tinysam.ui.state.proposed import Proposed
from napari_tinysam.ui.state.rectangles import embed_part, finer_part
from napari_tinysam.ui.state.region import Region, region_mask

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Image

    from napari_tinysam.everything import (
        LabelSettings,
        PartSegmentation,
        Progress,
        Proposals,
        Segmentation,
        TiledSegmentation,
    )
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.ui.state.planes import Contrast, Plane


@dataclass(frozen=True, eq=False)
class EmbeddedPlane:
    """A plane with its embedding: all that is needed to segment it."""

    image: Image
    version: int
    plane: Plane
    predictor: Predictor
    embedding: Embedding


class Run:
    """A running search.

    Parameters
    ----------
    scene : EmbeddedPlane
    where : ndarray of bool, (H, W)
        Pixels to look at: the region less what is labelled.
    free : bool
        Whether the region held no labels.
    whole : bool
        Whether the region is the whole plane: then it is not read again, larger.
    contrast : Contrast
        For parts that are read again.

    Attributes
    ----------
    shown : ndarray of int32, (H, W)
        Values of the proposals so far, see `napari_tinysam.ui.state.coloring`.
    found : int
        How many there are.
    stopped : bool
        Whether the user stopped the search.
    """

    def __init__(
        self,
        scene: EmbeddedPlane,
        where: npt.NDArray[np.bool_],
        *,
        free: bool,
        whole: bool,
        contrast: Contrast,
    ) -> None:
        self.scene = scene
        self._where = where
        self._free = free
        self._segmentation, self._side = _segmentation(scene, where, whole, contrast)
        self._steps: Iterator[Progress] = iter(self._segmentation)
        self._colors = np.zeros(len(PALETTE), np.int64)  # how often each is used
        self.shown = np.zeros(scene.plane.shape, np.int32)
        self.found = 0
        self.stopped = False

    def step(self) -> Progress | None:
        """Continue the search; None at the end. For the inference thread."""
        return next(self._steps, None)

    def paint(self, step: Progress) -> None:
        """Draw what a step found on free pixels; `result` decides anew in the end."""
        for proposal in step.new:
            region = self.shown[proposal.mask.slices]
            free = proposal.mask.mask & (region == 0)
            # Mostly there already: it is another mask of the same object.
            if 2 * int(np.count_nonzero(free)) > proposal.area:
                region[free] = value_of(self.found, self._next_color(proposal.mask))
                self.found += 1

    def outcome(self) -> tuple[Proposals, LabelSettings]:
        """Return all masks, and the model's settings for them. For the inference thread."""
        return self._segmentation.proposals, self._segmentation.settings

    def result(self) -> Proposed:
        """Compare all masks with one another. For the inference thread."""
        proposals, settings = self.outcome()
        # Choosing colours computes which masks overlap, so that filtering takes no time later.
        return Proposed(
            proposals,
            settings,
            choose_colors(proposals),
            advice=self._advice(proposals, settings),
            version=self.scene.version,
        )

    def _next_color(self, mask: BoxedMask) -> int:
        """Choose the colour that is rarest around a mask; among equals, the rarest of all."""
        ys, xs = mask.slices
        around = self.shown[
            max(ys.start - 2, 0) : ys.stop + 2, max(xs.start - 2, 0) : xs.stop + 2
        ]
        seen = np.bincount(
            (around[around > 0] - 1) % len(PALETTE), minlength=len(PALETTE)
        )
        color = int(np.lexsort((self._colors, seen))[0])
        self._colors[color] += 1
        return color

    def _advice(self, proposals: Proposals, settings: LabelSettings) -> str:
        """Say what helps after a poor result; "" where nothing looks wrong.

        No advice after a search that the user stopped, or in a partly labelled region: the missing
        objects may be there.
        """
        from napari_tinysam.everything import label_proposals

        if self.stopped or not self._free:
            return ""
        shown = label_proposals(proposals, settings)
        frame = self.scene.embedding.frame_size
        outcome = AutoOutcome.of(
            proposals, shown.labels, shown.numbers, self._where, self._side, frame
        )
        return advice(outcome) or ""


def _segmentation(
    scene: EmbeddedPlane, where: npt.NDArray[np.bool_], whole: bool, contrast: Contrast
) -> tuple[Segmentation | PartSegmentation | TiledSegmentation, int]:
    """Search the plane as it was read, or read the region by itself where that shows more.

    A large region is read in tiles, those on the screen first.

    Returns
    -------
    segmentation : Segmentation, PartSegmentation or TiledSegmentation
    side : int
        The longest side of the searched part, or of a tile, in pixels of the image.
    """
    from napari_tinysam.everything import (
        PartSegmentation,
        Segmentation,
        TiledSegmentation,
        tiles,
    )

    extent = _extent(where)
    if is_large(extent.size):
        image, plane = scene.image, scene.plane
        view = region_mask(Region.VIEW, image, plane, None)
        tiled = TiledSegmentation(
            scene.predictor,
            embed_looks(image, plane, contrast, scene.predictor),
            tiles(plane.shape),
            where=lambda look: where[look.rows, look.columns],
            first=None if view is None else _extent(view),
        )
        return tiled, FRAME
    part = None if whole else finer_part(where)
    if part is None:
        all_of_it = Segmentation(scene.predictor, scene.embedding, where=where)
        return all_of_it, max(where.shape)
    embed = embed_part(scene.image, scene.plane, contrast, *part)
    side = max(each.stop - each.start for each in part)
    return PartSegmentation(scene.predictor, embed, *part, where), side


def _extent(where: npt.NDArray[np.bool_]) -> Look:
    """Return the smallest rectangle that holds a region, (H, W) bool; not empty."""
    rows, columns = (np.flatnonzero(where.any(axis=axis)) for axis in (1, 0))
    return Look(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
