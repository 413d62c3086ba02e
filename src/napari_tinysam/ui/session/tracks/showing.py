"""The layers that show the tracks of labels: their ways, and divisions in doubt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_tinysam.ui.canvas.division_marks import DivisionMarks
from napari_tinysam.ui.canvas.tracks_layer import TracksLayer

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_tinysam.ui.session.tracks.tracked_movie import TrackedMovie


class ShownTracks:
    """Shows tracks above their labels.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    post : callable
        Runs a callable soon on the session's thread.
    """

    def __init__(
        self, viewer: ViewerModel, post: Callable[[Callable[[], None]], None]
    ) -> None:
        self._viewer = viewer
        self._post = post
        self._ways: dict[Labels, TracksLayer] = {}
        self._marks: dict[Labels, DivisionMarks] = {}

    def show(self, movie: TrackedMovie, is_wanted: Callable[[], bool]) -> None:
        """Show the tracks of a movie, in a turn of its own: it takes napari a moment.

        Parameters
        ----------
        movie : TrackedMovie
        is_wanted : callable
            Whether it still is to be shown by then.
        """
        self._post(lambda: self._show(movie) if is_wanted() else None)

    def forget(self, layer: Labels) -> None:
        """Remove what shows the tracks of labels."""
        for shown in (self._ways, self._marks):
            if ours := shown.pop(layer, None):
                # Not at once: napari may be removing several layers, this one among them.
                self._post(ours.remove)

    def _show(self, movie: TrackedMovie) -> None:
        layer = movie.layer
        if layer not in self._viewer.layers:
            return
        ways = self._ways.setdefault(
            layer, TracksLayer(self._viewer, layer, movie.image.name)
        )
        marks = self._marks.setdefault(
            layer, DivisionMarks(self._viewer, layer, movie.image.name)
        )
        tracks = movie.tracks
        if tracks is None:
            ways.remove()
        else:
            ways.show(movie.rows(tracks), tracks.parents)
        marks.show(*movie.doubts())
