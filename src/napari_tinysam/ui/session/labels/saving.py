"""Saving labels to files, and knowing which layers have unsaved changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import FileError, sentence
from napari_tinysam.files.atomic import replacing
from napari_tinysam.files.label_store import LabelStore
from napari_tinysam.files.mark import FileMark, mark_of
from napari_tinysam.files.writing import unsigned_labels
from napari_tinysam.journal.provenance import provenance_file
from napari_tinysam.ui.session.in_order import InOrder
from napari_tinysam.ui.session.labels.autosave import Autosave, ChangedElsewhereError
from napari_tinysam.ui.session.labels.edits import full_data
from napari_tinysam.ui.session.worker import Inference, Lane

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Image, Labels

    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.journals.provenances import Provenances
    from napari_tinysam.ui.session.journals.recording import Recording
    from napari_tinysam.ui.state.images import Memory

#: Labels of more bytes save themselves without a copy: one would hold up the window.
_COPIED_AT_ONCE = 2**26

_Describe = Callable[[Any, Path], str]


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
        #: Describes how labels came to be, if `with_provenance`.
        self.provenances: Provenances | None = None
        self.with_provenance = False
        self.autosave = Autosave(self, inference.post, notify)

    def changed(self, layer: Labels) -> None:
        """Note that labels differ from their file; labels on disk save themselves."""
        self._memory.versions[layer] = self.version(layer) + 1
        if not type(layer.data).__module__.startswith("zarr."):
            self._memory.changes[layer] = self._memory.changes.get(layer, 0) + 1
            self.autosave.changed(layer)

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

    def unsaved(self) -> list[Labels]:
        """List the layers that differ from their files."""
        return [layer for layer, count in self._memory.changes.items() if count]

    def changed_elsewhere(self, layer: Labels) -> bool:
        """Whether another program has changed the file of a layer since it was written here."""
        path, mark = self.file_of(layer), self._memory.marks.get(layer)
        if path is None or mark is None:
            return False
        return mark_of(path) not in (None, mark)

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

        def failed(error: Exception) -> None:
            self._notify("error", sentence(error, f"{layer.name} was not saved"))
            if then is not None:
                then(False)

        def saved() -> None:
            self.autosave.saved(layer)
            if then is None:
                self._notify("info", f"Saved {layer.name} as {path}.")

        def told() -> None:
            if then is not None:
                then(True)

        # A copy, if there is room for one: the user goes on while it is written.
        self._submit(layer, path, _plain(layer), None, saved, failed, told)

    def save_quietly(
        self, layer: Labels, path: Path, on_failed: Callable[[Exception, str], None]
    ) -> None:
        """Write a layer into its file, unless another program has changed that.

        Parameters
        ----------
        layer : napari.layers.Labels
        path : Path
        on_failed : callable
            Called with the error, and with a sentence about it.
        """
        mark = self._memory.marks.get(layer) if self.file_of(layer) == path else None
        data = full_data(layer)
        small = not isinstance(data, np.ndarray) or data.nbytes <= _COPIED_AT_ONCE
        labels = _plain(layer) if small else None
        self._submit(
            layer,
            path,
            labels,
            lambda: _check_own(path, mark),
            lambda: None,
            lambda error: on_failed(
                error, sentence(error, f"{layer.name} cannot save itself")
            ),
        )

    def _submit(
        self,
        layer: Labels,
        path: Path,
        labels: npt.NDArray[Any] | LabelStore | None,
        check: Callable[[], None] | None,
        on_saved: Callable[[], None],
        on_failed: Callable[[Exception], None],
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Write labels in the background; None: copied there, maybe while they change."""
        at = self._memory.changes.get(layer, 0)
        through, describe = self._through(layer), self._describer(layer)

        def write() -> FileMark | None:
            if check is not None:
                check()
            return _write(path, _plain(layer) if labels is None else labels, describe)

        def done(mark: FileMark | None) -> None:
            left = max(0, self._memory.changes.get(layer, 0) - at)
            self._note(layer, path, mark, through, left)
            on_saved()
            if left:
                self.autosave.changed(layer)
            self._on_change()
            then()

        self._queue.submit(write, done, on_failed)

    def save_now(self, layer: Labels, path: Path) -> bool:
        """Write a layer into a file and wait for it; return whether that worked."""
        through = self._through(layer)
        try:
            mark = _write(path, _plain(layer), self._describer(layer))
        except (FileError, OSError, ValueError) as error:
            self._notify("error", sentence(error, f"{layer.name} was not saved"))
            return False
        self._note(layer, path, mark, through, 0)
        self.autosave.saved(layer)
        return True

    def _note(
        self,
        layer: Labels,
        path: Path,
        mark: FileMark | None,
        through: int,
        changes: int,
    ) -> None:
        """Remember that a layer is in a file, but for some changes."""
        self._memory.files[layer] = path
        if mark is not None:
            self._memory.marks[layer] = mark
        self._memory.changes[layer] = changes
        if self.recording is not None:
            self.recording.saved(layer, path, through)

    def _describer(self, layer: Labels) -> _Describe | None:
        """Return what describes how a layer came to be, if the user wants that."""
        if not self.with_provenance or self.provenances is None:
            return None
        return self.provenances.prepare(layer)

    def _through(self, layer: Labels) -> int:
        return 0 if self.recording is None else self.recording.through(layer)


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
    return unsigned_labels(np.array(data))


def _check_own(path: Path, mark: FileMark | None) -> None:
    """Raise if there is a file that is not the one with this mark."""
    if mark_of(path) not in (None, mark):
        raise ChangedElsewhereError(f"Another program has changed {path.name}.")


def _write(
    path: Path, labels: npt.NDArray[Any] | LabelStore, describe: _Describe | None
) -> FileMark | None:
    """Write labels and, beside them, how they came to be: both or none."""
    if describe is None:
        _write_labels(path, labels)
        return mark_of(path)
    text = describe(labels, path)
    # The labels get their name first: without them the description would be wrong.
    with replacing(provenance_file(path)) as file:
        file.write(text.encode())
        file.flush()
        _write_labels(path, labels)
    return mark_of(path)


def _write_labels(path: Path, labels: npt.NDArray[Any] | LabelStore) -> None:
    from napari_tinysam.files.writing import label_axes, write_label_stack

    axes = label_axes(len(labels.shape))
    if isinstance(labels, LabelStore):
        labels.write_tiff(path, axes)
    else:
        write_label_stack(path, labels, axes)
