"""Auto-segmentation in the session: in the background, in steps, and all of it undoable.

Between two steps of the search the inference thread does what the user clicks meanwhile. What is
found is shown in the layer `auto_segmentation` and changed by settings alone; only what is accepted
is written into the user's labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_tinysam.errors import sentence
from napari_tinysam.labels import object_masks
from napari_tinysam.prompts import NEGATIVE
from napari_tinysam.ui.canvas.proposal_layer import ProposalLayer
from napari_tinysam.ui.session.advice import AutoOutcome, advice
from napari_tinysam.ui.session.embedder import Status, StatusKind
from napari_tinysam.ui.session.worker import Inference, Lane
from napari_tinysam.ui.state.coloring import PALETTE, choose_colors, painted, value_of
from napari_tinysam.ui.state.parts import embed_part, finer_part
from napari_tinysam.ui.state.proposed import Proposed, piece

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_tinysam.everything import (
        Labelling,
        LabelSettings,
        PartSegmentation,
        Progress,
        Proposals,
        Segmentation,
    )
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.ui.canvas.prompt_layers import Box
    from napari_tinysam.ui.session.label_edits import LabelEdit
    from napari_tinysam.ui.state.planes import Contrast, Plane


class Region(Enum):
    """Where objects are looked for."""

    PLANE = "plane"
    VIEW = "view"
    BOX = "box"


@dataclass(frozen=True, eq=False)
class EmbeddedPlane:
    """What is segmented: all that is needed of a plane whose embedding is there."""

    image: Image
    version: int
    channel_axis: int | None
    plane: Plane
    predictor: Predictor
    embedding: Embedding


class AutoHost(Protocol):
    """What auto-segmentation needs of the session."""

    image: Image | None
    contrast: Contrast

    @property
    def channel_axis(self) -> int | None:
        """Axis of the image's data with its channels."""
        ...

    @property
    def shown_plane(self) -> Plane | None:
        """The plane that the viewer shows."""
        ...

    def auto_scene(self) -> EmbeddedPlane | None:
        """Return the shown plane once it can be decoded; None after asking for it."""
        ...

    def last_box(self) -> Box | None:
        """Return the box that the user drew last."""
        ...

    def proposed(self) -> Proposed | None:
        """Return the proposals of the shown plane."""
        ...

    def set_proposed(
        self,
        image: Image,
        plane: Plane,
        after: Proposed | None,
        text: str,
        edit: LabelEdit | None = None,
    ) -> None:
        """Replace the proposals of a plane, as one step that can be taken back."""
        ...

    def labelled(self, plane: Plane) -> npt.NDArray[np.bool_] | None:
        """Return which pixels of a plane are labelled, (H, W); None without labels."""
        ...

    def paste(self, plane: Plane, masks: Sequence[BoxedMask]) -> LabelEdit | None:
        """Write accepted proposals of a plane into the user's labels, with new ids."""
        ...

    def show_auto_status(self, status: Status | None) -> None:
        """Show a status; None: none of auto-segmentation's any more."""
        ...

    def say(self, level: str, text: str) -> None:
        """Tell the user."""
        ...


@dataclass(eq=False)
class _Run:
    """A segmentation on its way."""

    scene: EmbeddedPlane
    segmentation: Segmentation | PartSegmentation
    steps: Any
    where: npt.NDArray[np.bool_]  # the region
    side: int  # the longest of what the model looks at, in pixels of the image
    free: bool  # whether nothing of the region was labelled
    shown: npt.NDArray[np.int32]  # values of proposals
    colors: npt.NDArray[np.int64]  # how often each is used
    found: int = 0
    stopped: bool = False

    def paint(self, step: Progress) -> None:
        """Draw what a step found where nothing is yet; in the end it is decided anew."""
        for proposal in step.new:
            region = self.shown[proposal.mask.slices]
            free = proposal.mask.mask & (region == 0)
            # Mostly there already: it is another mask of the same object.
            if 2 * int(np.count_nonzero(free)) > proposal.area:
                region[free] = value_of(self.found, self._next_color(proposal.mask))
                self.found += 1

    def _next_color(self, mask: BoxedMask) -> int:
        """Choose the colour that is seen least around a mask, of these the rarest."""
        ys, xs = mask.slices
        around = self.shown[
            max(ys.start - 2, 0) : ys.stop + 2, max(xs.start - 2, 0) : xs.stop + 2
        ]
        seen = np.bincount(
            (around[around > 0] - 1) % len(PALETTE), minlength=len(PALETTE)
        )
        color = int(np.lexsort((self.colors, seen))[0])
        self.colors[color] += 1
        return color

    def advice(self, proposals: Proposals, settings: LabelSettings) -> str:
        """Say what helps where it went poorly; "" where nothing looks wrong.

        Nothing is said of what the user stopped, or had labelled in part: what is missing then may
        be there.
        """
        from napari_tinysam.everything import label_proposals

        if self.stopped or not self.free:
            return ""
        shown = label_proposals(proposals, settings)
        frame = self.scene.embedding.frame_size
        outcome = AutoOutcome.of(
            proposals, shown.labels, shown.numbers, self.where, self.side, frame
        )
        return advice(outcome) or ""


