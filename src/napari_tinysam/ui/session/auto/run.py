"""One search for all objects of a plane: where it looks, what it found, what it proposes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_tinysam.frame import FRAME
from napari_tinysam.inference.looks import Look, is_large
from napari_tinysam.ui.session.auto.advice import AutoOutcome, advice
from napari_tinysam.ui.state.coloring import choose_colors
from napari_tinysam.ui.state.layer_plane import embed_looks
from napari_tinysam.ui.state.painted import FoundObjects, KeptPixels
from napari_tinysam.ui.state.proposed import Proposed
from napari_tinysam.ui.state.rectangles import embed_part, finer_part
from napari_tinysam.ui.state.region import FreePixels, Region, region_of

if TYPE_CHECKING:
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
    from napari_tinysam.ui.state.planes import Contrast, Plane


@dataclass(frozen=True, eq=False)
class EmbeddedPlane:
    """A plane, and its embedding unless it is seen in parts: all that is needed to segment it."""

    image: Image
    version: int
    plane: Plane
    predictor: Predictor
    embedding: Embedding | None


class Run:
    """A running search.

    Parameters
    ----------
    scene : EmbeddedPlane
    where : FreePixels
        Pixels to look at: the region less what is labelled.
    whole : bool
        Whether the region is the whole plane: then it is not read again, larger.
    contrast : Contrast
        For parts that are read again.

    Attributes
    ----------
    found : FoundObjects
        What is shown so far.
    stopped : bool
        Whether the user stopped the search.
    """

    def __init__(
        self,
        scene: EmbeddedPlane,
        where: FreePixels,
        *,
        whole: bool,
        contrast: Contrast,
    ) -> None:
        self.scene = scene
        self._where = where
        self._segmentation, self._part = _segmentation(scene, where, whole, contrast)
        self._steps: Iterator[Progress] = iter(self._segmentation)
        self.found = FoundObjects(scene.plane.shape)
        self.stopped = False

    def step(self) -> Progress | None:
        """Continue the search; None at the end. For the inference thread."""
        return next(self._steps, None)

    def add(self, step: Progress) -> None:
        """Show what a step found on free pixels; `result` decides anew in the end."""
        if step.afresh:
            self.found = FoundObjects(self.scene.plane.shape)
        for proposal in step.new:
            self.found.add(proposal.mask)

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
            kept=KeptPixels(proposals) if is_large(proposals.shape) else None,
        )

    @property
    def _side(self) -> int:
        """Longest side of the searched part, or of a tile, in pixels of the image."""
        from napari_tinysam.everything import TiledSegmentation

        if isinstance(self._segmentation, TiledSegmentation):
            return self._segmentation.side  # which is chosen in the search
        return max(self._part.size)

    def _advice(self, proposals: Proposals, settings: LabelSettings) -> str:
        """Say what helps after a poor result; "" where nothing looks wrong.

        No advice after a search that the user stopped, or in a partly labelled region: the missing
        objects may be there.
        """
        from napari_tinysam.everything.choosing import shapes_of

        if self.stopped or self._where.met_labels:
            return ""
        scene, part = self.scene, self._where.part
        frame = FRAME if scene.embedding is None else scene.embedding.frame_size
        shapes = shapes_of(proposals, settings)
        pixels = part.size[0] * part.size[1]
        outcome = AutoOutcome.of(proposals, shapes, pixels, self._side, frame)
        return advice(outcome) or ""


def _segmentation(
    scene: EmbeddedPlane, where: FreePixels, whole: bool, contrast: Contrast
) -> tuple[Segmentation | PartSegmentation | TiledSegmentation, Look]:
    """Search the plane as it was read, or read the region by itself where that shows more.

    A large region is read in tiles, those on the screen first.

    Returns
    -------
    segmentation : Segmentation, PartSegmentation or TiledSegmentation
    part : Look
        What is searched.
    """
    from napari_tinysam.everything import (
        PartSegmentation,
        Segmentation,
        TiledSegmentation,
        tiles,
    )

    image, plane, predictor = scene.image, scene.plane, scene.predictor
    if is_large(where.part.size):
        tiled = TiledSegmentation(
            predictor,
            embed_looks(image, plane, contrast, predictor),
            tiles(plane.shape),
            choose=True,
            where=where.within,
            part=where.part,
            first=region_of(Region.VIEW, image, plane, None),
        )
        return tiled, where.part
    part = None if whole else finer_part(where.part, plane.shape)
    if part is None and scene.embedding is not None:
        all_of_it = Look.whole(plane.shape)
        free = where.within(all_of_it)
        return Segmentation(predictor, scene.embedding, where=free), all_of_it
    part = part or where.part  # of a plane that is never read whole
    embed = embed_part(image, plane, contrast, part)
    return (
        PartSegmentation(predictor, embed, part, plane.shape, where.within(part)),
        part,
    )
