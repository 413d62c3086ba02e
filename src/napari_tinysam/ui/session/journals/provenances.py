"""What is written beside the labels: how each object came to be."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import napari_tinysam
from napari_tinysam.errors import FileError
from napari_tinysam.journal.lines import About
from napari_tinysam.journal.provenance import (
    Provenance,
    alone,
    collect,
    joined,
    provenance_file,
)
from napari_tinysam.journal.provenance_file import read_provenance, to_text
from napari_tinysam.journal.sparse import SparseLabels
from napari_tinysam.ui.session.journals.layer_journals import identity_reader
from napari_tinysam.ui.session.labels.edits import full_data
from napari_tinysam.ui.state.planes import full_shape

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_tinysam.journal.folder import HeldJournal
    from napari_tinysam.ui.state.images import Memory


class Provenances:
    """Makes the provenance of labels when they are saved.

    Parameters
    ----------
    memory : Memory
        Holds the journals.
    through : callable
        Returns the number of the last action on a layer.
    image : callable
        Returns the image of a layer; None without one.
    """

    def __init__(
        self,
        memory: Memory,
        through: Callable[[Labels], int],
        image: Callable[[Labels], Image | None],
    ) -> None:
        self._memory = memory
        self._through = through
        self._image = image
        #: What was done in earlier sessions to labels that a journal begins with.
        self._earlier: weakref.WeakKeyDictionary[HeldJournal, Provenance | None] = (
            weakref.WeakKeyDictionary()
        )

    def prepare(self, layer: Labels) -> Callable[[Any, Path], str] | None:
        """Prepare to describe a layer as it is now.

        Returns
        -------
        callable or None
            ``text(labels, path)`` returns the text of the provenance of a file; for any thread. The
            labels are those of the layer at this moment, without axes that channels share. None if
            the image is gone.
        """
        image = self._image(layer)
        if image is None:
            return None
        identity = identity_reader(image)
        through, journal = self._through(layer), self._memory.journals.get(layer)
        data, shape, name = full_data(layer), full_shape(layer), layer.name
        dtype = np.dtype(data.dtype).newbyteorder("<").str
        shared = shared_axes(data, layer.ndim)

        def text(labels: Any, path: Path) -> str:
            if isinstance(labels, np.ndarray):
                labels = np.broadcast_to(np.expand_dims(labels, shared), shape)
            kept = SparseLabels.of(labels, shape, dtype)
            if journal is None:
                version = napari_tinysam.__version__
                about = About(identity(), name, shape, dtype, time.time(), version)
                told = alone(about, kept, shared_axes=shared)
            else:
                journal.flush()
                told = collect(journal.folder, kept, through, shared_axes=shared)
            told = self._with_earlier(journal, told, provenance_file(path))
            told.labels_file = path.name
            return to_text(told)

        return text

    def _with_earlier(
        self, journal: HeldJournal | None, told: Provenance, path: Path
    ) -> Provenance:
        """Put what the file beside the labels tells of earlier sessions before what is told."""
        known = journal is not None and journal in self._earlier
        earlier = self._earlier[journal] if journal is not None and known else None
        if not known:
            try:
                earlier = read_provenance(path)
            except FileError:
                earlier = None
        both = None if earlier is None else joined(earlier, told, known=known)
        if journal is not None:
            self._earlier[journal] = None if both is None else earlier
        return told if both is None else both


def shared_axes(data: Any, ndim: int) -> tuple[int, ...]:
    """Return the axes along which labels share their memory: those of channels."""
    if not isinstance(data, np.ndarray):
        return ()
    return tuple(axis for axis in range(ndim - 1) if data.strides[axis] == 0)
