"""What to do next, in plain words. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tinysam.ui.session.facade import StatusKind

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession

_BY_STATUS = {
    StatusKind.NO_IMAGE: (
        "Open an image: drop a file on the window, or File → Open Sample → TinySAM."
    ),
    StatusKind.LOADING_MODEL: "A few seconds. You can click already.",
    StatusKind.DOWNLOADING: "Only the first time; it is kept on this computer.",
    StatusKind.EMBEDDING: "You can click already: the masks follow in a moment.",
    StatusKind.SEGMENTING: "You can go on clicking. Cancel keeps what was found.",
    StatusKind.CANCELLED: "Click on a cell, or press Segment, to go on.",
    StatusKind.VIEW_3D: "Press Ctrl+Y, or the 2D/3D button below the layer list.",
    StatusKind.UNSUPPORTED: "Choose another image.",
    StatusKind.FAILED: "Press Segment to try again, or choose a model under Settings.",
}

#: Where the same takes longer than it will at later starts.
_FIRST_TIME = {
    StatusKind.LOADING_MODEL: (
        "About half a minute, only this first time. You can click already."
    ),
    StatusKind.EMBEDDING: (
        "A faster form of the model follows. You can click already, masks come later."
    ),
}


def hint(session: AnnotationSession) -> str:
    """Say what the user can do next."""
    kind = StatusKind.NO_IMAGE if session.image is None else session.status.kind
    if session.status.first_time and kind in _FIRST_TIME:
        return _FIRST_TIME[kind]
    if kind in _BY_STATUS:
        return _BY_STATUS[kind]
    if (above := session.hidden_by) is not None:
        return f"“{above}” lies over this image: hide it with its eye, or select it."
    if not session.active:
        return "Switch on “Click to segment” to begin."
    if (tool := session.other_tool) is not None:
        return f"The mouse is napari's “{tool}” now. For clicks choose its pan/zoom."
    if session.auto.picking:
        return "Click on a proposal to keep it, right click to drop it."
    if session.merge_mode:
        return f"Click on the object to join with object {session.edited_id}."
    if session.edited_id is not None:
        return "Click to add, Ctrl+click to remove, then Commit (C)."
    if session.edit_mode:
        return "Click on the object that you want to change."
    if session.auto.count and not session.can_clear:
        return "Accept all, pick single ones, or move the sliders."
    if session.offered is not None:
        return (
            f"Object {session.offered} is here already: click it once more to edit it."
        )
    if session.click_means == "another" and session.can_clear:
        return "Click: another object. C keeps all, Ctrl+Z takes back."
    if session.click_means == "part" and session.can_clear:
        return "Click: adds this to the object. C keeps it."
    if session.sees_nothing:
        return "The model sees no object here. Drag a box with Shift, or Ctrl+Z."
    if session.can_commit:
        return "C keeps it. Click what is missing, Ctrl+click what is too much."
    if session.can_clear:
        return "Click on the cell, or drag a box around it with Shift."
    return "Move over a cell and click it. Shift+drag draws a box."


def blocked(session: AnnotationSession) -> str:
    """Say why nothing can be clicked at the moment; "" if it can."""
    if session.image is None:
        return "There is no image yet."
    if session.status.kind in (StatusKind.VIEW_3D, StatusKind.UNSUPPORTED):
        return session.status.text
    if not session.active:
        return "“Click to segment” is switched off."
    return ""
