"""Objects of planes linked in stacks with several axes: in depth, or in time, or in both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.volume.linking import Links, LinkSettings, link
from napari_tinysam.volume.measuring import MeasuredFrames
from napari_tinysam.volume.overlaps import PlaneOverlaps
from napari_tinysam.volume.tracking import TrackSettings, track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    Labels = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class LinkedPlanes:
    """Which objects of all planes of a file are one.

    Attributes
    ----------
    links : Links
        By plane, in the order of ``numpy.ndindex`` over the axes.
    parents : dict of int to int
        Of tracks that descend from another one.
    """

    links: Links
    parents: dict[int, int]


def link_planes(
    read: Callable[[int], Labels],
    counts: Sequence[int],
    *,
    time: int | None = None,
    depth: int | None = None,
    linking: LinkSettings | None = None,
    tracking: TrackSettings | None = None,
    step: float = 1.0,
) -> LinkedPlanes:
    """Link the objects of planes in depth, then in time.

    Parameters
    ----------
    read : callable
        Returns the labels of a plane, (H, W), by its number. Each is read once.
    counts : sequence of int
        Lengths of the axes that planes are counted along.
    time, depth : int, optional
        Which of the axes to link along. What lies along others is never linked.
    linking : LinkSettings, optional
        In depth.
    tracking : TrackSettings, optional
        In time.
    step : float
        Distance of planes in depth, in pixels of a plane.

    Returns
    -------
    LinkedPlanes
        Labels are unique in all planes together.
    """
    numbers = np.arange(int(np.prod(counts))).reshape(tuple(counts))
    along = [axis for axis in (time, depth) if axis is not None]
    order = [axis for axis in range(len(counts)) if axis not in along] + along
    shape = [counts[axis] for axis in along]
    groups = numbers.transpose(order).reshape(-1, *shape)
    nothing = np.zeros(0, np.int64)
    ids = [nothing] * numbers.size
    objects = [nothing.astype(np.int32)] * numbers.size
    parents: dict[int, int] = {}
    parent: dict[int, int] = {}
    count = 0
    for group in groups:
        if time is None:
            found = link(PlaneOverlaps.of(map(read, group.tolist())), linking)
            places = [(found, group)]
        else:
            frames = group.reshape(len(group), -1)
            places, parent = _tracked(read, frames, depth, linking, tracking, step)
        most = 0
        for links, planes in places:
            for plane, own, new in zip(
                planes.tolist(), links.ids, links.objects, strict=True
            ):
                ids[plane] = own
                objects[plane] = np.where(new > 0, new + count, 0).astype(np.int32)
                most = max(most, int(new.max(initial=0)))
        parents |= {child + count: mother + count for child, mother in parent.items()}
        count += most
    return LinkedPlanes(Links(ids, objects, count), parents)


def _tracked(
    read: Callable[[int], Labels],
    frames: npt.NDArray[np.intp],
    depth: int | None,
    linking: LinkSettings | None,
    tracking: TrackSettings | None,
    step: float,
) -> tuple[list[tuple[Links, npt.NDArray[np.intp]]], dict[int, int]]:
    """Link the frames of one movie; returns links by planes, and parents."""
    within: list[Links] = []

    def volumes() -> Iterator[Labels]:
        for planes in frames:
            labels = [read(number) for number in planes.tolist()]
            if depth is None:
                yield labels[0]
                continue
            links = link(PlaneOverlaps.of(labels), linking)
            within.append(links)
            yield np.stack([links.relabelled(n, each) for n, each in enumerate(labels)])

    scale = None if depth is None else (step, 1.0, 1.0)
    found = track(MeasuredFrames.of(volumes(), scale), tracking)
    parents = {each.label: each.parent for each in found.tracks if each.parent}
    if depth is None:
        return [(found.links, frames[:, 0])], parents
    places = []
    for number, links in enumerate(within):
        # From the label in the volume to the track; volumes are numbered without gaps.
        track_of = np.zeros(links.count + 1, np.int32)
        track_of[found.links.ids[number]] = found.links.objects[number]
        objects = [track_of[each] for each in links.objects]
        places.append((Links(links.ids, objects, found.links.count), frames[number]))
    return places, parents
