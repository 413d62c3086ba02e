"""A session whose journal can be read, and that can crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from desk import Desk, open_desk
from fake_inference import QueuedInference
from napari_tinysam.journal.folder import Journals
from napari_tinysam.journal.reading import Recovered, labels_of, read_journal


def open_queued(*layers: Any) -> Desk:
    desk = open_desk(*layers, inference=QueuedInference())
    desk.inference.turn()
    return desk


def commit(desk: Desk, x: float, y: float) -> None:
    desk.click(x, y)
    desk.session.commit()
    desk.inference.turn()


def places() -> list[Path]:
    folder = Journals().folder
    return sorted(folder.iterdir()) if folder.exists() else []


def kept(desk: Desk) -> Recovered:
    """Read the journal of the labels as a crash at this moment would leave it."""
    target = desk.session.target
    assert target is not None
    journal = desk.session._parts.subject.memory.journals[target]
    assert journal.flush()
    return read_journal(journal.folder)


def crash(desk: Desk) -> np.ndarray:
    """Let a session end without being asked; return its labels."""
    target = desk.session.target
    assert target is not None
    labels = np.array(target.data)
    desk.session.close(window_is_gone=True)
    return labels


def same(desk: Desk) -> bool:
    target = desk.session.target
    assert target is not None
    return np.array_equal(labels_of(kept(desk)), np.array(target.data))