class AutoSegmenter:
    """Runs auto-segmentation and shows what it proposes.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    inference : Inference
    host : AutoHost
    on_change : callable
        Called when anything that the dock shows has changed.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        inference: Inference,
        host: AutoHost,
        on_change: Callable[[], None],
    ) -> None:
        self._inference = inference
        self._host = host
        self._changed = on_change
        self._run: _Run | None = None
        self._waits = False  # for the embedding
        self._labelling: Labelling | None = None  # of the shown plane, as it is drawn
        self.layer = ProposalLayer(viewer)
        self.region = Region.PLANE
        self.picking = False

    # --- what the dock reads -------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether a segmentation is on its way or waits for the image."""
        return self._run is not None or self._waits

    @property
    def decoding(self) -> bool:
        """Whether a segmentation is on its way."""
        return self._run is not None

    @property
    def settings(self) -> LabelSettings | None:
        """Settings of the shown plane's proposals; None without proposals."""
        proposed = self._host.proposed()
        return None if proposed is None else proposed.settings

    @property
    def advice(self) -> str:
        """What helps where it went poorly on the shown plane; "" where nothing looks wrong."""
        proposed = self._host.proposed()
        return "" if proposed is None else proposed.advice

    @property
    def largest_area(self) -> float:
        """Pixels of the shown plane's largest proposal."""
        proposed = self._host.proposed()
        return (
            0.0 if proposed is None else float(proposed.proposals.areas.max(initial=0))
        )

    @property
    def count(self) -> int:
        """How many objects are proposed on the shown plane."""
        return 0 if self._labelling is None else len(self._labelling.numbers)

    @property
    def decided(self) -> bool:
        """Whether proposals of the shown plane were accepted or rejected."""
        proposed = self._host.proposed()
        return proposed is not None and bool(proposed.gone)

    # --- what the user does --------------------------------------------------------------

    def set_region(self, region: Region) -> None:
        """Choose where objects are looked for."""
        self.region = region
        self._changed()

    def run(self) -> None:
        """Segment the shown plane; what is labelled already is left alone."""
        if self._run is not None:
            self._host.say("info", "Auto-segmentation is running already.")
            return
        scene = self._host.auto_scene()
        if scene is None:
            self._waits = True
            self._changed()
            return
        self._waits = False
        looked = self._where(scene)
        if looked is None:
            return
        region, where = looked
        segmentation, side = self._segmentation(scene, where)
        self._run = _Run(
            scene,
            segmentation,
            iter(segmentation),
            where,
            side,
            int(np.count_nonzero(where)) == region,
            np.zeros(scene.plane.shape, np.int32),
            np.zeros(len(PALETTE), np.int64),
        )
        self._show_status("Looking for objects…", None)
        self._advance(self._run)

    def ready(self) -> None:
        """Begin what waited for the embedding."""
        if self._waits:
            self.run()

    def cancel(self) -> None:
        """Stop; what was found so far is kept."""
        self._waits = False
        if self._run is not None:
            self._run.stopped = True
        self._changed()

    def forget(self, image: Image) -> None:
        """Stop what is done with an image: it is gone, or has other data."""
        if self._host.image is image:
            self._waits = False
        if self._run is not None and self._run.scene.image is image:
            self._run = None
            self._inference.drop(Lane.AUTO)
            self._host.show_auto_status(None)
            self.layer.remove()

    def model_changed(self) -> None:
        """Stop, and drop what the old model found so far; what waits begins with the new one."""
        if self._run is None:
            return
        self._run = None
        self._inference.drop(Lane.AUTO)
        self._host.show_auto_status(None)
        self.show()
        self._host.say("info", "Auto-segmentation stopped: the model was changed.")

    def set_settings(self, **changes: float) -> None:
        """Filter the shown plane's proposals otherwise; nothing is decoded again.

        Parameters
        ----------
        **changes
            Fields of `LabelSettings`.
        """
        proposed = self._host.proposed()
        if proposed is None:
            return
        settings = replace(proposed.settings, **changes)  # type: ignore[arg-type]
        if settings != proposed.settings:
            self._decide(proposed.with_settings(settings), "filter")

    def set_picking(self, on: bool) -> None:
        """Let clicks accept or reject single proposals, or not."""
        self.picking = on
        self._changed()

    def accept_all(self) -> None:
        """Write all objects that are shown into the user's labels."""
        proposed, shown = self._host.proposed(), self._labelling
        plane = self._host.shown_plane
        if proposed is None or plane is None or shown is None or not shown.numbers:
            self._host.say("info", "There are no proposals: press Auto-segment first.")
            return
        masks = [mask for _, mask in object_masks(shown.labels)]
        edit = self._host.paste(plane, masks)
        if edit is not None:
            self.picking = False
            self._decide(proposed.without(frozenset(shown.numbers)), "accept all", edit)

    def discard(self) -> None:
        """Take all proposals of the shown plane away."""
        if self._host.proposed() is not None:
            self.picking = False
            self._decide(None, "discard")

    def mask_at(self, xy: tuple[float, float]) -> Any:
        """Find what is proposed at (x, y) of the shown plane: its mask, or None."""
        found = self._at(xy)
        return None if found is None else found[1]

    def click_at(self, xy: tuple[float, float], label: int | None) -> None:
        """Accept the proposal at (x, y), or reject it with a negative click."""
        proposed, plane = self._host.proposed(), self._host.shown_plane
        found = self._at(xy)
        if proposed is None or plane is None or found is None:
            self._host.say("info", "There is no proposal here.")
            return
        number, mask = found
        after = proposed.without(frozenset({number}))
        if label == NEGATIVE:
            self._decide(after, "reject")
            return
        edit = self._host.paste(plane, [mask])
        if edit is not None:
            self._decide(after, "accept", edit)

    def _decide(
        self, after: Proposed | None, text: str, edit: LabelEdit | None = None
    ) -> None:
        """Replace the shown plane's proposals."""
        image, plane = self._host.image, self._host.shown_plane
        if image is not None and plane is not None:
            self._host.set_proposed(image, plane, after, text, edit)

    # --- what is shown -------------------------------------------------------------------

    def show(self) -> None:
        """Draw the shown plane's proposals, after anything that decides about them."""
        before = self.count
        self._show()
        if self.count != before:
            self._changed()

    def _show(self) -> None:
        image, plane, proposed = (
            self._host.image,
            self._host.shown_plane,
            self._host.proposed(),
        )
        self._labelling = None
        if image is None or plane is None:
            return
        if proposed is not None:
            self._labelling = proposed.labelling(self._host.labelled(plane))
            labels = painted(self._labelling, proposed.colors)
            self.layer.write(image, self._host.channel_axis, plane, labels)
            return
        self.picking = False
        run = self._run
        if run is None or not self._is_shown(run.scene):
            self.layer.clear(image, plane)
        elif run.found:
            self.layer.write(image, self._host.channel_axis, plane, run.shown)

    def _is_shown(self, scene: EmbeddedPlane) -> bool:
        """Whether the plane of a scene is what the viewer shows."""
        plane = self._host.shown_plane
        return (
            scene.image is self._host.image
            and plane is not None
            and scene.plane.without_channel() == plane.without_channel()
        )

    def close(self) -> None:
        """Stop, and take the layer out of the viewer."""
        self._run, self._waits = None, False
        self.layer.remove()

    def _at(self, xy: tuple[float, float]) -> tuple[int, Any] | None:
        proposed, shown = self._host.proposed(), self._labelling
        if proposed is None or shown is None:
            return None
        height, width = shown.labels.shape
        column, row = (int(np.floor(value + 0.5)) for value in xy)
        if not (0 <= row < height and 0 <= column < width):
            return None
        label = int(shown.labels[row, column])
        if not label:
            return None
        number = shown.numbers[label - 1]
        return number, piece(shown.labels, label, proposed.proposals[number].mask)

    # --- a run ---------------------------------------------------------------------------

    def _where(self, scene: EmbeddedPlane) -> tuple[int, npt.NDArray[np.bool_]] | None:
        """Pixels of the region, and where to look, (H, W) bool: what is not labelled there.

        None after telling the user why nowhere.
        """
        where = np.zeros(scene.plane.shape, bool)
        if self.region is Region.BOX:
            box = self._host.last_box()
            if box is None:
                self._host.say("info", "Draw a box first: drag with Shift held down.")
                return None
            x0, y0, x1, y1 = (int(np.floor(value + 0.5)) for value in box)
            where[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1] = True
        elif self.region is Region.VIEW:
            where[self._in_view(scene)] = True
        else:
            where[:] = True
        region = int(np.count_nonzero(where))
        labelled = self._host.labelled(scene.plane)
        if labelled is not None:
            where &= ~labelled
        if not where.any():
            self._host.say("info", "Everything here is labelled already.")
            return None
        return region, where

    def _segmentation(
        self, scene: EmbeddedPlane, where: npt.NDArray[np.bool_]
    ) -> tuple[Segmentation | PartSegmentation, int]:
        """Look at the plane as it was read, or read the region by itself where it shows more.

        Returns
        -------
        segmentation : Segmentation or PartSegmentation
        side : int
            The longest of what it looks at, in pixels of the image.
        """
        from napari_tinysam.everything import PartSegmentation, Segmentation

        part = None
        if self.region is not Region.PLANE:
            part = finer_part(where)
        if part is None:
            whole = Segmentation(scene.predictor, scene.embedding, where=where)
            return whole, max(where.shape)
        embed = embed_part(scene.image, scene.plane, self._host.contrast, *part)
        side = max(each.stop - each.start for each in part)
        return PartSegmentation(scene.predictor, embed, *part, where), side

    def _in_view(self, scene: EmbeddedPlane) -> tuple[slice, slice]:
        """Rows and columns of the plane that are on the screen."""
        image, plane = scene.image, scene.plane
        corners = np.asarray(image.corner_pixels, float)
        if image.multiscale:
            corners = corners * np.asarray(image.downsample_factors)[image.data_level]
        slices = []
        for axis, length in zip(plane.axes, plane.shape, strict=True):
            low, high = sorted(corners[:, axis])
            start = int(np.clip(np.floor(low), 0, length - 1))
            slices.append(slice(start, int(np.clip(np.ceil(high), start, length)) + 1))
        return slices[0], slices[1]

    def _advance(self, run: _Run) -> None:
        """Do one step in the background; clicks and hovering go before the next."""
        self._inference.submit(
            Lane.AUTO,
            lambda: next(run.steps, None),
            lambda step: self._stepped(run, step),
            lambda error: self._failed(run, error),
        )

    def _stepped(self, run: _Run, step: Progress | None) -> None:
        if self._run is not run:
            return
        if step is None or run.stopped:
            self._finish(run)
            return
        if step.new:
            run.paint(step)
            scene = run.scene
            if self._is_shown(scene):
                self.layer.write(
                    scene.image, scene.channel_axis, scene.plane, run.shown
                )
        text = f"Auto-segment: {step.done} of {step.total} prompts, {run.found} masks"
        self._show_status(text, min(step.done / max(step.total, 1), 1.0))
        self._advance(run)

    def _finish(self, run: _Run) -> None:
        """Compare all masks with one another, in the background too."""
        self._show_status("Comparing the masks…", 1.0)

        def job() -> Proposed:
            proposals, settings = run.segmentation.proposals, run.segmentation.settings
            # What they share is computed for that, so that filtering takes no time later.
            colors = choose_colors(proposals)
            return Proposed(
                proposals,
                settings,
                colors,
                advice=run.advice(proposals, settings),
                version=run.scene.version,
            )

        self._inference.submit(
            Lane.AUTO,
            job,
            lambda found: self._finished(run, found),
            lambda error: self._failed(run, error),
        )

    def _finished(self, run: _Run, after: Proposed) -> None:
        if self._run is not run:
            return
        self._run = None
        self._host.show_auto_status(None)
        scene = run.scene
        self._host.set_proposed(scene.image, scene.plane, after, "auto-segment")
        if not len(after.proposals):
            text = after.advice or "Auto-segmentation found nothing here."
            self._host.say("info", text)

    def _failed(self, run: _Run, error: Exception) -> None:
        if self._run is not run:
            return
        self._run = None
        self._host.show_auto_status(None)
        self.show()
        self._host.say("error", sentence(error, "Auto-segmentation stopped"))

    def _show_status(self, text: str, fraction: float | None) -> None:
        self._host.show_auto_status(Status(StatusKind.SEGMENTING, text, fraction))
