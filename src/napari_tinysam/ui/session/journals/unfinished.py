"""What was not finished when napari ended: images with unsaved objects, files being segmented.

It is told when the dock opens, before any image is open. What is offered for an image that is open,
see `Recovery`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tinysam.background import start_thread
from napari_tinysam.errors import FileError, sentence
from napari_tinysam.journal.reading import read_first, read_journal
from napari_tinysam.journal.running import FILES, TRAINING, CutWork, RunningNotes
from napari_tinysam.ui.session.journals.remembered import open_drafts

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_tinysam.journal.folder import Journals
    from napari_tinysam.journal.identity import ImageIdentity
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.state.drafts import PlaneDrafts
    from napari_tinysam.ui.state.planes import Plane

#: Journals that are read, the newest of them; images that are named in a line.
_READ, _NAMED = 30, 3

#: Letters of a name in a line.
_LETTERS = 28


@dataclass(frozen=True)
class UnsavedImage:
    """An image with labels that were not saved.

    Parameters
    ----------
    name : str
        Of the layer.
    address : str
        File or URL; "" of an image that only existed in memory.
    count : int or None
        Of unsaved objects; None if prompts only were left.
    prompts : str
        Prompts that were not committed, in words.
    time : float
        Of the last action, in seconds since the epoch.
    places : tuple of Path
        The folders of its journals.
    """

    name: str
    address: str
    count: int | None
    prompts: str
    time: float
    places: tuple[Path, ...] = ()

    @property
    def words(self) -> str:
        """Name it, with what was not saved."""
        name = shortened(Path(self.address).name or self.name)
        what = self.prompts.lower()
        if self.count is not None:
            count = self.count
            what = {0: "changes", 1: "1 object"}.get(count, f"{count} objects")
        return f"{name} ({what}, {clock(self.time)})"

    @property
    def is_there(self) -> bool:
        """Whether its file can be opened."""
        return bool(self.address) and Path(self.address).exists()


class Unfinished:
    """What is told when the dock opens, until the user has decided.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where images are opened.
    journals : Journals
    post : callable
        Runs a callable soon on the session's thread, from any thread.
    notify : callable
        ``notify(level, text)``.
    on_changed : callable
        Called when there is something else to tell.

    Attributes
    ----------
    on_files : callable
        Called with what was noted of files that were being segmented, to go on with them.
    on_discarded : callable
        Called with the folder of each journal that was deleted.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        journals: Journals,
        post: Callable[[Callable[[], None]], None],
        notify: Notify,
        on_changed: Callable[[], None],
    ) -> None:
        self._viewer = viewer
        self._journals = journals
        self._post = post
        self._notify = notify
        self._on_changed = on_changed
        self._notes = RunningNotes()
        self._images: list[UnsavedImage] = []
        self._works: list[CutWork] = []
        self._later = False
        self.on_files: Callable[[Mapping[str, Any]], None] = lambda told: None
        self.on_discarded: Callable[[Path], None] = lambda place: None

    def look(self) -> None:
        """Look for it in the background."""
        if not self._journals.ended() and not self._notes.folder.is_dir():
            return
        journals, notes = self._journals, self._notes

        def work() -> None:
            images, works = unsaved_images(journals), notes.cut()
            self._post(lambda: self._found(images, works))

        start_thread(work, "tinysam-unfinished")

    def _found(self, images: list[UnsavedImage], works: list[CutWork]) -> None:
        self._images, self._works = images, works
        self._on_changed()

    # --- what the dock shows -------------------------------------------------------------

    @property
    def images(self) -> list[UnsavedImage]:
        """The images that are not open; those that are open have offers of their own."""
        if self._later:
            return []
        opened = {layer.source.path or layer.name for layer in self._viewer.layers}
        return [
            each for each in self._images if (each.address or each.name) not in opened
        ]

    @property
    def text(self) -> str:
        """What was not finished, in a line for each kind; "" if there is nothing."""
        said, images = [], self.images
        if images:
            names = ", ".join(each.words for each in images[:_NAMED])
            more = len(images) - _NAMED
            also = f" and {more} more" if more > 0 else ""
            said.append(f"Not saved: {names}{also}.")
        work = self.work
        if work is not None:
            said.append(
                f"Segmenting files was cut ({work.told.get('where', '')}, {clock(work.time)}). "
                "What is finished is kept."
            )
        if self.training is not None:
            told, when = self.training.told, clock(self.training.time)
            name = shortened(Path(str(told.get("output", ""))).name)
            said.append(
                f"Training was cut ({name}, {when}). Go on in {told.get('folder', '')} with: "
                f"{self.command}"
            )
        return "\n".join(said)

    @property
    def next_image(self) -> UnsavedImage | None:
        """The image that can be opened."""
        return next((each for each in self.images if each.is_there), None)

    @property
    def work(self) -> CutWork | None:
        """The files that can be gone on with."""
        return self._cut(FILES)

    @property
    def training(self) -> CutWork | None:
        """The training on the command line that can be gone on with."""
        return self._cut(TRAINING)

    @property
    def command(self) -> str:
        """What goes on with the training; "" without one."""
        return "" if self.training is None else str(self.training.told.get("command"))

    def _cut(self, kind: str) -> CutWork | None:
        if self._later:
            return None
        return next((each for each in self._works if each.kind == kind), None)

    # --- what the user decides -----------------------------------------------------------

    def open_next(self) -> None:
        """Open an image; what was not saved of it is offered then."""
        image = self.next_image
        if image is None:
            return
        try:
            self._viewer.open(image.address)
        except Exception as error:  # noqa: BLE001 - whatever a reader raises
            text = sentence(error, f"{Path(image.address).name} could not be opened")
            self._notify("warning", text)
            self._images.remove(image)
        self._on_changed()

    def go_on(self) -> None:
        """Choose the files again that were being segmented; the button in the dock begins."""
        work = self.work
        if work is not None:
            self._works.remove(work)
            self._notes.forget(work)
            self.on_files(work.told)
            self._on_changed()

    def take_command(self) -> str:
        """Return what goes on with the training, and say no more about that."""
        training, command = self.training, self.command
        if training is not None:
            self._works.remove(training)
            self._notes.forget(training)
            self._on_changed()
        return command

    def decided(self, image: ImageIdentity) -> None:
        """Say nothing more about an image: it was restored, or is not wanted."""
        same = image.address, image.name
        self._images = [e for e in self._images if (e.address, e.name) != same]
        self._on_changed()

    def discard(self) -> None:
        """Delete what was not saved of the images that are told."""
        for image in self.images:
            self._images.remove(image)
            for place in image.places:
                self._journals.discard(place)
                self.on_discarded(place)
        self._on_changed()

    def later(self) -> None:
        """Say nothing more about it, until the dock opens the next time."""
        self._later = True
        self._on_changed()


