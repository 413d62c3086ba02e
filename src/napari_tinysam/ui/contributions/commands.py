"""Commands of the palette and the menus: calls to the session of the open dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_info

from napari_tinysam.ui.session.facade import session_of

if TYPE_CHECKING:
    import napari.viewer

    from napari_tinysam.ui.session.facade import AnnotationSession


#: Where the dock is opened. Napari appends the plugin's name to the widget's.
_DOCK_ENTRY = "Layers → Segment → TinySAM (TinySAM)"


def segment_object(viewer: napari.viewer.Viewer) -> None:
    """Segment the current object from its prompts."""
    if session := _open_session(viewer):
        session.segment()


def commit_object(viewer: napari.viewer.Viewer) -> None:
    """Commit the current object to the labels."""
    if session := _open_session(viewer):
        session.commit()


def next_object(viewer: napari.viewer.Viewer) -> None:
    """Keep this object and start the next one."""
    if session := _open_session(viewer):
        session.next_object()


def clear_prompts(viewer: napari.viewer.Viewer) -> None:
    """Clear the objects that are not committed."""
    if session := _open_session(viewer):
        session.clear()


def auto_segment(viewer: napari.viewer.Viewer) -> None:
    """Find all objects in the shown plane."""
    if session := _open_session(viewer):
        session.auto_segment()


def accept_proposals(viewer: napari.viewer.Viewer) -> None:
    """Commit all proposals to the labels."""
    if session := _open_session(viewer):
        session.proposals.accept_all()


def find_similar(viewer: napari.viewer.Viewer) -> None:
    """Propose the objects that are like the chosen one."""
    if session := _open_session(viewer):
        session.find_similar()


def undo(viewer: napari.viewer.Viewer) -> None:
    """Undo the last step."""
    if session := _open_session(viewer):
        session.undo()


def redo(viewer: napari.viewer.Viewer) -> None:
    """Redo the step that was undone last."""
    if session := _open_session(viewer):
        session.redo()


def clear_kept() -> None:
    """Remove the planes that are kept on disk."""
    from napari_tinysam.inference.kept import KeptEmbeddings

    files = KeptEmbeddings().files
    before = files.size
    files.clear()
    removed = (before - files.size) / 1e6
    show_info(f"{removed:.0f} MB of kept planes were removed from {files.folder}.")


def _open_session(viewer: napari.viewer.Viewer) -> AnnotationSession | None:
    session = session_of(viewer)
    if session is None:
        show_info(f"Open the TinySAM dock first: {_DOCK_ENTRY}.")
    return session
