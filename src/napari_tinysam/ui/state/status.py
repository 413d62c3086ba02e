"""What the session is doing or waiting for, for programs and for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class StatusKind(Enum):
    """What the session is doing or waiting for."""

    NO_IMAGE = "no image"
    LOADING_MODEL = "loading the model"
    DOWNLOADING = "downloading"
    EMBEDDING = "embedding"
    SEGMENTING = "auto-segmenting"
    LINKING = "linking"
    READY = "ready"
    CANCELLED = "cancelled"
    VIEW_3D = "3D view"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"


_BUSY = (
    StatusKind.LOADING_MODEL,
    StatusKind.DOWNLOADING,
    StatusKind.EMBEDDING,
    StatusKind.SEGMENTING,
    StatusKind.LINKING,
)

#: Runs beside what else the session does.
BESIDE = (StatusKind.SEGMENTING, StatusKind.LINKING)


@dataclass(frozen=True)
class Status:
    """What to tell the user.

    Parameters
    ----------
    kind : StatusKind
        For programs.
    text : str
        For people.
    fraction : float, optional
        How much is done, 0–1, where that is known.
    first_time : bool
        Whether it takes longer than it will at later starts.
    """

    kind: StatusKind
    text: str = ""
    fraction: float | None = None
    first_time: bool = False

    @property
    def busy(self) -> bool:
        """Whether something runs that the user waits for."""
        return self.kind in _BUSY
