"""An object that is known in one plane is followed through its neighbours, plane by plane.

Each plane is asked with prompts made of the shape that is expected there. No kind of prompt is best
for all objects: boxes drift on some models, points lose large objects, masks need a model that was
trained with them. So each object is first asked for in the plane where it is known, with every
kind, and keeps the kind that gives it back best. Where the user's outline is wider or narrower than
the model's, the borders of its answers are moved alike. Where even that is worse than the shape
expected, the expected shape is taken. numpy and scipy only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.volume.asking import (
    BORDERS,
    Kind,
    answers_to,
    foreground_in,
    reproduced,
)
from napari_tinysam.volume.between import shape_between
from napari_tinysam.volume.followed import (
    FollowedObject,
    FollowSettings,
    Origin,
    PlaneMask,
)
from napari_tinysam.volume.sharing import shared_out

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.volume.followed import Planes, Taken

#: Trust in an expected shape that no answer of the model fits, if the object maps show it.
_UNANSWERED = 0.4

#: IoU with the known mask from which the model's own score chooses among its answers.
_KNOWN_WELL = 0.7

#: Gain in IoU with the known masks from which borders are moved.
_BORDER_GAIN = 0.01

#: Planes of the mean area that a new one is compared with.
_RECENT = 3

#: Weight of the newest movement in the smoothed one.
_NEWEST = 0.5


def follow(
    predictor: Predictor,
    planes: Planes,
    objects: Sequence[FollowedObject],
    first: int,
    last: int,
    settings: FollowSettings | None = None,
    taken: Taken | None = None,
) -> Iterator[tuple[int, dict[int, PlaneMask]]]:
    """Follow objects in both directions; planes between two anchors are filled as well.

    Parameters
    ----------
    predictor : Predictor
    planes : callable
        Reads a plane; see `Planes`.
    objects : sequence of FollowedObject
        What is found is stored in them.
    first, last : int
        The range, inclusive; anchors may lie outside.
    settings : FollowSettings, optional
    taken : callable, optional
        Pixels that objects other than these own; see `Taken`.

    Yields
    ------
    plane : int
    found : dict of int to PlaneMask
        By the object's index, those that are in this plane. First forwards from the first anchor,
        then backwards. Planes that turn out to lie behind the end of an object are taken back: they
        are yielded once more, without it.
    """
    settings = settings or FollowSettings()
    run = _Run(predictor, planes, objects, settings, taken)
    run.test_kinds()
    for step in (1, -1):
        starts = [
            min(each.anchors) if step > 0 else max(each.anchors) for each in objects
        ]
        begin = min(starts) if step > 0 else max(starts)
        stop = last + 1 if step > 0 else first - 1
        active = {
            number: _Chain(each, step, settings) for number, each in enumerate(objects)
        }
        for plane in range(begin, stop, step):
            yield from run.plane(plane, active, first, last)
            if not any(chain.goes_on for chain in active.values()):
                break
        yield from run.without_weak_ends(active)


class _Chain:
    """One object on its way in one direction."""

    def __init__(
        self, known: FollowedObject, step: int, settings: FollowSettings
    ) -> None:
        self.known, self.step, self.settings = known, step, settings
        self.goes_on = True
        self.weak: list[int] = []
        self.speed = np.zeros(2)
        self.recent: list[BoxedMask] = []

    def next_anchor(self, plane: int) -> int | None:
        """Return the nearest anchor ahead."""
        ahead = [a for a in self.known.anchors if (a - plane) * self.step > 0]
        return min(ahead, key=lambda a: abs(a - plane), default=None)

    def take(self, plane: int, mask: BoxedMask) -> None:
        """Remember a mask for the expectation of the next."""
        if self.recent and self.settings.moves:
            newest = np.subtract(mask.centre, self.recent[-1].centre)
            self.speed = (1 - _NEWEST) * self.speed + _NEWEST * newest
            if len(self.recent) == 1:
                self.speed = newest
        self.recent = [*self.recent[1 - _RECENT :], mask]

    def expected(self, plane: int) -> BoxedMask:
        """Return the shape to expect: between anchors, or the last one moved on."""
        ahead = self.next_anchor(plane)
        behind = [a for a in self.known.anchors if (plane - a) * self.step > 0]
        if ahead is not None and behind:
            before = max(behind, key=lambda a: a * self.step)
            share = (plane - before) / (ahead - before)
            anchors = self.known.anchors
            return shape_between(anchors[before], anchors[ahead], share)
        mask = self.recent[-1]
        x, y = (int(v) for v in np.rint(self.speed))
        return mask.moved(y, x, mask.shape).clipped() if y or x else mask

    def cut_back(self) -> set[int]:
        """Forget the weak planes since the last good one; returns those that had been said."""
        said = {plane for plane in self.weak if plane in self.known.found}
        for plane in said:
            del self.known.found[plane]
        self.weak = []
        return said

    def usual_area(self) -> float:
        """Return the mean area of the last planes."""
        return float(np.mean([mask.area for mask in self.recent]))

    def largest(self) -> int:
        """Return the largest area so far."""
        return max(each.mask.area for each in self.known.found.values())


@dataclass(eq=False)
class _Run:
    predictor: Predictor
    planes: Planes
    objects: Sequence[FollowedObject]
    settings: FollowSettings
    taken: Taken | None

    @property
    def _kinds(self) -> tuple[Kind, ...]:
        only = self.settings.kind
        return tuple(Kind) if only is None else (only,)

    def test_kinds(self) -> None:
        """Ask for each object where it is known, with every kind of prompt."""
        by_plane: dict[int, list[FollowedObject]] = {}
        for known in self.objects:
            for plane in known.anchors:
                by_plane.setdefault(plane, []).append(known)
        ious: dict[int, dict[Kind, dict[int, npt.NDArray[np.float64]]]] = {}
        for plane, members in sorted(by_plane.items()):
            embedding = self.planes(plane)
            masks = [known.anchors[plane] for known in members]
            for kind in self._kinds:
                found = reproduced(self.predictor, embedding, masks, kind)
                for known, own in zip(members, found, strict=True):
                    ious.setdefault(id(known), {}).setdefault(kind, {})[plane] = own
        for known in self.objects:
            worth = {
                kind: {at: _best_border(own) for at, own in planes.items()}
                for kind, planes in ious[id(known)].items()
            }
            means = {
                kind: float(np.mean([iou for _, iou in planes.values()]))
                for kind, planes in worth.items()
            }
            known.kind = max(means, key=lambda kind: means[kind])
            known.worth = means[known.kind]
            known.borders = {
                at: border for at, (border, _) in worth[known.kind].items()
            }

    def plane(
        self, plane: int, chains: Mapping[int, _Chain], first: int, last: int
    ) -> Iterator[tuple[int, dict[int, PlaneMask]]]:
        """Find all objects in one plane."""
        asked: dict[int, BoxedMask] = {}
        shown: dict[int, PlaneMask] = {}
        for number, chain in chains.items():
            anchor = chain.known.anchors.get(plane)
            if anchor is not None:
                chain.goes_on, chain.weak = True, []
                chain.take(plane, anchor)
                shown[number] = chain.known.found[plane]
                continue
            if not chain.recent or not chain.goes_on or not first <= plane <= last:
                continue
            if plane in chain.known.found:  # between anchors, on the way back
                chain.take(plane, chain.known.found[plane].mask)
                continue
            expected = chain.expected(plane)
            if expected.area:
                asked[number] = expected
            else:
                chain.goes_on = False
        found = self._found(plane, chains, asked)
        taken_back: set[int] = set()
        for number, each in found.items():
            chain = chains[number]
            between = chain.next_anchor(plane) is not None
            # Others may have taken all of it.
            gone = not each.mask.area
            weak = gone or _is_weak(each, asked[number], chain, self.settings)
            chain.weak = [*chain.weak, plane] if weak else []
            if not between and len(chain.weak) >= self.settings.patience:
                chain.goes_on = False
                taken_back |= chain.cut_back()
                continue
            if gone:
                continue
            chain.known.found[plane] = each
            chain.take(plane, each.mask)
            shown[number] = each
        if shown:
            yield plane, shown
        yield from self._said_again(taken_back)

    def without_weak_ends(
        self, chains: Mapping[int, _Chain]
    ) -> Iterator[tuple[int, dict[int, PlaneMask]]]:
        """Take the weak planes back that no good one follows, at the end of the range."""
        taken_back: set[int] = set()
        for chain in chains.values():
            if chain.goes_on:
                taken_back |= chain.cut_back()
        yield from self._said_again(taken_back)

    def _said_again(
        self, planes: set[int]
    ) -> Iterator[tuple[int, dict[int, PlaneMask]]]:
        for plane in sorted(planes):
            yield (
                plane,
                {
                    number: known.found[plane]
                    for number, known in enumerate(self.objects)
                    if plane in known.found
                },
            )

    def _found(
        self, plane: int, chains: Mapping[int, _Chain], asked: dict[int, BoxedMask]
    ) -> dict[int, PlaneMask]:
        if not asked:
            return {}
        embedding = self.planes(plane)
        taken = self.taken(plane) if self.taken is not None else None
        found: dict[int, PlaneMask] = {}
        for kind in Kind:
            numbers = [n for n in asked if chains[n].known.kind is kind]
            if not numbers:
                continue
            masks = [asked[n] for n in numbers]
            borders = [chains[n].known.border_at(plane) for n in numbers]
            answers = answers_to(self.predictor, embedding, masks, kind, borders)
            for number, own in zip(numbers, answers, strict=True):
                found[number] = self._chosen(
                    plane, embedding, chains[number], asked[number], own, taken
                )
        owned = shared_out({number: each.mask for number, each in found.items()})
        return {
            number: replace(
                each,
                mask=owned[number],
                trust=each.trust * owned[number].area / max(each.mask.area, 1),
            )
            for number, each in found.items()
        }

    def _chosen(
        self,
        plane: int,
        embedding: Embedding,
        chain: _Chain,
        expected: BoxedMask,
        answers: list[tuple[BoxedMask, float]],
        taken: npt.NDArray[np.bool_] | None,
    ) -> PlaneMask:
        """Choose the best answer that can be the object; else the expected shape."""
        best, most, trust = None, -1.0, 0.0
        trust_in_maps = foreground_in(embedding, expected)
        for mask, score in answers:
            agreement = mask.iou(expected) if mask.area else 0.0
            if not self._can_be(mask, chain, expected, taken):
                continue
            both = (min(max(score, 0.0), 1.0) + agreement) / 2
            # A model that knows the object well also knows which of its answers is best.
            worth = score if chain.known.worth >= _KNOWN_WELL else both
            if worth > most:
                best, most, trust = mask, worth, both
        if best is None:
            return PlaneMask(
                plane, expected, Origin.COPIED, _UNANSWERED * trust_in_maps
            )
        if chain.known.worth < self.settings.least_kind:
            return PlaneMask(plane, expected, Origin.COPIED, min(trust, trust_in_maps))
        if foreground_in(embedding, best) < self.settings.seen:
            trust = min(trust, self.settings.least_trust / 2)
        return PlaneMask(plane, best, Origin.FOLLOWED, trust)

    def _can_be(
        self,
        mask: BoxedMask,
        chain: _Chain,
        expected: BoxedMask,
        taken: npt.NDArray[np.bool_] | None,
    ) -> bool:
        if not mask.area:
            return False
        change = mask.area / chain.usual_area()
        if not self.settings.shrinking <= change <= self.settings.growth:
            return False
        if taken is not None:
            inside = int(np.count_nonzero(mask.mask & taken[mask.slices]))
            if inside > 0.3 * mask.area:
                return False
        # Its middle lies in the expected shape, or not far from it.
        away = np.hypot(*np.subtract(mask.centre, expected.centre))
        return bool(away <= 0.75 * np.sqrt(expected.area / np.pi) + 1)


def _is_weak(
    each: PlaneMask, expected: BoxedMask, chain: _Chain, settings: FollowSettings
) -> bool:
    if each.trust < settings.least_trust:
        return True
    if each.mask.area < settings.least_area * chain.largest():
        return True
    return each.mask.iou(expected) < settings.least_agreement


def _best_border(ious: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the border that fits best, of `BORDERS`, and its IoU; the model's own if in doubt."""
    best = int(ious.argmax())
    if ious[best] < ious[0] + _BORDER_GAIN:
        best = 0
    return BORDERS[best], float(ious[best])
