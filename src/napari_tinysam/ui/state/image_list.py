"""The list of images that are annotated one after the other: which, how far, what comes next.

Neither Qt nor napari is needed to read it: training from the dock does so as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tinysam.errors import FileError
from napari_tinysam.ui.state.classes import ObjectClass

if TYPE_CHECKING:
    from napari.layers import Image

#: Of the list's file; a newer one is not read.
_VERSION = 1


class EntryState(Enum):
    """How far an image is annotated."""

    NEW = "new"
    #: It has objects, but perhaps not all.
    STARTED = "started"
    #: All objects are annotated: what has no label is background.
    DONE = "done"


@dataclass(eq=False)
class ImageEntry:
    """An image of the list.

    Parameters
    ----------
    name : str
        For people, and the first part of its results' names in another folder; unique in the list.
    path : Path or None
        Its file, or the folder of an OME-Zarr image; None if the pixels are in a layer only.
    layer : napari.layers.Image or None
        Of images that were open before they were listed: they stay in the viewer.
    state : EntryState
    count : int or None
        Objects in its labels; None if nobody has counted.
    labels : Path or None
        The file with its labels, ours or another program's; None while there is none.
    saved : bool
        Whether all of its labels are in that file.
    problem : str
        Why it cannot be opened, in a sentence; "" if nothing is wrong.
    stem : str
        The first part of its results' names beside it, by which training finds them; "": as `name`.
    renames : int
        So many of the list's `renames` its file of classes knows; those after it are still to do.
    """

    name: str
    path: Path | None = None
    layer: Image | None = None
    state: EntryState = EntryState.NEW
    count: int | None = None
    labels: Path | None = None
    saved: bool = True
    problem: str = ""
    stem: str = ""
    renames: int = 0

    def counted(self, count: int) -> None:
        """Note how many objects it has: with the first it is started, without any it is new."""
        self.count = count
        if self.state is not EntryState.DONE:
            self.state = EntryState.STARTED if count else EntryState.NEW


@dataclass(eq=False)
class ImageList:
    """The images, in order, and where the user is.

    Parameters
    ----------
    sources : tuple of Path
        The folders and files that were chosen; none for layers.
    entries : list of ImageEntry
    at : int or None
        Index of the image that is open, or was open last; None before the first.
    folder : Path or None
        Where labels are saved; None: beside each image.
    skip_done : bool
        Whether next and previous pass over images that are done.
    classes : list of ObjectClass
        Of objects, in the order of their digit keys.
    renames : list of (str, str)
        Old and new names of classes, in the order in which they were renamed.
    """

    sources: tuple[Path, ...] = ()
    entries: list[ImageEntry] = field(default_factory=list)
    at: int | None = None
    folder: Path | None = None
    skip_done: bool = True
    classes: list[ObjectClass] = field(default_factory=list)
    renames: list[tuple[str, str]] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Name of the list for people: that of the folder."""
        if not self.sources:
            return "layers"
        first = self.sources[0]
        return first.name if len(self.sources) == 1 else first.parent.name

    @property
    def entry(self) -> ImageEntry | None:
        """The entry that the user is at."""
        return None if self.at is None else self.entries[self.at]

    def count(self, state: EntryState) -> int:
        """Return how many images are in a state."""
        return sum(entry.state is state for entry in self.entries)

    @property
    def done_in_words(self) -> str:
        """That nothing is left to do, with how many images could not be opened."""
        unread = sum(bool(entry.problem) for entry in self.entries)
        but = f", but {unread} that cannot be opened" if unread else ""
        return f"All {len(self.entries)} images are done{but}."

    @property
    def objects(self) -> int:
        """Objects of all images together, as far as they are counted."""
        return sum(entry.count or 0 for entry in self.entries)

    def labelled(self, states: Iterable[EntryState]) -> list[ImageEntry]:
        """Return the entries in one of these states that have labels in a file."""
        wanted = set(states)
        return [e for e in self.entries if e.state in wanted and e.labels is not None]

    def labels_folder(self, entry: ImageEntry) -> Path | None:
        """Return the folder that labels of an entry are saved in; None: nobody has said where."""
        if self.folder is not None:
            return self.folder
        if entry.path is None:
            return None
        from napari_tinysam.files.formats.ome_zarr import field_name

        # A field lies in the folders of its row and column, which are the plate's own affair.
        is_field = field_name(entry.path) is not None
        return entry.path.parents[3 if is_field else 0]

    def labels_file(self, entry: ImageEntry) -> Path | None:
        """Return the file that labels of an entry are saved to; None: nobody has said where."""
        folder = self.labels_folder(entry)
        stem = entry.name if self.folder is not None else entry.stem or entry.name
        return None if folder is None else folder / f"{stem}_labels.tif"

    def step(self, by: int, start: int | None = None) -> int | None:
        """Return the index of the next (``by=1``) or previous (-1) image; None at the end.

        Parameters
        ----------
        by : {1, -1}
        start : int, optional
            Where to begin; from the current image without.
        """
        at = self.at if start is None else start
        index = (-1 if by > 0 else len(self.entries)) if at is None else at
        index += by
        while 0 <= index < len(self.entries):
            if self._is_wanted(self.entries[index]):
                return index
            index += by
        return None

    def next_to_do(self) -> int | None:
        """Return the index of the image to go on with: after this one, else from the beginning.

        None if all are done.
        """
        order = list(range(len(self.entries)))
        if self.at is not None:
            order = order[self.at + 1 :] + order[: self.at]
        for index in order:
            entry = self.entries[index]
            if entry.state is not EntryState.DONE and not entry.problem:
                return index
        return None

    def place_to_go_on(self) -> int | None:
        """Return the index of the image where the user stopped, or the first one to do."""
        entry = self.entry
        if entry is not None and entry.state is not EntryState.DONE:
            return self.at
        following = self.next_to_do()
        return following if following is not None else (self.at or 0)

    def _is_wanted(self, entry: ImageEntry) -> bool:
        if entry.problem:
            return False
        return not (self.skip_done and entry.state is EntryState.DONE)

    # --- on disk ---------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return what is remembered of the list; images that are layers only are left out."""
        kept = [entry for entry in self.entries if entry.path is not None]
        here = self.entry
        return {
            "version": _VERSION,
            "sources": [str(path) for path in self.sources],
            "at": None if here is None or here.path is None else str(here.path),
            "folder": None if self.folder is None else str(self.folder),
            "skip_done": self.skip_done,
            "classes": [each.to_json() for each in self.classes],
            "renames": self.renames,
            "images": [
                {
                    "path": str(entry.path),
                    "name": entry.name,
                    "state": entry.state.value,
                    "count": entry.count,
                    "labels": None if entry.labels is None else str(entry.labels),
                    "renames": entry.renames,
                }
                for entry in kept
            ],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ImageList:
        """Read what `to_json` returned; raises `FileError` if it is not that."""
        try:
            if content["version"] != _VERSION:
                raise FileError("The list of images is of another version.")
            entries = [
                ImageEntry(
                    str(each["name"]),
                    Path(each["path"]),
                    state=EntryState(each["state"]),
                    count=None if each["count"] is None else int(each["count"]),
                    labels=None if each["labels"] is None else Path(each["labels"]),
                    renames=int(each.get("renames", 0)),
                )
                for each in content["images"]
            ]
            classes = [
                ObjectClass(str(each["name"]), str(each["colour"]))
                for each in content.get("classes", ())
            ]
            renames = [(str(old), str(new)) for old, new in content.get("renames", ())]
        except (KeyError, TypeError, ValueError) as error:
            raise FileError("The list of images is damaged.") from error
        places = {str(entry.path): at for at, entry in enumerate(entries)}
        folder = content.get("folder")
        return cls(
            tuple(Path(name) for name in content.get("sources", ())),
            entries,
            places.get(str(content.get("at"))),
            None if folder is None else Path(folder),
            bool(content.get("skip_done", True)),
            classes,
            renames,
        )

    def take_over(self, before: ImageList) -> list[ImageEntry]:
        """Take what is known of these images from an earlier list of the same sources.

        Returns
        -------
        list of ImageEntry
            Those of the earlier list that are not there any more.
        """
        known = {entry.path: entry for entry in before.entries}
        for entry in self.entries:
            if (old := known.pop(entry.path, None)) is not None:
                if entry.labels is not None or old.labels is None:
                    entry.state, entry.count = old.state, old.count
                if old.labels is not None and old.labels.is_file():
                    entry.labels = old.labels
                entry.renames = old.renames
        self.folder, self.skip_done = before.folder, before.skip_done
        self.classes, self.renames = before.classes, before.renames
        here = before.entry
        paths: Sequence[Path | None] = [entry.path for entry in self.entries]
        self.at = paths.index(here.path) if here and here.path in paths else None
        return list(known.values())


Filter = Callable[[ImageEntry], bool]

#: Which images the list shows, by the words for it.
FILTERS: dict[str, Filter] = {
    "All": lambda entry: True,
    "Not done": lambda entry: entry.state is not EntryState.DONE,
    "New": lambda entry: entry.state is EntryState.NEW,
    "Started": lambda entry: entry.state is EntryState.STARTED,
    "Done": lambda entry: entry.state is EntryState.DONE,
}
