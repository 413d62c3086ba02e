"""What clicks and keys do: the mode, and which part handles a click in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_tinysam.prompts import NEGATIVE
from napari_tinysam.ui.canvas.keys import KeyBinder
from napari_tinysam.ui.canvas.mouse import MouseTool
from napari_tinysam.ui.state.mode import Mode, ModeSwitch

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_tinysam.ui.session.auto.proposals import ShownProposals
    from napari_tinysam.ui.session.clicks.draft_masks import DraftMasks
    from napari_tinysam.ui.session.clicks.prompting import Prompting
    from napari_tinysam.ui.session.labels.labelling import Labeller
    from napari_tinysam.ui.state.subject import Subject


class Pointing:
    """Handles the mouse and the keys while it is active.

    Positions are in the world of the viewer, (ndim,).

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Its mouse and keys are used.
    subject, modes, masks, prompting, labelling, proposals
        What clicks act on.
    call : callable
        Called with the method of the session that a key stands for.

    Attributes
    ----------
    active : bool
        Whether mouse and keys are ours.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        subject: Subject,
        modes: ModeSwitch,
        masks: DraftMasks,
        prompting: Prompting,
        labelling: Labeller,
        proposals: ShownProposals,
        *,
        call: Callable[[str], None],
    ) -> None:
        self._viewer = viewer
        self._subject = subject
        self._modes = modes
        self._masks = masks
        self._prompting = prompting
        self._labelling = labelling
        self._proposals = proposals
        self._mouse = MouseTool(viewer, self)
        self.keys = KeyBinder(viewer, call)
        self.active = False
        #: Called with a click's (x, y) first; returns whether that used it up.
        self.on_click: Callable[[tuple[float, float]], bool] = lambda xy: False
        modes.changed.connect(self._mode_changed)

    def set_active(self, active: bool) -> None:
        """Take the mouse and the keys, or leave them to napari."""
        self.active = active
        if active:
            self._mouse.arm()
            self.keys.bind()
            self.follow_keys()
        else:
            self._mouse.disarm()
            self.keys.unbind()
            self.stop_hover()

    def follow_keys(self) -> None:
        """Bind our keys on the active layer where clicks on it are ours."""
        if not self.active:
            return
        active, prompts = self._viewer.layers.selection.active, self._prompting.layers
        ours = (self._masks.preview.layer, prompts.points, prompts.boxes)
        theirs = (
            self._subject.image,
            self._labelling.target,
            self._proposals.layer.layer,
        )
        known = active is not None and active in (*ours, *theirs)
        if not known or str(active.mode) != "pan_zoom":
            self.keys.follow(None, all_keys=False)
        else:
            free = self._labelling.edited_id is not None or active in ours
            self.keys.follow(active, all_keys=free)

    # --- modes ---------------------------------------------------------------------------

    def set_editing(self, on: bool) -> None:
        """Let clicks select labelled objects to change, or not."""
        if on:
            self._modes.enter(Mode.EDIT)
        else:
            self._modes.leave(Mode.MERGE)
            self._modes.leave(Mode.EDIT)
        self._mode_changed()  # also if it is the same: the button was pressed

    def set_picking(self, on: bool) -> None:
        """Let clicks accept and reject single proposals, or not."""
        if on:
            self._modes.enter(Mode.PICK)
        else:
            self._modes.leave(Mode.PICK)

    def edit_object(self) -> None:
        """Edit the object under the cursor; without one, the one that is clicked next."""
        cursor = self._subject.cursor
        free = self._labelling.edited_id is None and self._modes.value is not Mode.EDIT
        if free and cursor is not None and self._labelling.id_at(cursor):
            self._modes.leave(Mode.PICK)
            self._labelling.select(cursor)
        elif self._subject.plane is not None:
            self.set_editing(free)

    def end_merging(self) -> None:
        """Leave merging when there is no object to merge into."""
        if self._labelling.edited_id is None:
            self._modes.leave(Mode.MERGE)

    def _mode_changed(self, mode: Mode | None = None) -> None:
        self._labelling.offered = None
        self.stop_hover()
        self._subject.changed.emit()

    # --- the mouse -----------------------------------------------------------------------

    def hover_at(self, position: Any) -> None:
        """Show what a click at a position would give."""
        self._subject.cursor = xy = self._subject.xy(position)
        if self._modes.value is Mode.PICK:
            self._prompting.hover_mask(xy, self._proposals.mask_at)
        elif self._modes.value is Mode.PROMPT:
            self._prompting.hover_at(xy)

    def stop_hover(self) -> None:
        """Hide the hover."""
        self._prompting.stop_hover()

    def click_at(self, position: Any, label: int | None = None) -> None:
        """Do what a click at a position does in this mode.

        Parameters
        ----------
        position : sequence of float
        label : int, optional
            1 on the object, 0 outside it. Default: the chosen sign.
        """
        xy, mode = self._subject.xy(position), self._modes.value
        if xy is None or self.on_click(xy):
            return
        if mode is Mode.PICK:
            self._proposals.click_at(xy, label)
        elif mode is Mode.MERGE:
            self._labelling.merge(xy)
        elif mode is Mode.EDIT and self._labelling.edited_id is None:
            self._labelling.select(xy)
        else:
            self._prompt_at(xy, self._prompting.sign if label is None else label)

    def _prompt_at(self, xy: tuple[float, float], label: int) -> None:
        begins = label != NEGATIVE and self._prompting.begins_object(xy)
        if not (begins and self._labelling.offer_edit(xy)):
            self._prompting.add_point(xy, label)

    def click_again_at(
        self, first: Any, position: Any, label: int | None = None
    ) -> None:
        """Handle the second click of a double click, unless the first did everything.

        Parameters
        ----------
        first : sequence of float
            Where the first one was.
        position, label
            As `click_at` takes them.
        """
        offered = self._labelling.offered is not None
        done = self._prompting.is_done_by(self._subject.xy(first)) and not offered
        if self._modes.value in (Mode.PROMPT, Mode.EDIT) and not done:
            self.click_at(position, label)

    def drag_box(self, start: Any, end: Any, *, done: bool) -> None:
        """Drag a box between two positions; when done it prompts the current object."""
        self._prompting.drag_box(start, end, done=done)
