"""A labels layer whose planes are measured: which pieces are linked, and what they are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.ui.session.stacks.pieces import Relabel
from napari_tinysam.ui.session.stacks.work import MeasuredLayer
from napari_tinysam.volume.linking import LinkSettings, link
from napari_tinysam.volume.stable_ids import (
    repeated,
    stable_ids,
    through_planes,
    without,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.ui.session.stacks.piece_measuring import MeasuredPieces


@dataclass(eq=False, kw_only=True)
class LinkedStack(MeasuredLayer):
    """The pieces of a labels layer; ids of those that are left are their own.

    Attributes
    ----------
    left : list of ndarray of bool
        For each plane, (N,) pieces that are left as they are: objects through planes already.
    settings : LinkSettings
        With which it was linked last.
    on : bool
        Whether it is linked: False after undo.
    objects, hidden : int
        How many objects of the stack are shown; how many show in too few planes.
    """

    left: list[npt.NDArray[np.bool_]]
    settings: LinkSettings
    on: bool = False
    objects: int = 0
    hidden: int = 0


@dataclass(eq=False)
class LinkEdit(Relabel):
    """A step of undo: objects of planes are linked, or linked otherwise.

    Attributes
    ----------
    stack : LinkedStack
    was : (bool, LinkSettings)
        Whether it was linked before, and with which settings.
    settings : LinkSettings
        Those after it.
    """

    stack: LinkedStack
    was: tuple[bool, LinkSettings]
    settings: LinkSettings


def named(
    found: MeasuredPieces,
    before: LinkedStack | None,
    followed: Sequence[int],
    new_ids: Callable[[int], list[int]],
    *,
    apart: bool = False,
) -> tuple[list[npt.NDArray[np.int64]], list[npt.NDArray[np.bool_]]]:
    """Choose which pieces are left as they are, and give all others ids of their own.

    Parameters
    ----------
    found : MeasuredPieces
    before : LinkedStack, optional
        Of an earlier measurement of the layer.
    followed : sequence of int
        Ids of objects that the user followed through planes: they are left.
    new_ids : callable
        Returns so many ids that the layer does not use.
    apart : bool
        Whether there are planes that were not measured.

    Returns
    -------
    own, left
        As `LinkedStack` has them.
    """
    sizes = np.cumsum([len(ids) for ids in found.ids])[:-1]
    ids, known = np.concatenate(found.ids), np.concatenate(found.known)
    fresh = known == 0
    if before is None:
        through = through_planes(found.ids, found.overlaps)
        left = np.isin(ids, [*through, *followed])
        own = ids.copy()
    else:
        # What the user drew on several planes, or gave the id of a linked object.
        again = np.concatenate(
            [
                np.full(len(each), before.measured.has(group))
                for each, group in zip(found.ids, found.groups, strict=True)
            ]
        )
        drawn, counts = np.unique(ids[fresh & again], return_counts=True)
        kept = drawn[(counts > 1) | np.isin(drawn, ids[~fresh])]
        groups = list(zip(found.ids, found.known, strict=True))
        had_left = found.aligned(before.left, before.measured)
        had_own = found.aligned(before.own, before.measured)
        left = fresh & (again & np.isin(ids, kept) | np.isin(ids, followed))
        left |= np.concatenate(
            [
                np.append(False, old)[numbers]
                for (_, numbers), old in zip(groups, had_left, strict=True)
            ]
        )
        own = np.concatenate(
            [
                np.where(numbers > 0, np.append(0, old)[numbers], shown)
                for (shown, numbers), old in zip(groups, had_own, strict=True)
            ]
        )
    new = np.flatnonzero(fresh & ~left)
    taken = new[repeated(own[new], own[~fresh | left])]
    if apart and len(taken):
        taken = new  # what has these numbers in other planes are other objects
    own[taken] = new_ids(len(taken))
    return np.split(own, sizes), np.split(left, sizes)


def found_ids(
    stack: LinkedStack, settings: LinkSettings
) -> tuple[list[npt.NDArray[np.int64]], int, int]:
    """Link a stack; return the ids of its pieces, and how many objects are shown and hidden."""
    found: list[npt.NDArray[np.int64]] = []
    objects = hidden = 0
    for overlaps in stack.measured.overlaps:
        part = slice(len(found), len(found) + len(overlaps))
        left, own = stack.left[part], stack.own[part]
        every = link(without(overlaps, left), replace(settings, least_planes=1))
        ids = stable_ids(every, own, settings.least_planes)
        linked = [each[~kept] for each, kept in zip(ids, left, strict=True)]
        shown = np.unique(np.concatenate(linked))
        shown = shown[shown > 0]
        objects += len(shown)
        hidden += every.count - sum(int(kept.sum()) for kept in left) - len(shown)
        for group, kept, numbers in zip(ids, left, own, strict=True):
            group[kept] = numbers[kept]
        found += ids
    return found, objects, hidden


def in_words(stack: LinkedStack) -> str:
    """Say what was linked."""
    one = stack.objects == 1
    parts = [f"{stack.objects:,} object{'' if one else 's'} through the planes."]
    if stack.hidden:
        are = "is" if stack.hidden == 1 else "are"
        parts.append(f"{stack.hidden:,} in fewer planes {are} hidden.")
    left = np.unique(
        np.concatenate(
            [own[kept] for own, kept in zip(stack.own, stack.left, strict=True)]
        )
    )
    if len(left):
        stay = "stays" if len(left) == 1 else "stay"
        parts.append(f"{len(left):,} had one id through planes before, and {stay}.")
    return " ".join(parts)
