"""Reading files without what readers log and warn about: their errors are raised.

Loggers, warnings' filters and Pillow's limit belong to the whole process, while files are read on
several threads and other programs' code runs beside them. Nothing is therefore set for a while and
set back: what is put in stays, and lets everything pass where nobody reads. Only Pillow's limit, a
plain number, is set by the first reader and set back by the last.
"""

from __future__ import annotations

import logging
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Planes with more pixels are refused: on the model's frame of 1024 pixels nothing is left of them.
MAX_PIXELS = 2**30

# Pillow warns of more pixels, and refuses twice as many.
_PILLOW_LIMIT = MAX_PIXELS // 2


class _Thread(threading.local):
    readers = 0  # blocks of `read_quietly` that this thread is in


class _Readers:
    """How many there are in the process, and what Pillow's limit was before the first."""

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
    """Any category of warnings, for threads that read; none for others."""


class _NotWhileReading(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        # In the whole process: tifffile decodes on threads of its own.
        return not _readers.count


_log_filter = _NotWhileReading()


@contextmanager
def read_quietly() -> Iterator[None]:
    """Read files within the block; any thread may, at any time.

    tifffile logs nothing meanwhile, warnings of this thread are ignored, and Pillow opens pictures
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
        # Others may have put theirs before it, or removed all.
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
        # What another program set meanwhile is its own.
        if not _readers.count and Image.MAX_IMAGE_PIXELS == _PILLOW_LIMIT:
            Image.MAX_IMAGE_PIXELS = _readers.limit_before
