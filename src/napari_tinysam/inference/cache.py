"""Embeddings of recently visited planes, in memory."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_tinysam.inference.predictions import Embedding

#: Bytes; some 40 planes: one has 4 MB of embedding, 6 MB computed from it for all prompts, 11 MB of
#: details, and 3 MB of object maps and regions.
DEFAULT_CAPACITY = 1_000_000_000

#: Of the machine's memory, whatever the capacity is.
_SHARE = 0.25


class RecentEmbeddings:
    """Keeps the most recently used embeddings; safe from any thread.

    Parameters
    ----------
    capacity : int
        Bytes that all of them may take. The last one is kept in any case.
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._entries: OrderedDict[Hashable, Embedding] = OrderedDict()
        self._size = 0
        self._lock = Lock()
        self._capacity = capacity

    def __len__(self) -> int:
        """Return how many are held."""
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return self._size

    @property
    def capacity(self) -> int:
        """Bytes that they may take; a smaller number takes effect at once."""
        return self._capacity

    @capacity.setter
    def capacity(self, capacity: int) -> None:
        with self._lock:
            self._capacity = capacity
            self._shrink()

    def get(self, key: Hashable) -> Embedding | None:
        """Find an embedding and count it as used now."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key]

    def __contains__(self, key: Hashable) -> bool:
        """Whether there is such an embedding; asking does not count as use."""
        return key in self._entries

    def put(self, key: Hashable, embedding: Embedding) -> None:
        """Keep an embedding; remove the least recently used if all take too much."""
        with self._lock:
            before = self._entries.pop(key, None)
            if before is not None:
                self._size -= before.nbytes
            self._entries[key] = embedding
            self._size += embedding.nbytes
            self._shrink()

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()
            self._size = 0

    def _shrink(self) -> None:
        while self._size > self._capacity and len(self._entries) > 1:
            _, oldest = self._entries.popitem(last=False)
            self._size -= oldest.nbytes


def suitable_capacity(wanted: int = DEFAULT_CAPACITY) -> int:
    """Return how many bytes of embeddings this machine should hold at most.

    Parameters
    ----------
    wanted : int
        Bytes, as the user has chosen.
    """
    memory = _machine_memory()
    return wanted if memory is None else min(wanted, int(memory * _SHARE))


def _machine_memory() -> int | None:
    """Bytes of the machine's memory; None if the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no such call
        return None
