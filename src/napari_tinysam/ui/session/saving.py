"""Saving labels to files, and knowing which layers have unsaved changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import FileError, sentence
from napari_tinysam.files.label_store import LabelStore
from napari_tinysam.ui.session.in_order import InOrder
from napari_tinysam.ui.session.label_edits import full_data
from napari_tinysam.ui.session.worker import Inference, Lane

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Image, Labels

    from napari_tinysam.ui.session.loading import Notify
    from napari_tinysam.ui.session.recording import Recording
    from napari_tinysam.ui.state.images import Memory

#: Letters of a TIFF file's axes, from the last.
_AXES = "TZYX"


class Saving:
    """Writes labels into files beside their images, and counts unsaved changes.

    Parameters
    ----------
    inference : Inference
        Where files are written.
    memory : Memory
        Of the viewer: which layers have unsaved changes, and the file of each.
    notify : callable
        ``notify(level, text)``.
    on_change : callable
        Called when the saved state of a layer changed.
    """

    def __init__(
        self,
        inference: Inference,
        memory: Memory,
        notify: Notify,
        on_change: Callable[[], None],
    ) -> None:
        self._queue = InOrder(inference, Lane.SAVE)
        self._memory = memory
        self._notify = notify
        self._on_change = on_change
        #: Told of what is saved.
        self.recording: Recording | None = None

    def changed(self, layer: Labels) -> None:
        """Note that labels differ from their file; labels on disk save themselves."""
        self._memory.versions[layer] = self.version(layer) + 1
        if not type(layer.data).__module__.startswith("zarr."):
            self._memory.changes[layer] = self._memory.changes.get(layer, 0) + 1

    def version(self, layer: Labels) -> int:
        """Return a number that grows with each change of a layer."""
        return self._memory.versions.get(layer, 0)

    def is_saved(self, layer: Labels | None) -> bool:
        """Whether removing a layer would lose nothing."""
        return layer is None or not self._memory.changes.get(layer)

    def file_of(self, layer: Labels) -> Path | None:
        """Return the file that a layer was saved to; None if the user must be asked."""
        return self._memory.files.get(layer)

    def suggestion(self, layer: Labels, image: Image | None) -> Path:
        """Return the file to suggest: beside the image, called after it."""
        own, source = layer.source.path, None if image is None else image.source.path
        if own is not None and Path(own).suffix.lower() in (".tif", ".tiff"):
            return Path(own)
        if source is not None and Path(source).parent.is_dir():
            path = Path(source)
            return path.with_name(f"{_stem(path)}_labels.tif")
        name = layer.name if image is None else image.name
        safe = "".join("_" if letter in '/\\:*?"<>|' else letter for letter in name)
        return Path.home() / f"{safe}_labels.tif"

    def save(
        self, layer: Labels, path: Path, then: Callable[[bool], None] | None = None
    ) -> None:
        """Write a layer into a file in the background, and remember the file for later saves.

        Parameters
        ----------
        layer : napari.layers.Labels
        path : Path
        then : callable, optional
            Called with whether it was written, instead of telling the user that it was.
        """
        # A copy, if there is room for one: the user goes on while it is written.
        labels = _plain(layer)
        at = self._memory.changes.get(layer, 0)
        through = self._through(layer)

        def done(_: Any) -> None:
            self._memory.files[layer] = path
            self._memory.changes[layer] = max(
                0, self._memory.changes.get(layer, 0) - at
            )
            self._saved(layer, path, through)
            if then is None:
                self._notify("info", f"Saved {layer.name} as {path}.")
            self._on_change()
            if then is not None:
                then(True)

        def failed(error: Exception) -> None:
            self._notify("error", sentence(error, f"{layer.name} was not saved"))
            if then is not None:
                then(False)

        self._queue.submit(lambda: _write(path, labels), done, failed)

    def save_now(self, layer: Labels, path: Path) -> bool:
        """Write a layer into a file and wait for it; return whether that worked."""
        through = self._through(layer)
        try:
            _write(path, _plain(layer))
        except (FileError, OSError, ValueError) as error:
            self._notify("error", sentence(error, f"{layer.name} was not saved"))
            return False
        self._memory.files[layer] = path
        self._memory.changes[layer] = 0
        self._saved(layer, path, through)
        return True

    def _through(self, layer: Labels) -> int:
        return 0 if self.recording is None else self.recording.through(layer)

    def _saved(self, layer: Labels, path: Path, through: int) -> None:
        if self.recording is not None:
            self.recording.saved(layer, path, through)


def _stem(path: Path) -> str:
    """Name of a file without its format's ending: ".ome.tif" is one ending."""
    stem = path.stem
    return stem[:-4] if stem.lower().endswith(".ome") else stem


def _plain(layer: Labels) -> npt.NDArray[Any] | LabelStore:
    """Copy a layer's labels for a file: unsigned, and only once if channels share them.

    Labels that are kept on disk are not copied.
    """
    data = full_data(layer)
    if isinstance(data, LabelStore):
        return data
    for axis in range(layer.ndim - 2, -1, -1):
        if isinstance(data, np.ndarray) and data.strides[axis] == 0:
            data = data.take(0, axis)
    labels = np.array(data)
    highest = int(labels.max(initial=0))
    if labels.dtype == bool:
        return labels.astype(np.uint8)
    if labels.dtype.kind == "u" and labels.dtype.itemsize <= 4:
        return labels
    if int(labels.min(initial=0)) < 0 or highest > np.iinfo(np.uint32).max:
        return labels
    return labels.astype(np.uint32)


def _write(path: Path, labels: npt.NDArray[Any] | LabelStore) -> None:
    from napari_tinysam.files.writing import write_label_stack

    unknown = "Q" * max(0, labels.ndim - len(_AXES))
    axes = unknown + _AXES[-labels.ndim :]
    if isinstance(labels, LabelStore):
        labels.write_tiff(path, axes)
    else:
        write_label_stack(path, labels, axes)
