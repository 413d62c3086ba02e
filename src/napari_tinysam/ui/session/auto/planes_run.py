"""A run over many planes: what is done and what is left, also in words."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_tinysam.ui.state.stack_planes import place_in_words, stack_axes

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_tinysam.everything import LabelSettings
    from napari_tinysam.ui.session.auto.plane_search import PlaneSearch
    from napari_tinysam.ui.state.planes import Plane

#: Planes that are named in a message.
_NAMED = 5

Place = tuple["Image", "Plane"]


@dataclass(eq=False)
class PlanesRun:
    """A run over planes."""

    places: list[Place]
    #: Which proposals become objects; None: the model's own choice.
    settings: LabelSettings | None
    #: Whether planes that have objects are searched where they are free.
    fill: bool
    begun: float = field(default_factory=time.monotonic)
    todo: deque[Place] = field(default_factory=deque)
    done: list[Place] = field(default_factory=list)
    skipped: list[Place] = field(default_factory=list)
    failed: list[tuple[Place, str]] = field(default_factory=list)
    #: Names of images that went away.
    left_out: list[str] = field(default_factory=list)
    objects: int = 0
    #: Whether its labels are still there.
    can_undo: bool = True
    #: The plane at work.
    now: Place | None = None

    #: Of that plane.
    search: PlaneSearch | None = None

    def stop(self) -> None:
        """Stop the search of the plane at work."""
        if self.search is not None:
            self.search.stop()

    @property
    def past(self) -> int:
        """How many planes are settled."""
        return len(self.places) - len(self.todo)


def in_words(run: PlanesRun, said: str) -> str:
    """Say what a run did."""
    several = len({id(image) for image, _ in run.places}) > 1
    parts = [said] if said else []
    if run.done or not run.failed:
        parts.append(f"{objects_in_words(run)} in {_planes(run.done, several)}.")
    if run.skipped:
        parts.append(f"Left as they are: {_planes(run.skipped, several)}.")
    if run.todo:
        parts.append(f"Not done: {_planes(list(run.todo), several)}.")
    if run.failed:
        places = [place for place, _ in run.failed]
        parts.append(f"Failed: {_planes(places, several)}. {run.failed[0][1]}")
    for name in run.left_out:
        parts.append(f"{name} was left out: it was removed or changed.")
    if run.objects and run.can_undo:
        parts.append("Ctrl+Z takes all of them back.")
    return " ".join(parts)


def objects_in_words(run: PlanesRun) -> str:
    """Say how many objects were found."""
    return f"{run.objects:,} object{'' if run.objects == 1 else 's'}"


def _planes(places: Sequence[Place], several: bool) -> str:
    """Name planes: "planes 3 to 12 of cells", "planes 3, 7 and 9 of cells", "40 planes"."""
    if not places:
        return "no plane"
    image, plane = places[0]
    axes = stack_axes(image, plane)
    of = "" if several else f" of {image.name}"
    if len(places) == 1:
        words = place_in_words(image, plane)
        return f"{words}{f' of {image.name}' if words else image.name}"
    if several or len(axes) != 1:
        return f"{len(places)} planes{of}"
    at = [int(each.index[axes[0]] or 0) for _, each in places]
    if at == list(range(at[0], at[-1] + 1)):
        return f"planes {at[0]} to {at[-1]}{of}"
    if len(at) <= _NAMED:
        return f"planes {', '.join(map(str, at[:-1]))} and {at[-1]}{of}"
    return f"{len(at)} planes{of}"
