"""The labels and the earlier actions, in one file that is written whole or not at all.

A line of JSON says what follows: actions as lines, the last ones with what they changed and what
was there before, then compressed chunks of the labels. Everything has a check.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from napari_tinysam.files.atomic import replacing
from napari_tinysam.journal.lines import (
    FORMAT,
    About,
    Action,
    DamagedError,
    action_line,
    checked,
    read_action,
    size_of,
    unchecked,
)
from napari_tinysam.journal.sparse import SparseLabels

#: Actions that are kept; the oldest go first.
_MOST_ACTIONS = 20_000

#: Bytes of compressed labels that these may keep for undo: steps further back are cut.
_MOST_BYTES = 2**23


class Snapshot(NamedTuple):
    """Labels, what was done before, and the ids that are not saved."""

    labels: SparseLabels
    actions: list[Action]
    unsaved: set[int]


def write_snapshot(path: Path, snapshot: Snapshot) -> int:
    """Write a snapshot; returns its size in bytes.

    Raises
    ------
    FileError
        If that fails; an older file of that name stays.
    """
    dtype = snapshot.labels.dtype
    actions = shortened(snapshot.actions[-_MOST_ACTIONS:], _MOST_BYTES)
    lines = b"".join(action_line(action, dtype) for action in actions)
    told = zlib.compress(lines, 6)
    chunks = snapshot.labels.packed_chunks()
    head = checked(
        {
            "format": FORMAT,
            "unsaved": sorted(snapshot.unsaved),
            "actions": [len(told), zlib.crc32(told)],
            "chunks": [
                [list(index), len(content), zlib.crc32(content)]
                for index, content in chunks.items()
            ],
        }
    )
    with replacing(path) as file:
        file.write(head)
        file.write(told)
        for content in chunks.values():
            file.write(content)
        file.flush()
        os.fsync(file.fileno())  # renamed once it is on the disk, not before
        return file.tell()


def shortened(actions: Sequence[Action], limit: int) -> list[Action]:
    """Leave out the windows of actions before the last ones that fit into a number of bytes."""
    left, kept = limit, []
    for action in reversed(actions):
        if action.windows and not action.cut:
            left -= sum(size_of(each) for each in (*action.windows, *action.before))
        if left < 0 and action.windows:
            action = replace(action, windows=(), before=(), cut=True)
        kept.append(action)
    return kept[::-1]


def read_snapshot(path: Path, about: About) -> tuple[Snapshot, int]:
    """Read a snapshot.

    Returns
    -------
    snapshot : Snapshot
    damaged : int
        Parts that could not be read; they are background, or missing actions.

    Raises
    ------
    DamagedError
        If it is none.
    OSError
        If it cannot be read.
    """
    content = path.read_bytes()
    end = content.find(b"\n")
    head = unchecked(content[: max(end, 0)])
    if head.get("format") != FORMAT:
        raise DamagedError("The snapshot has another form.")
    chunks: dict[tuple[int, ...], bytes] = {}
    damaged, at = 0, end + 1
    try:
        unsaved = {int(each) for each in head["unsaved"]}
        length, check = head["actions"]
        actions, missing = _actions(content[at : at + length], check, about)
        damaged += missing
        at += length
        for index, length, check in head["chunks"]:
            part = content[at : at + length]
            at += length
            if zlib.crc32(part) == check and _fits(index, about):
                chunks[tuple(index)] = part
            else:
                damaged += 1
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise DamagedError("The snapshot does not say what is in it.") from error
    labels = SparseLabels(about.shape, about.dtype, chunks)
    return Snapshot(labels, actions, unsaved), damaged


def _actions(content: bytes, check: int, about: About) -> tuple[list[Action], int]:
    if zlib.crc32(content) != check:
        return [], 1
    lines = zlib.decompress(content).splitlines()
    return [read_action(line, about) for line in lines], 0


def _fits(index: Any, about: About) -> bool:
    """Whether there is such a chunk."""
    shape = SparseLabels(about.shape, about.dtype)
    return (
        len(index) == len(about.shape)
        and all(isinstance(at, int) and at >= 0 for at in index)
        and all(length > 0 for length in shape.chunk_shape(tuple(index)))
    )
