"""What the user can do next. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tinysam.ui.state.mode import Mode
from napari_tinysam.ui.state.status import StatusKind

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession

_BY_STATUS = {
    StatusKind.NO_IMAGE: (
        "Drop a file on the window, or try File → Open Sample → TinySAM."
    ),
    StatusKind.LOADING_MODEL: "This takes a few seconds. You can already click.",
    StatusKind.DOWNLOADING: "Only the first time: the model stays on this computer.",
    StatusKind.EMBEDDING: "You can already click: the masks follow in a moment.",
    StatusKind.SEGMENTING: "You can go on clicking. Cancel keeps what is found so far.",
    StatusKind.LINKING: "You can go on working. Cancel leaves the labels as they are.",
    StatusKind.CANCELLED: "Click an object or press Segment to go on.",
    StatusKind.VIEW_3D: "Press Ctrl+Y or the 2D/3D button below the layer list.",
    StatusKind.UNSUPPORTED: "Choose another image.",
    StatusKind.FAILED: "Press Segment to try again, or choose another model under Settings.",
}

#: Work that takes longer the first time.
_FIRST_TIME = {
    StatusKind.LOADING_MODEL: (
        "About half a minute, only this first time. You can already click."
    ),
    StatusKind.EMBEDDING: (
        "First a faster form of the model is made, only this time. You can already click."
    ),
}


def hint(session: AnnotationSession) -> str:
    """Say what the user can do next."""
    kind = StatusKind.NO_IMAGE if session.image is None else session.status.kind
    if session.status.first_time and kind in _FIRST_TIME:
        return _FIRST_TIME[kind]
    if kind in _BY_STATUS:
        return _BY_STATUS[kind]
    if session.comparison.shown:
        return "Before on the left, after on the right. Hide it to go on (Adapt the model)."
    if (above := session.hidden_by) is not None:
        return f"“{above}” covers this image: hide it, or select it to segment it."
    if not session.active:
        return "Switch on “Click to segment” to begin."
    if (tool := session.other_tool) is not None:
        return f"Napari's “{tool}” tool has the mouse. Choose pan/zoom to segment."
    if session.tracks_hint:
        return session.tracks_hint
    if session.mode is Mode.PICK:
        return "Click a proposal to accept it, right-click to discard it."
    if session.mode is Mode.MERGE:
        return f"Click the object to merge into object {session.edited_id}."
    if session.edited_id is not None:
        return "Click to add, Ctrl+click to remove, then Commit (C)."
    if session.mode is Mode.EDIT:
        return "Click the object that you want to edit."
    if session.proposals.count and not session.can_clear:
        return "Accept all, pick some, or filter them with the sliders."
    if session.offered is not None:
        return f"Object {session.offered} is already here: click it again to edit it."
    if session.click_means == "another" and session.can_clear:
        return "A click starts another object. C commits all, Ctrl+Z undoes."
    if session.click_means == "part" and session.can_clear:
        return "A click adds this to the object. C commits it."
    if session.sees_nothing:
        return "The model sees no object here. Shift+drag a box, or undo (Ctrl+Z)."
    if session.can_commit and session.follower.axis is not None:
        return "G follows it through all planes. C commits it in this one."
    if session.can_commit:
        return "C commits it. Click what is missing, Ctrl+click what is too much."
    if session.can_clear:
        return "Click the object, or Shift+drag a box around it."
    return "Move over an object and click it. Shift+drag draws a box."


def blocked(session: AnnotationSession) -> str:
    """Say why nothing can be clicked now; "" if it can."""
    if session.image is None:
        return "Open an image first."
    if session.status.kind in (StatusKind.VIEW_3D, StatusKind.UNSUPPORTED):
        return session.status.text
    if not session.active:
        return "“Click to segment” is switched off."
    return ""
