"""The user's prompts: clicks, boxes, hovering, and the choice among three masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_tinysam.prompts import NEGATIVE, POSITIVE
from napari_tinysam.ui.canvas.prompt_layers import PromptLayers
from napari_tinysam.ui.canvas.user_prompts import UserPrompts, holds_prompts
from napari_tinysam.ui.state.drafts import PlaneDrafts, PointPrompt
from napari_tinysam.ui.state.habit import is_one_click
from napari_tinysam.ui.state.next_click import alone, begins_another

if TYPE_CHECKING:
    from collections.abc import Hashable

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_tinysam.inference.candidates import Candidates
    from napari_tinysam.inference.pyramid import Answer
    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.ui.session.clicks.draft_masks import DraftMasks
    from napari_tinysam.ui.state.drafts import Box, ObjectDraft
    from napari_tinysam.ui.state.subject import Subject


class Prompting:
    """Turns what the user points at into drafts.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where the prompt layers go.
    subject : Subject
    masks : DraftMasks
        Of the drafts.
    waits : callable
        Whether a draft waits to be committed: it takes no more prompts.

    Attributes
    ----------
    sign : int
        What a plain click means: POSITIVE or NEGATIVE.
    hover_enabled : bool
        Whether the mask under the cursor is shown.
    click_means : str
        What a click under the cursor would do: "another" object, "part" of the current one, or "".
    """

    def __init__(
        self,
        viewer: ViewerModel,
        subject: Subject,
        masks: DraftMasks,
        *,
        waits: Callable[[ObjectDraft], bool],
    ) -> None:
        self._subject = subject
        self._masks = masks
        self._waits = waits
        self._hovered: tuple[float, float] | None = None
        self.layers = PromptLayers(viewer, subject)
        self.user_prompts = UserPrompts(self.read_user_prompts)
        self.sign = POSITIVE
        self.hover_enabled = True
        self.click_means = ""

    def show(self) -> None:
        """Write the prompts of the shown plane into the prompt layers, and hide the hover."""
        self._hovered = None
        self.layers.show()

    # --- hovering ------------------------------------------------------------------------

    def hover_at(self, xy: tuple[float, float] | None) -> None:
        """Show the mask that a click at (x, y) would give; None: the cursor is off the plane."""
        draft = None if xy is None or not self.hover_enabled else self._would_be(xy)
        if xy is None or draft is None:
            self.stop_hover()
        elif xy != self._hovered and self._masks.is_ready:
            self._hovered = xy
            if draft == alone(xy):
                self._masks.show_instance(xy)
            self._masks.hover(
                draft, lambda key, found: self._hover_found(key, xy, draft, found)
            )

    def hover_mask(
        self,
        xy: tuple[float, float] | None,
        find: Callable[[tuple[float, float]], BoxedMask | None],
    ) -> None:
        """Show a known mask under the cursor."""
        if xy != self._hovered:
            self._hovered = xy
            self._masks.show_hover(None if xy is None else find(xy))

    def stop_hover(self) -> None:
        """Hide the hover."""
        self._masks.stop_hover()
        self._mean("")
        if self._hovered is not None:
            self._hovered = None
            self._masks.show()

    def begins_object(self, xy: tuple[float, float]) -> bool:
        """Whether a positive click at (x, y) begins an object."""
        return self._is_fresh or self._begins_another(xy)

    @property
    def _is_fresh(self) -> bool:
        """Whether the next prompt must begin an object."""
        current = self._subject.drafts.current
        return current.is_empty or self._waits(current)

    def _begins_another(self, xy: tuple[float, float]) -> bool:
        if self._subject.plane is None or not self._subject.memory.new_objects:
            return False
        current = self._subject.drafts.current
        return begins_another(current, xy, self._masks.of, self._masks.extent)

    def _would_be(self, xy: tuple[float, float]) -> ObjectDraft | None:
        """Return what a click at (x, y) would make; None where nothing is to be shown."""
        current = self._subject.drafts.current
        if current.edited is not None:
            return None
        if self._is_fresh:
            return alone(xy)
        found = self._masks.of(current)
        if found is None or found.mask(current.candidate).holds(*xy):
            return None
        if self._begins_another(xy):
            return alone(xy)
        return current.with_point(PointPrompt(*xy, POSITIVE))

    def _hover_found(
        self,
        key: Hashable,
        xy: tuple[float, float],
        draft: ObjectDraft,
        answer: Answer[Candidates],
    ) -> None:
        if key != self._subject.key or self._hovered is None:
            return
        found = answer.found
        if not answer.settled:
            # The mouse may have gone on; only if it has not, another look is read for it.
            if xy == self._hovered:
                self._masks.hover(
                    draft,
                    lambda key, found: self._hover_found(key, xy, draft, found),
                    briefly=False,
                )
            return
        if xy == self._hovered and self._would_be(xy) not in (draft, None):
            # The mask of this place alone shows that it is a part of the current object.
            self._hovered = None
            self.hover_at(xy)
            return
        mask = found.mask(self._begun(draft).candidate)
        gone_on = xy != self._hovered and not mask.holds(*self._hovered)
        if gone_on and self._masks.hovers_over(self._hovered):
            return  # to another object, which is shown already
        if self._subject.drafts.current.is_empty:
            self._mean("")
        else:
            self._mean("another" if len(draft.points) == 1 else "part")
        self._masks.show_hover(mask)

    def _mean(self, what: str) -> None:
        """Tell what a click would do, where it is not just a mask."""
        if what != self.click_means:
            self.click_means = what
            self._subject.changed.emit()

    # --- clicks and boxes ----------------------------------------------------------------

    def toggle_sign(self) -> None:
        """Switch what a plain click means."""
        self.sign = NEGATIVE if self.sign == POSITIVE else POSITIVE
        self.layers.set_sign(self.sign)
        self._subject.changed.emit()

    def add_point(self, xy: tuple[float, float], label: int) -> None:
        """Add a point to the current object, or to the one that it begins."""
        drafts = self._open_drafts()
        if label == POSITIVE and self._begins_another(xy):
            drafts = drafts.with_next_at(xy)
        draft = self._begun(drafts.current.with_point(PointPrompt(*xy, label)))
        self._subject.change_drafts("point", drafts.with_current(draft))

    def _begun(self, draft: ObjectDraft) -> ObjectDraft:
        """Return a draft with the mask that objects begin with."""
        if not is_one_click(draft):
            return draft
        return replace(draft, candidate=self._subject.memory.habit.choice)

    def is_done_by(self, xy: tuple[float, float] | None) -> bool:
        """Whether a second click at (x, y) would have nothing left to do."""
        points = self._subject.drafts.current.points
        done = not points or (points[-1].x, points[-1].y) == xy
        return done and not self._is_fresh

    def drag_box(self, start: Any, end: Any, *, done: bool) -> None:
        """Drag a box between two world positions; when done it prompts the current object."""
        here = self._subject.here
        if here is None:
            return
        image, plane = here
        ends = [plane.xy_plane(image.world_to_data(p)) for p in (start, end)]
        xs, ys = zip(*ends, strict=True)
        height, width = plane.shape
        box: Box = (
            min(max(min(xs), 0.0), width - 1.0),
            min(max(min(ys), 0.0), height - 1.0),
            min(max(max(xs), 0.0), width - 1.0),
            min(max(max(ys), 0.0), height - 1.0),
        )
        if not done:
            self._masks.preview.show_box(image, plane, box)
        elif min(box[2] - box[0], box[3] - box[1]) < 1:
            self._masks.show()
        else:
            drafts = self._open_drafts()
            draft = drafts.current.with_box(box)
            self._subject.change_drafts("box", drafts.with_current(draft))

    def take_hovered(self) -> bool:
        """Take the mask under the cursor as a new object; return whether there was one."""
        if not self._subject.drafts.current.is_empty or self._hovered is None:
            return False
        self.add_point(self._hovered, POSITIVE)
        return True

    def next_object(self) -> None:
        """Keep the current object as it is and start another."""
        if not self._subject.drafts.current.is_empty:
            self._subject.change_drafts("next object", self._subject.drafts.with_next())

    def _open_drafts(self) -> PlaneDrafts:
        """Return the drafts with a current one that does not merely wait to be committed."""
        drafts = self._subject.drafts
        return drafts.with_next() if self._waits(drafts.current) else drafts

    # --- the three masks -----------------------------------------------------------------

    @property
    def scores(self) -> tuple[float, ...]:
        """Predicted IoU of the current object's masks, small to large; empty without a mask."""
        found = self._masks.of(self._subject.drafts.current)
        return () if found is None else found.scores

    @property
    def candidate(self) -> int | None:
        """Which of its masks the current object has: 0 the smallest, 2 the largest."""
        draft = self._subject.drafts.current
        found = self._masks.of(draft)
        if found is None:
            return None
        return found.best if draft.candidate is None else draft.candidate

    @property
    def sees_nothing(self) -> bool:
        """Whether the current object's mask is known and empty."""
        draft = self._subject.drafts.current
        found = self._masks.of(draft)
        return found is not None and not found.mask(draft.candidate).area

    def set_candidate(self, candidate: int) -> None:
        """Choose one of the current object's three masks."""
        if self.candidate not in (None, candidate):
            drafts = self._subject.drafts
            draft = replace(drafts.current, candidate=candidate)
            self._subject.change_drafts("choice of mask", drafts.with_current(draft))

    # --- prompt layers -------------------------------------------------------------------

    def make_layers(self) -> None:
        """Add the prompt layers, for users who like to draw their prompts."""
        here = self._subject.here
        if here is None:
            return
        self.layers.show()
        if self.layers.points is None:
            self.layers.make_points(here[0])
        if self.layers.boxes is None:
            self.layers.make_boxes(here[0])

    def read_user_prompts(self) -> None:
        """Read new prompts from the user's own prompt layers, as one step."""
        if (here := self._subject.here) is None:
            return
        drafts = self.user_prompts.merged(*here, self._subject.drafts)
        if drafts != self._subject.drafts:
            self._subject.change_drafts("prompts of a layer", drafts)

    def layer_added(self, layer: Layer) -> bool:
        """Read a layer that holds prompts of the user; return whether it holds any prompts."""
        if self.layers.making or not holds_prompts(layer):
            return self.layers.making
        self.user_prompts.follow(layer)
        self.read_user_prompts()
        return True

    def layer_removed(self, layer: Layer) -> None:
        """Forget a layer that left the viewer."""
        self.layers.layer_removed(layer)
        self.user_prompts.unfollow(layer)