def shortened(name: str) -> str:
    """Leave out the middle of a long name: its end tells files apart."""
    if len(name) <= _LETTERS:
        return name
    return f"{name[: _LETTERS - 13]}…{name[-12:]}"


def unsaved_images(journals: Journals) -> list[UnsavedImage]:
    """Read what the journals of ended processes hold, the newest first."""
    found: dict[tuple[str, str], UnsavedImage] = {}
    for place in sorted(journals.ended(), key=_used, reverse=True)[:_READ]:
        with suppress(FileError):  # what cannot be read is said where its image is
            image = read_first(place)[1].about.image
            known = read_journal(place)
            prompts = prompts_of(open_drafts(known))
            key = image.address, image.name
            if not known.changed and not prompts:
                continue
            if key in found:
                older = (*found[key].places, place)
                found[key] = replace(found[key], places=older)
                continue
            count = len(known.unsaved) if known.changed else None
            found[key] = UnsavedImage(*key[::-1], count, prompts, known.time, (place,))
    return list(found.values())


def prompts_of(drafts: Mapping[Plane, PlaneDrafts]) -> str:
    """Say of how many objects there are prompts; "" if there are none."""
    count = sum(len(each.filled) for each in drafts.values())
    objects = "1 object" if count == 1 else f"{count} objects"
    return f"Prompts of {objects}" if count else ""


def _used(place: Path) -> float:
    with suppress(OSError):
        return max(each.stat().st_mtime for each in (place, *place.iterdir()))
    return 0.0


def clock(seconds: float) -> str:
    """Say when something was: "14:32", with the date if that was another day."""
    then = time.localtime(seconds)
    same_day = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M" if same_day else "%d %b %H:%M", then)
