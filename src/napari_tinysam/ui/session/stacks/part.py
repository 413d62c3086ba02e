"""Which planes of a stack or movie something is done to: all of them, or a range."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_tinysam.ui.state.stack_planes import axis_ranges
from napari_tinysam.ui.state.traces import position

if TYPE_CHECKING:
    from napari_tinysam.ui.state.images import ImageState
    from napari_tinysam.ui.state.stack_planes import AxisRange, Range
    from napari_tinysam.ui.state.subject import Subject


class StackPart:
    """The part of the image that is chosen.

    Parameters
    ----------
    subject : Subject
    kept : callable
        Returns the ranges that are kept of an image, by axis; axes without are taken as a whole.
    """

    def __init__(
        self, subject: Subject, kept: Callable[[ImageState], dict[int, Range]]
    ) -> None:
        self._subject = subject
        self._kept = kept

    def ranges(self) -> list[AxisRange]:
        """Return which part of each axis of the image is taken."""
        image, plane = self._subject.image, self._subject.plane
        if image is None or plane is None:
            return []
        return axis_ranges(image, plane, self._kept(self._subject.state))

    def set_range(self, axis: int, first: int, last: int) -> None:
        """Take the planes from a first to a last position on an axis of the image."""
        self._kept(self._subject.state)[axis] = (first, last)
        self._subject.changed.emit()

    def begin_here(self, axis: int) -> None:
        """Let the range begin with the shown plane."""
        for part, at in self._shown(axis):
            self.set_range(axis, at, max(part.last, at))

    def end_here(self, axis: int) -> None:
        """Let the range end with the shown plane."""
        for part, at in self._shown(axis):
            self.set_range(axis, min(part.first, at), at)

    def take_all(self, axis: int) -> None:
        """Take all planes of an axis."""
        self._kept(self._subject.state).pop(axis, None)
        self._subject.changed.emit()

    def _shown(self, axis: int) -> list[tuple[AxisRange, int]]:
        """Return the range of an axis and where the shown plane is on it, if it is shown."""
        plane = self._subject.plane
        parts = [part for part in self.ranges() if part.axis == axis]
        return (
            [] if plane is None else [(part, position(plane, axis)) for part in parts]
        )
