"""Labels that a run over many planes writes: packed, so that undo takes all of them back at once.

Only free pixels are written, and only what is still there is taken back, so nothing has to be
kept of what was there before. napari's own undo would keep 32 bytes for each pixel.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.ui.session.labels.edits import belonging_to, put_ids, read_ids
from napari_tinysam.ui.session.labels.writing_queue import WritingQueue

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Labels

    from napari_tinysam.ui.session.labels.writing_queue import OnWritten, Post
    from napari_tinysam.ui.state.planes import Plane

#: Pixels of a piece: reading, comparing and writing it takes some milliseconds.
_PIECE = 2**21


@dataclass(frozen=True, eq=False)
class Packed:
    """Some rows of the labels of a plane, compressed.

    Parameters
    ----------
    y0 : int
        The first row.
    shape : (int, int)
    content : bytes
        int32; 0 is background, the objects of the plane are counted from 1.
    """

    y0: int
    shape: tuple[int, int]
    content: bytes

    @classmethod
    def of(cls, y0: int, labels: npt.NDArray[np.int32]) -> Packed:
        """Compress rows, (h, W), the first of which is `y0`."""
        content = zlib.compress(np.ascontiguousarray(labels).tobytes(), 1)
        return cls(y0, (labels.shape[0], labels.shape[1]), content)

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """The labels, (h, W)."""
        flat = np.frombuffer(zlib.decompress(self.content), np.int32)
        return flat.reshape(self.shape)


def packed(labels: npt.NDArray[np.int32], pixels: int = _PIECE) -> list[Packed]:
    """Compress the labels of a plane, (H, W), in pieces; rows without objects are left out.

    Parameters
    ----------
    labels : ndarray of int32, (H, W)
    pixels : int
        Most pixels of a piece, as far as rows can be divided.
    """
    rows = max(1, pixels // max(labels.shape[1], 1))
    pieces = []
    for start in range(0, len(labels), rows):
        part = labels[start : start + rows]
        inside = np.flatnonzero(part.any(axis=1))
        if inside.size:
            y0, y1 = int(inside[0]), int(inside[-1]) + 1
            pieces.append(Packed.of(start + y0, part[y0:y1]))
    return pieces


@dataclass(eq=False)
class _Piece:
    """Rows of a plane of the layer, and whether they are written now."""

    plane: Plane
    first: int  # ids of the first and the last object of the plane
    last: int
    rows: Packed
    written: bool = False


class Filling:
    """What a run writes into one labels layer: one step of undo, written through a `WritingQueue`.

    Parameters
    ----------
    layer : napari.layers.Labels
    post : callable
        Runs a callable soon on the session's thread.
    on_written : callable
        Called with the layer and its planes after some of them were written or taken back.

    Attributes
    ----------
    applied : bool
        Whether it is meant to be in the layer: False after undo.
    """

    def __init__(self, layer: Labels, post: Post, on_written: OnWritten) -> None:
        self.layer = layer
        self.applied = True
        self._pieces: list[_Piece] = []
        self._queue = WritingQueue(layer, self._write, post, on_written)

    def attach(self, post: Post, on_written: OnWritten) -> None:
        """Report to another session: the dock may have been closed and opened again."""
        self._queue.attach(post, on_written)

    def finish(self) -> None:
        """Write or take back at once what still waits."""
        self._queue.finish()

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(len(piece.rows.content) for piece in self._pieces)

    @property
    def highest(self) -> int:
        """The largest id."""
        return max((piece.last for piece in self._pieces), default=0)

    def add(self, plane: Plane, ids: range, rows: list[Packed]) -> None:
        """Write the objects of a plane of the layer; these are their ids."""
        pieces = [_Piece(plane, ids.start, ids.stop - 1, each) for each in rows]
        self._pieces += pieces
        self._queue.add(pieces)

    def apply(self) -> bool:
        """Write everything again, where nothing else is; return whether there is anything."""
        return self._turn(True)

    def revert(self) -> bool:
        """Take back what is still there; return whether there is anything."""
        return self._turn(False)

    def _turn(self, applied: bool) -> bool:
        self.applied = applied
        return self._queue.replace(
            piece for piece in self._pieces if piece.written is not applied
        )

    def _write(self, piece: _Piece) -> Plane | None:
        if piece.written is self.applied:
            return None
        with belonging_to(self):
            _write(self.layer, piece, self.applied)
        piece.written = self.applied
        return piece.plane


def _write(layer: Labels, piece: _Piece, apply: bool) -> None:
    """Write a piece where the layer is free, or remove it where it still is."""
    labels, plane = piece.rows.labels, piece.plane
    rows = slice(piece.rows.y0, piece.rows.y0 + len(labels))
    now = read_ids(layer, plane, rows)
    ids = np.where(labels > 0, labels + (piece.first - 1), 0).astype(now.dtype)
    where = (labels > 0) & (now == (0 if apply else ids))
    if where.any():
        after = np.where(where, ids if apply else 0, now).astype(now.dtype)
        put_ids(layer, plane, rows, slice(None), now, after)
