"""Hands actions on images to their journals, with the model and settings that they were done with.

The journal of an image begins with its first prompt, or with the first change of its labels; what
was done before that waits for it here.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import napari_tinysam
from napari_tinysam.journal.lines import Action
from napari_tinysam.ui.session.journals.deeds import (
    BY_MODEL,
    DRAFTS,
    changed_settings,
    open_drafts_to_json,
    settings_to_json,
)

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_tinysam.journal.folder import HeldJournal
    from napari_tinysam.journal.lines import Window
    from napari_tinysam.journal.writing import Journal
    from napari_tinysam.labels import Overlap
    from napari_tinysam.ui.session.embedding.embedder import Embedder
    from napari_tinysam.ui.state.history import Deed
    from napari_tinysam.ui.state.images import Memory

#: Actions on an image that wait for its journal; the oldest go first.
_MOST_EARLY = 2000


@dataclass(frozen=True)
class Circumstances:
    """What an action was done with.

    Parameters
    ----------
    settings : mapping
        The user's choices by name, as JSON can hold them.
    model : mapping
        ``name``, ``id`` (with a hash of the weights), ``device``, and ``runtime``, what runs it;
        empty without a model.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Early:
    """What was done on an image before its labels have a journal.

    Parameters
    ----------
    actions : deque of dict
        As `Journal.note` takes them.
    journal : HeldJournal, optional
        Where they are on disk, from the first prompt on.
    """

    actions: deque[dict[str, Any]] = field(
        default_factory=lambda: deque(maxlen=_MOST_EARLY)
    )
    journal: HeldJournal | None = None


class Telling:
    """Tells journals what was done.

    Model and settings are told when an action finds other ones than the action before: nobody has
    to say that they changed.

    Parameters
    ----------
    memory : Memory
        Holds what was done before an image has a journal, from one dock to the next.
    circumstances : callable
        Called with an image; returns what is chosen now.
    """

    def __init__(
        self, memory: Memory, circumstances: Callable[[Image], Circumstances]
    ) -> None:
        self._memory = memory
        self._circumstances = circumstances
        #: Begins the journal of an image whose labels have none; None if nothing can be written.
        self.begin_early: Callable[[Image], HeldJournal | None] = lambda image: None
        #: Called with a journal and each action that it is told.
        self.on_told: Callable[[Journal, Action], None] = lambda journal, action: None
        self._last: weakref.WeakKeyDictionary[Image, weakref.ref[Journal]] = (
            weakref.WeakKeyDictionary()
        )
        self._told: weakref.WeakKeyDictionary[Image, Circumstances] = (
            weakref.WeakKeyDictionary()
        )

    def close(self) -> None:
        """Let go of the session: journals outlive it, and know who tells them."""
        self._circumstances = lambda image: Circumstances()
        self.begin_early = lambda image: None

    def tell(
        self,
        image: Image,
        journal: Journal | None,
        deed: Deed,
        step: int = 0,
        windows: Sequence[Window] = (),
    ) -> None:
        """Hand an action to a journal; without one it is kept until `begun`.

        Parameters
        ----------
        image : napari.layers.Image
        journal : Journal or None
        deed : Deed
        step : int
            See `Action`.
        windows : sequence of Window
        """
        if journal is None and image not in self._memory.early:
            self._told.pop(image, None)  # a journal begins, which is told everything
        before = self._told.get(image, Circumstances())
        now = self._told[image] = self._circumstances(image)
        actions: list[dict[str, Any]] = []
        if now.model and now.model != before.model:
            actions.append({"name": "model", "arguments": dict(now.model)})
        changed = changed_settings(before.settings, now.settings)
        if changed:
            actions.append({"name": "setting", "arguments": changed})
        model = ""
        if now.model and deed.name in BY_MODEL:
            model = f"{now.model['name']} {now.model['id']}"
        actions.append(
            {
                "name": deed.name,
                "arguments": deed.arguments,
                "ids": deed.ids,
                "model": model,
                "step": step,
                "windows": windows,
            }
        )
        if journal is None:
            self._tell_early(image, [{**each, "at": time.time()} for each in actions])
            return
        for each in actions:
            self._note(journal, each, at_once=each["name"] == "commit")
        self._tell_drafts(image, journal)

    def begun(self, image: Image, journal: Journal) -> Early | None:
        """Tell a journal that has just begun what was done before; return it, if anything."""
        early: Early | None = self._memory.early.pop(image, None)
        if early is None:
            self._told.pop(image, None)
            return None
        for action in early.actions:
            self._note(journal, action)
        self._last[image] = weakref.ref(journal)
        return early

    def _tell_early(self, image: Image, actions: Sequence[dict[str, Any]]) -> None:
        """Keep actions until labels of the image change, on disk if there are prompts."""
        early = self._memory.early.setdefault(image, Early())
        early.actions.extend(actions)
        if early.journal is None and self._memory.state_of(image).draft_count:
            early.journal = self.begin_early(image)
            actions = list(early.actions)
        if early.journal is not None:
            for each in actions:
                self._note(early.journal, each)
            self._tell_drafts(image, early.journal)

    def _tell_drafts(self, image: Image, journal: Journal) -> None:
        """Tell a journal of the prompts that another one of the image was told."""
        last = self._last.get(image)
        self._last[image] = weakref.ref(journal)
        if last is None or last() is journal:
            return
        if planes := open_drafts_to_json(self._memory.state_of(image)):
            self._note(journal, {"name": DRAFTS, "arguments": {"planes": planes}})

    def _note(
        self, journal: Journal, told: dict[str, Any], *, at_once: bool = False
    ) -> None:
        number = journal.note(**told, at_once=at_once)
        action = Action(
            number,
            0.0,
            told["name"],
            told["arguments"],
            tuple(told.get("ids", ())),
            told.get("model", ""),
            step=told.get("step", 0),
        )
        self.on_told(journal, action)


def circumstances(
    image: Image, memory: Memory, embedder: Embedder, overlap: Overlap
) -> Circumstances:
    """Return what is chosen now for an image."""
    state, predictor = memory.state_of(image), embedder.predictor
    settings = {
        "version": napari_tinysam.__version__,
        "overlap": overlap.value,
        "contrast": memory.contrast.value,
        "seeing": memory.seeing.value,
        "channel_axis": state.channel_axis,
        "new_objects": memory.new_objects,
        "whole": memory.whole,
        "follow_axis": state.follow_axis,
        "axes": {str(axis): kind.value for axis, kind in state.kind.items()},
        "filter": None if memory.tuned is None else settings_to_json(memory.tuned),
    }
    if predictor is None:
        return Circumstances(settings)
    model = {
        "name": predictor.name,
        "id": predictor.model_id,
        "device": embedder.device,
        "runtime": predictor.runtime_name,
    }
    return Circumstances(settings, model)
