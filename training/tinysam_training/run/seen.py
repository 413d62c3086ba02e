"""Which images a model has learnt from, and which were held out of it: a note in its file.

A model that is adapted again begins with what it learnt in the rounds before. Images of those
rounds would flatter it, were they held out now.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinysam_training.data.parting import cut_of, whole_key
from tinysam_training.run.starting import notes_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tinysam_training.labelled_image import ImageEntry

#: Key of the note.
SEEN = "images_seen"


@dataclass(frozen=True)
class Seen:
    """Images by their keys: of their pixels (`ImageEntry.pixels`), whatever labels they had.

    Attributes
    ----------
    learnt, held_out : frozenset of str
    """

    learnt: frozenset[str] = frozenset()
    held_out: frozenset[str] = frozenset()

    @classmethod
    def by(cls, model: str) -> Seen:
        """Read what a model has seen; nothing if its file does not tell.

        Parameters
        ----------
        model : str
            A name of the registry, a checkpoint file, or "random".
        """
        try:
            known: Any = json.loads(notes_of(model).get(SEEN, "{}"))
            return cls(frozenset(known["learnt"]), frozenset(known["held_out"]))
        except (ValueError, TypeError, KeyError):
            return cls()

    def has_learnt(self, entry: ImageEntry) -> bool:
        """Whether the model has learnt from this image, or from a part of it."""
        key = key_of(entry)
        if key in self.learnt:
            return True
        whole, cut = whole_key(key), cut_of(key)
        parts = [each for each in self.learnt if whole_key(each) == whole]
        # Another part by the same cut shares no pixel with this one.
        return any(cut is None or cut_of(part) != cut for part in parts)

    def held(self, entry: ImageEntry) -> bool:
        """Whether this image was held out before."""
        return key_of(entry) in self.held_out

    def cut(self, entry: ImageEntry) -> tuple[int, int] | None:
        """Where this image was cut when it was the only one: axis and place."""
        key = key_of(entry)
        cuts = sorted(
            cut
            for part in self.learnt
            if whole_key(part) == key and (cut := cut_of(part)) is not None
        )
        return cuts[0] if cuts else None

    def notes(
        self, learnt: Iterable[ImageEntry], held_out: Iterable[ImageEntry]
    ) -> dict[str, str]:
        """Make the note of a model that begins with this one and sees these images as well."""
        now = self.learnt | {key_of(entry) for entry in learnt}
        held = (self.held_out | {key_of(entry) for entry in held_out}) - now
        known = {"learnt": sorted(now), "held_out": sorted(held)}
        return {SEEN: json.dumps(known, separators=(",", ":"))}


def key_of(entry: ImageEntry) -> str:
    """Return the key of an image; that of the file where its pixels are not known."""
    return entry.pixels or entry.fingerprint
