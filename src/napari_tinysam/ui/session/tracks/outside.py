"""Frames of a movie that were tracked, and are outside of the range that is tracked now.

What is known of their objects is kept, also of those that are hidden: a longer range goes on with
it, so corrections that were made there hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_tinysam.ui.session.stacks.piece_measuring import Group
    from napari_tinysam.ui.session.stacks.pieces import Pieces, PlanePart
    from napari_tinysam.ui.session.stacks.work import MeasuredLayer
    from napari_tinysam.ui.state.planes import Plane

Frame = tuple["Plane", ...]


@dataclass(frozen=True, eq=False)
class Outside:
    """Frames outside of the range.

    Attributes
    ----------
    parts : mapping of tuple of Plane to list of PlanePart
        Of each frame.
    own : mapping of tuple of Plane to ndarray of int64
        Of each frame, (N,) an id that no other piece has.
    """

    parts: Mapping[Frame, list[PlanePart]] = field(default_factory=dict)
    own: Mapping[Frame, npt.NDArray[np.int64]] = field(default_factory=dict)

    def only(self, groups: Sequence[Group], *, inside: bool) -> Outside:
        """Return those of the frames that are among some, or are not."""
        among = set(map(tuple, groups))
        kept = [frame for frame in self.own if (frame in among) is inside]
        return Outside(
            {frame: self.parts[frame] for frame in kept},
            {frame: self.own[frame] for frame in kept},
        )


def outside(movie: MeasuredLayer, known: Outside, groups: Sequence[Group]) -> Outside:
    """Return what is known of frames that are not among some.

    Parameters
    ----------
    movie : MeasuredLayer
        As it was measured before.
    known : Outside
        Of frames outside of that.
    groups : sequence of Group
    """
    frames = [*map(tuple, movie.measured.groups)]
    parts = {
        frame: [part for plane in frame for part in movie.pieces.of_plane(plane)]
        for frame in frames
    }
    own = dict(zip(frames, movie.own, strict=True))
    every = Outside({**known.parts, **parts}, {**known.own, **own})
    return every.only(groups, inside=False)


class PiecesBefore:
    """The pieces of a movie and those outside of it, for what is measured next.

    Parameters
    ----------
    pieces : Pieces
    outside : Outside
        Only frames that are measured.
    """

    def __init__(self, pieces: Pieces, outside: Outside) -> None:
        self._pieces = pieces
        self._outside: dict[Plane, list[PlanePart]] = {}
        for parts in outside.parts.values():
            for part in parts:
                self._outside.setdefault(part.plane.without_channel(), []).append(part)

    def of_plane(self, plane: Plane) -> list[PlanePart]:
        """Return the parts of a plane."""
        known = self._pieces.of_plane(plane)
        return known or self._outside.get(plane.without_channel(), [])
