"""Embeddings of recently visited planes, in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_tinysam.inference.predictions import Embedding


class RecentEmbeddings:
    """Keeps the most recently used embeddings; safe from any thread.

    Parameters
    ----------
    capacity : int
        How many to keep. One is 23 MB: 4 MB for the embedding, 6 MB computed from it for all
        prompts, 6 MB for details, 4 MB for object maps and regions, and 3 MB for pixels. The
        default stays within 1.1 GB.
    """

    def __init__(self, capacity: int = 48) -> None:
        if capacity < 1:
            raise ValueError("The cache must hold at least one embedding.")
        self.capacity = capacity
        self._entries: OrderedDict[Hashable, Embedding] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        """Return how many are held."""
        return len(self._entries)

    def get(self, key: Hashable) -> Embedding | None:
        """Find an embedding and count it as used now."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key]

    def put(self, key: Hashable, embedding: Embedding) -> None:
        """Keep an embedding; remove the least recently used if there are too many."""
        with self._lock:
            self._entries[key] = embedding
            self._entries.move_to_end(key)
            while len(self._entries) > self.capacity:
                self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()
