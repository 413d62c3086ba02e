"""Read files without the readers' logs and warnings; errors are still raised.

Loggers, warning filters and Pillow's limit belong to the whole process, but files are read on
several threads beside other code. So filters are installed once, stay, and let everything pass
unless a file is being read. Only Pillow's limit, a plain number, is set by the first reader and
reset by the last.
"""

from __future__ import annotations

import logging
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Planes with more pixels are refused: too little of them is left on the model's frame.
MAX_PIXELS = 2**30

# Pillow warns above this limit, and refuses twice as many pixels.
_PILLOW_LIMIT = MAX_PIXELS // 2


class _Thread(threading.local):
    readers = 0  # blocks of `read_quietly` that this thread is in


class _Readers:
    """Number of readers in the process, and Pillow's limit before the first one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.limit_before: int | None = None


_thread = _Thread()
_readers = _Readers()


class _WhileReading(type):
    def __subclasscheck__(cls, category: type) -> bool:
        return _thread.readers > 0


class _ReadersWarning(Warning, metaclass=_WhileReading):
    """Matches every warning on threads that read a file, none on others."""


class _NotWhileReading(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        # Not by thread: tifffile decodes on its own threads.
        return not _readers.count


_log_filter = _NotWhileReading()


@contextmanager
def read_quietly() -> Iterator[None]:
    """Read files within the block; any thread may, at any time.

    Meanwhile tifffile logs nothing, warnings on this thread are ignored, and Pillow opens pictures
    of up to `MAX_PIXELS`.
    """
    _begin()
    try:
        yield
    finally:
        _end()


def _begin() -> None:
    from PIL import Image

    with _readers.lock:
        # Other code may have put a filter before ours, or removed all.
        if not warnings.filters or warnings.filters[0][2] is not _ReadersWarning:
            warnings.simplefilter("ignore", _ReadersWarning)
        logging.getLogger("tifffile").addFilter(_log_filter)  # once
        if not _readers.count:
            _readers.limit_before = Image.MAX_IMAGE_PIXELS
            Image.MAX_IMAGE_PIXELS = _PILLOW_LIMIT
        _readers.count += 1
    _thread.readers += 1


def _end() -> None:
    from PIL import Image

    _thread.readers -= 1
    with _readers.lock:
        _readers.count -= 1
        # A limit that other code set meanwhile stays.
        if not _readers.count and Image.MAX_IMAGE_PIXELS == _PILLOW_LIMIT:
            Image.MAX_IMAGE_PIXELS = _readers.limit_before
