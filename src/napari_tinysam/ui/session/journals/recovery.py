"""Offers the labels that a process could not save: it crashed, or napari was closed without asking.

Nothing is thrown away, and nothing of the user's layers is replaced: what is restored becomes a
layer of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from napari_tinysam.errors import FileError, sentence
from napari_tinysam.files.label_store import LARGEST_IN_MEMORY, LabelStore
from napari_tinysam.journal.classes import ClassesTold
from napari_tinysam.journal.identity import Match
from napari_tinysam.ui.session.in_order import InOrder
from napari_tinysam.ui.session.journals.layer_journals import (
    identity_reader,
    once_kept,
)
from napari_tinysam.ui.session.journals.remembered import open_drafts, remembered
from napari_tinysam.ui.session.journals.returning import bring_settings
from napari_tinysam.ui.session.journals.unfinished import (
    Unfinished,
    clock,
    prompts_of,
)
from napari_tinysam.ui.session.labels.outputs import committed_name
from napari_tinysam.ui.session.worker import Inference, Lane
from napari_tinysam.ui.state.drafts import PlaneDrafts
from napari_tinysam.ui.state.planes import full_shape, transform_for_labels

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_tinysam.journal.identity import ImageIdentity
    from napari_tinysam.journal.reading import Recovered
    from napari_tinysam.journal.sparse import SparseLabels
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.journals.returning import Returning
    from napari_tinysam.ui.session.labels.labelling import Labeller
    from napari_tinysam.ui.state.classes import ClassEdit
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.subject import Subject


@dataclass(frozen=True, eq=False)
class Offer:
    """Labels of an image that were not saved.

    Parameters
    ----------
    image : napari.layers.Image
    folder : Path
        Of the journal.
    match : Match
        What the image is to the one that was labelled.
    found : Recovered
    drafts : dict of Plane to PlaneDrafts
        That were not committed.
    """

    image: Image
    folder: Path
    match: Match
    found: Recovered
    drafts: dict[Plane, PlaneDrafts]

    @property
    def has_labels(self) -> bool:
        """Whether there are labels that were not saved; else prompts only."""
        return self.found.changed

    @property
    def text(self) -> str:
        """What is offered, in one sentence or two."""
        count, name = len(self.found.unsaved), self.image.name
        when = f"on {name} from {clock(self.found.time)}"
        what = {0: "Changes of objects", 1: "1 object"}.get(count, f"{count} objects")
        said = [f"{what} {when} {'was' if count == 1 else 'were'} not saved."]
        prompts = prompts_of(self.drafts)
        if not self.has_labels:
            said = [f"{prompts} {when} were not committed."]
        elif prompts:
            said.append(f"{prompts} were not committed.")
        known_as = self.found.about.image.name
        if self.match is Match.CHANGED:
            said.append("The image has changed since.")
        elif self.match is Match.MOVED and known_as != name:
            said.append(f"It was called {known_as} then.")
        return " ".join([*said, *self.found.remarks])


class Recovery:
    """What is offered for the image that is segmented.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    subject : Subject
    inference : Inference
        Where journals are read.
    labelling : Labeller
    returning : Returning
    notify : callable
        ``notify(level, text)``.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        subject: Subject,
        inference: Inference,
        labelling: Labeller,
        returning: Returning,
        notify: Notify,
    ) -> None:
        self._viewer = viewer
        self._subject = subject
        self._labelling = labelling
        self._returning = returning
        self._journals = labelling.recording.journals
        self._notify = notify
        self._post = inference.post
        self._queue = InOrder(inference, Lane.KEEP)
        self._offers: list[Offer] = []
        self._complained = False
        self._looked: set[Image] = set()
        self._put_off: set[Path] = set()
        self._shown: tuple[Offer, Labels] | None = None
        #: Called with a layer that is restored and what is told of its objects' classes; returns
        #: the changes of the steps, by their numbers.
        self.on_classes: Callable[[Labels, ClassesTold], Mapping[int, ClassEdit]] = (
            lambda layer, told: {}
        )
        #: Called when a restored layer has become one that objects are committed to.
        self.on_listed: Callable[[], None] = lambda: None
        #: Of images that are not open.
        self.unfinished = Unfinished(
            viewer, self._journals, inference.post, notify, subject.changed.emit
        )
        self.unfinished.on_discarded = self._drop

    @property
    def offer(self) -> Offer | None:
        """The newest offer for the image that is segmented, until the user has decided."""
        image = self._subject.image
        return next((each for each in self._offers if each.image is image), None)

    @property
    def showing(self) -> bool:
        """Whether the offered labels are shown."""
        return self._shown is not None and self._shown[1] in self._viewer.layers

    @property
    def layer(self) -> Labels | None:
        """The layer that shows what is offered; nothing is committed to it."""
        return None if self._shown is None else self._shown[1]

    def look(self) -> None:
        """Look for unsaved labels of the image that is segmented, once and in the background."""
        image = self._subject.image
        if image is None or image in self._looked:
            return
        self._looked.add(image)
        if not self._journals.ended():
            return
        read, journals = identity_reader(image), self._journals

        def search() -> tuple[list[Offer], list[str]]:
            journals.sweep()
            return _found(journals, image, read()), journals.broken()

        def done(all_found: tuple[list[Offer], list[str]]) -> None:
            found, broken = all_found
            self._complain(broken)
            if image not in self._viewer.layers:
                return
            known = {*self._put_off, *(each.folder for each in self._offers)}
            new = [each for each in found if each.folder not in known]
            self._offers = new + self._offers  # the newest is offered first
            if new:
                self._subject.changed.emit()

        # An image that cannot be read is said where it is segmented.
        self._queue.submit(search, done, lambda error: None)

    def look_again(self, image: Image) -> None:
        """Offer what a labels layer held that left the viewer, while its image stays."""
        if image is self._subject.image:
            self._looked.discard(image)
            self.look()

    def _complain(self, broken: list[str]) -> None:
        """Say once that journals cannot be read; they stay where they are."""
        if broken and not self._complained:
            self._complained = True
            more = f" ({len(broken) - 1} others neither.)" if len(broken) > 1 else ""
            self._notify("warning", f"{broken[0]}{more}")

    def forget(self, image: Image) -> None:
        """Drop the offers for an image that left the viewer."""
        self._looked.discard(image)
        self._put_off.clear()
        self._offers = [each for each in self._offers if each.image is not image]

    # --- what the user decides -----------------------------------------------------------

    def restore(self) -> None:
        """Make a layer of the labels, and commit to it from now on; bring prompts back."""
        offer = self.offer
        if offer is None:
            return
        if not offer.has_labels:
            self._restore_prompts(offer)
            return
        layer = self._layer_of(offer)
        if layer is None:
            return
        recording = self._labelling.recording
        state = self._subject.memory.state_of(offer.image)
        drafts = (
            state.all_drafts
        )  # of this session: they stay, as steps after all others
        recording.kept.end_early(offer.image, given_up=True)
        if not recording.go_on(offer.image, layer, offer.folder, offer.found):
            self._hide()
            return
        self._shown = None  # from now on it is a layer as others are
        layer.name, layer.editable = committed_name(offer.image), True
        marks, other = self._subject.memory.marks, state.target
        if other is not None and other in marks:  # in its file, this takes its place
            marks[layer] = marks[other]
        self._labelling.outputs.choose(offer.image, layer)
        self.on_listed()
        self._labelling.saving.changed(layer)
        before = remembered(offer.found, layer, self._post)
        edits = self.on_classes(layer, ClassesTold(offer.found.actions))
        done, undone = (
            [replace(step, classes=edits.get(step.number)) for step in steps]
            for steps in (before.done, before.undone)
        )
        state.history.remember(done, undone, before.last)
        for plane in drafts:
            state.set_drafts(plane, PlaneDrafts())
        for plane, restored in before.drafts.items():
            state.set_drafts(plane, restored)
        self._add_prompts(offer.image, drafts)
        bring_settings(state, offer.found.actions)
        self._returning.restored(offer.image, layer, before)
        self._decided(offer)
        self.unfinished.decided(offer.found.about.image)

    def _restore_prompts(self, offer: Offer) -> None:
        """Bring back prompts that were not committed; their labels, if any, are in a file."""
        self._add_prompts(offer.image, offer.drafts)
        self._decided(offer)
        self.unfinished.decided(offer.found.about.image)
        journal = self._labelling.recording.journal_of(offer.image)
        if journal is not None:
            once_kept(journal, partial(self._journals.discard, offer.folder))

    def _add_prompts(self, image: Image, drafts: dict[Plane, PlaneDrafts]) -> None:
        """Put prompts before those that are there, plane by plane."""
        state = self._subject.memory.state_of(image)
        for plane, added in drafts.items():
            there = state.drafts(plane)
            if not there.is_empty:
                added = PlaneDrafts((*added.filled, *there.objects))
            state.change_drafts("prompts", plane, added)

    def show(self) -> None:
        """Show the labels, or hide them again, without deciding."""
        offer = self.offer
        if self.showing:
            self._hide()
        elif offer is not None and offer.has_labels:
            layer = self._layer_of(offer)
            if layer is not None:
                layer.editable = False
        self._subject.changed.emit()

    def discard(self) -> None:
        """Remove the journal: its labels are not wanted."""
        offer = self.offer
        if offer is not None:
            self._hide()
            self._journals.discard(offer.folder)
            self._decided(offer)
            self.unfinished.decided(offer.found.about.image)

    def later(self) -> None:
        """Ask again when the image is opened the next time."""
        offer = self.offer
        if offer is not None:
            self._hide()
            self._put_off.add(offer.folder)
            self._decided(offer)

    def _drop(self, folder: Path) -> None:
        """Offer a journal no more that was deleted."""
        for offer in [each for each in self._offers if each.folder == folder]:
            if self._shown is not None and self._shown[0] is offer:
                self._hide()
            self._decided(offer)

    def _decided(self, offer: Offer) -> None:
        self._offers.remove(offer)
        self._subject.drafts_changed.emit()
        self._subject.changed.emit()

    def _hide(self) -> None:
        if self._shown is not None and self.showing:
            self._viewer.layers.remove(self._shown[1])
        self._shown = None

    def _layer_of(self, offer: Offer) -> Labels | None:
        """Return the layer that shows an offer; made if there is none."""
        if self._shown is not None and self.showing and self._shown[0] is offer:
            return self._shown[1]
        self._hide()
        try:
            data = _data_of(offer.found.labels)
        except (FileError, MemoryError, OSError) as error:
            text = sentence(error, "The labels were not restored")
            self._notify("error", f"{text} They are still kept.")
            return None
        image = offer.image
        axis = 0 if full_shape(image)[1:] == offer.found.labels.shape else None
        place: dict[str, Any] = {}
        if len(offer.found.labels.shape) == image.ndim - (axis == 0):
            place = transform_for_labels(image, axis)
        layer = Labels(
            data,
            multiscale=isinstance(data, list),
            name=f"{image.name} not saved",
            opacity=0.6,
            **place,
        )
        self._shown = (offer, layer)
        layers = self._viewer.layers
        chosen, active = set(layers.selection), layers.selection.active
        layers.insert(layers.index(image) + 1, layer)
        layers.selection = chosen
        layers.selection.active = active
        return layer


def _found(journals: Any, image: Image, identity: ImageIdentity) -> list[Offer]:
    """Read the journals of an image; those without anything unsaved are removed."""
    found = []
    for left in journals.left_for(identity):
        with suppress(FileError):  # it changed under our hands; it stays
            recovered = left.read()
            drafts = open_drafts(recovered)
            if recovered.changed or drafts:
                found.append(Offer(image, left.folder, left.match, recovered, drafts))
            elif not recovered.remarks:
                journals.discard(left.folder)
    return found


def _data_of(labels: SparseLabels) -> Any:
    """Return what a layer shows: an array, or the levels of labels that are kept on disk."""
    shape = labels.shape
    if len(shape) < 2 or shape[-1] * shape[-2] <= LARGEST_IN_MEMORY:
        return labels.to_array()
    store = LabelStore(shape, labels.dtype)
    for start, chunk in labels.chunks():
        inside = np.nonzero(chunk)
        places = [at + first for at, first in zip(inside, start, strict=True)]
        store.write(places, chunk[inside])
    return store.levels
