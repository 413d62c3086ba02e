"""Corrections of tracks: cut, linked, swapped, divided, deleted, followed anew. No numpy.

A correction names objects of single frames, not tracks, so it holds also when settings change and
everything is tracked anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_tinysam.volume.tracking import Tracking

#: An object of a frame: (frame, index into the objects of the frame).
Place = tuple[int, int]


class Kind(Enum):
    """What a correction does; its places in brackets."""

    CUT = "cut track"  # (first of the new track)
    LINK = "link tracks"  # (last before, first after)
    SWAP = "swap tracks"  # (one, other of the same frame)
    DIVIDE = "division"  # (mother, daughter, daughter)
    UNITE = "no division"  # (mother)
    DELETE = "delete track"  # (first that is deleted)
    FOLLOW = (
        "follow track"  # (first, and all that it goes on as; it ends with the last)
    )


@dataclass(frozen=True)
class Correction:
    """One correction.

    Parameters
    ----------
    kind : Kind
    places : tuple of Place
        As `Kind` says.
    """

    kind: Kind
    places: tuple[Place, ...]

    def moved(self, to: Mapping[Place, Place]) -> Correction | None:
        """Return the correction with other names of its places; None if one is gone.

        Of what was followed, the places that are left still belong together.
        """
        places = tuple(to[place] for place in self.places if place in to)
        whole = len(places) == len(self.places)
        if self.kind is Kind.FOLLOW and places:
            whole = True
        return replace(self, places=places) if whole else None


@dataclass(eq=False)
class Lineage:
    """Which objects of frames are one track, and who descends from whom.

    Attributes
    ----------
    places : set of Place
        Objects that are not deleted.
    after : dict of Place to Place
        Where an object is next; the same track.
    mother : dict of Place to Place
        Of the first place of a track, the last place of its mother.
    """

    places: set[Place] = field(default_factory=set)
    after: dict[Place, Place] = field(default_factory=dict)
    mother: dict[Place, Place] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Tracking) -> Lineage:
        """Take over the tracks that were found."""
        chains: dict[int, list[Place]] = {}
        for frame, objects in enumerate(found.links.objects):
            for index, label in enumerate(objects.tolist()):
                if label:
                    chains.setdefault(label, []).append((frame, index))
        return cls.of_chains(
            chains, {each.label: each.parent for each in found.tracks if each.parent}
        )

    @classmethod
    def of_chains(
        cls, chains: Mapping[int, Sequence[Place]], parents: Mapping[int, int]
    ) -> Lineage:
        """Take over chains of places by label, and the parents of labels."""
        lineage = cls()
        for chain in chains.values():
            lineage.places.update(chain)
            lineage.after.update(pairwise(chain))
        for child, parent in parents.items():
            if child in chains and parent in chains:
                first, last = chains[child][0], chains[parent][-1]
                if last[0] < first[0]:  # else the ids are of others now
                    lineage.mother[first] = last
        return lineage

    def chains(self) -> list[list[Place]]:
        """Return the tracks, by their first place."""
        chains = []
        for first in sorted(self.places - set(self.after.values())):
            chain = [first]
            while chain[-1] in self.after:
                chain.append(self.after[chain[-1]])
            chains.append(chain)
        return chains

    def correct(self, corrections: Iterable[Correction]) -> None:
        """Apply corrections in order; what no longer makes sense is passed over."""
        before = {later: earlier for earlier, later in self.after.items()}
        for correction in corrections:
            each = correction
            if each.kind is Kind.FOLLOW:  # what was deleted is passed over
                there = tuple(place for place in each.places if place in self.places)
                each = replace(each, places=there)
            if each.places and all(place in self.places for place in each.places):
                self._apply(each, before)

    def daughters(self, mother: Place) -> list[Place]:
        """Return where the daughters of an object begin."""
        return sorted(
            child for child, parent in self.mother.items() if parent == mother
        )

    def _apply(self, each: Correction, before: dict[Place, Place]) -> None:
        first, *others = each.places
        if each.kind is Kind.CUT:
            self._free(first, before)
        elif each.kind is Kind.LINK and first[0] < others[0][0]:
            self._end(first, before)
            self._free(others[0], before)
            self.after[first], before[others[0]] = others[0], first
        elif each.kind is Kind.SWAP and first[0] == others[0][0]:
            self._swap(first, others[0], before)
        elif each.kind is Kind.DIVIDE and all(first[0] < at for at, _ in others):
            self._end(first, before)
            for daughter in others:
                self._free(daughter, before)
                self.mother[daughter] = first
        elif each.kind is Kind.UNITE:
            for child in self.daughters(first):
                del self.mother[child]
        elif each.kind is Kind.FOLLOW and all(
            earlier[0] < later[0] for earlier, later in pairwise(each.places)
        ):
            for earlier, later in pairwise(each.places):
                self._end(earlier, before)
                self._free(later, before)
                self.after[earlier], before[later] = later, earlier
            last = each.places[-1]
            if last in self.after:
                del before[self.after.pop(last)]
            for child in self.daughters(last):
                if child[0] <= last[0]:
                    del self.mother[child]
        elif each.kind is Kind.DELETE:
            self._free(first, before)
            here: Place | None = first
            while here is not None:
                self.places.discard(here)
                last, here = here, self.after.pop(here, None)
                before.pop(here, None) if here is not None else None
            for child in self.daughters(last):
                del self.mother[child]

    def _free(self, place: Place, before: dict[Place, Place]) -> None:
        """Let a track begin at a place, from nobody."""
        self.mother.pop(place, None)
        if place in before:
            del self.after[before.pop(place)]

    def _end(self, place: Place, before: dict[Place, Place]) -> None:
        """Let a track end at a place, without daughters."""
        if place in self.after:
            del before[self.after.pop(place)]
        for child in self.daughters(place):
            del self.mother[child]

    def _swap(self, one: Place, other: Place, before: dict[Place, Place]) -> None:
        """Exchange what comes before two places."""
        was = [before.pop(place, None) for place in (one, other)]
        mothers = [self.mother.pop(place, None) for place in (one, other)]
        for place, earlier, mother in zip((other, one), was, mothers, strict=True):
            if earlier is not None:
                self.after[earlier], before[place] = place, earlier
            if mother is not None:
                self.mother[place] = mother
