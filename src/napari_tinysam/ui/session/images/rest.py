"""Auto-segmentation of the images of a list that are not done, as files beside the viewer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tinysam.batch.jobs import jobs_for
from napari_tinysam.ui.session.images.files import note_label_files
from napari_tinysam.ui.state.image_list import EntryState, ImageEntry

if TYPE_CHECKING:
    from napari_tinysam.everything import LabelSettings
    from napari_tinysam.ui.session.auto.files_run import FilesRun, ModelChoice
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.images.image_list import ListedImages
    from napari_tinysam.ui.state.image_list import ImageList

#: Images that are named in a sentence.
_NAMED = 3

#: Letters of the paths that one command takes.
_LETTERS = 20_000


@dataclass(frozen=True)
class Rest:
    """What is not done.

    Attributes
    ----------
    runs : tuple of (Path, tuple of Path)
        Folders that labels go into, and the images that are segmented into them at once.
    elsewhere : tuple of ImageEntry
        Left out: they have labels in a file of another program, or in another folder.
    doubled : tuple of ImageEntry
        Left out: images that are done have the same name.
    """

    runs: tuple[tuple[Path, tuple[Path, ...]], ...] = ()
    elsewhere: tuple[ImageEntry, ...] = ()
    doubled: tuple[ImageEntry, ...] = ()

    @property
    def count(self) -> int:
        """Return how many images can be segmented."""
        return sum(len(paths) for _, paths in self.runs)

    @property
    def left_out(self) -> str:
        """Which images are left out, and why, in sentences; "" if none are."""
        parts = []
        if self.elsewhere:
            names = _names([e.labels.name for e in self.elsewhere if e.labels])
            parts.append(f"Left out, as they have labels already: {names}.")
        if self.doubled:
            names = _names([entry.name for entry in self.doubled])
            parts.append(f"Left out, as another image has the same name: {names}.")
        return " ".join(parts)


def rest_of(images: ImageList, current: ImageEntry | None) -> Rest:
    """Find what is not done and can be segmented as files.

    Labels that another program has made would be hidden by ours, so these images are left out.

    Parameters
    ----------
    images : ImageList
    current : ImageEntry or None
        The image that is open: it is left to the viewer.
    """
    wanted: dict[Path, list[ImageEntry]] = {}
    elsewhere, doubled = [], []
    for entry in images.entries:
        own = images.labels_file(entry)
        done = entry.state is EntryState.DONE or bool(entry.problem)
        if done or entry is current or entry.path is None or own is None:
            continue
        if entry.labels not in (None, own):
            elsewhere.append(entry)
        else:
            wanted.setdefault(own.parent, []).append(entry)
    runs = []
    for folder, entries in wanted.items():
        for part in _parts(entries):
            taken = []
            jobs = jobs_for([path for _, path in part], folder)
            for (entry, path), job in zip(part, jobs, strict=True):
                if job.result("_labels.tif") == images.labels_file(entry):
                    taken.append(path)
                else:
                    doubled.append(entry)
            if taken:
                runs.append((folder, tuple(taken)))
    return Rest(tuple(runs), tuple(elsewhere), tuple(doubled))


def _parts(entries: Sequence[ImageEntry]) -> Iterator[list[tuple[ImageEntry, Path]]]:
    """Give images with their paths, so many at a time as fit into a command."""
    part: list[tuple[ImageEntry, Path]] = []
    letters = 0
    for entry in entries:
        if entry.path is None:
            continue
        letters += len(str(entry.path)) + 1
        if part and letters > _LETTERS:
            yield part
            part, letters = [], len(str(entry.path)) + 1
        part.append((entry, entry.path))
    if part:
        yield part


class RestOfList:
    """Segments what is not done: one command after the other, if it takes several.

    Parameters
    ----------
    listed : ListedImages
    files : FilesRun
        Does the work; its progress is theirs.
    notify : callable
        ``notify(level, text)``.

    Attributes
    ----------
    running : bool
        Whether it goes on.
    begun : bool
        Whether the last files that were segmented were images of a list.
    """

    def __init__(self, listed: ListedImages, files: FilesRun, notify: Notify) -> None:
        self._listed = listed
        self._files = files
        self._notify = notify
        self._runs: list[tuple[Path, tuple[Path, ...]]] = []
        self._how: tuple[ModelChoice, LabelSettings | None] | None = None
        self.running = self.begun = False
        files.changed.connect(self._files_changed)

    def close(self) -> None:
        """Begin nothing more."""
        self._files.changed.disconnect(self._files_changed)

    def look(self) -> Rest:
        """Find what would be segmented now."""
        images = self._listed.images
        return Rest() if images is None else rest_of(images, self._listed.current)

    def run(self, model: ModelChoice, settings: LabelSettings | None) -> None:
        """Segment all images of the list that are not done, but the open one.

        Parameters
        ----------
        model : ModelChoice
        settings : LabelSettings, optional
            Which proposals become objects; the model's own choice by default.
        """
        if self._files.running:
            self._notify("info", "Files are being segmented already.")
            return
        if self._listed.images is not None:
            note_label_files(self._listed.images)
        rest = self.look()
        if rest.left_out:
            self._notify("info", f"{rest.left_out} Open them to go on with these.")
        if not rest.count:
            self._notify(
                "info",
                "There is no other image in the list that is not done and has no labels.",
            )
            return
        self._runs, self._how = list(rest.runs), (model, settings)
        self._next()

    def _next(self) -> None:
        if not self._runs or self._how is None:
            return
        folder, paths = self._runs.pop(0)
        self._files.choose(paths)
        self._files.set_output(folder)
        self._files.run(*self._how)
        self.running = self.begun = self._files.running
        self._files.changed.emit()  # now they are those of the list

    def _files_changed(self) -> None:
        if not self.running:
            self.begun = self.begun and not self._files.running
        if not self.running or self._files.running:
            return
        self.running = False
        self._listed.look_for_labels()
        if not self._files.cancelled:
            self._next()


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
