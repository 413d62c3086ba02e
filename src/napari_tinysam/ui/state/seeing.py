"""How the model sees a plane: as a whole, or, if it is large, through looks at parts of it."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from statistics import median
from typing import TYPE_CHECKING

from napari_tinysam.inference.candidates import Candidates, predict
from napari_tinysam.inference.drafts import ObjectDraft, in_look
from napari_tinysam.inference.looks import Look, is_large
from napari_tinysam.inference.pyramid import (
    Answer,
    Box,
    LookPyramid,
    Question,
    Seen,
    SeenObject,
    answered,
)

if TYPE_CHECKING:
    from napari_tinysam.inference.cache import RecentEmbeddings
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.masks import BoxedMask

#: Objects whose sizes, and looks, are remembered.
_SIZES, _ANCHORS = 16, 256

#: Of an embedding in memory, about. Half of the memory is left to looks that were asked for.
_BYTES = 25_000_000

_PARTS = {2: "half", 4: "a quarter of", 8: "an eighth of"}


class Seeing(Enum):
    """Through which looks large planes are seen."""

    AUTO = "looks that suit the zoom and the objects"
    WHOLE = "whole planes"
    FULL = "full resolution"


@dataclass(frozen=True, eq=False)
class SeenPlane:
    """One plane and the looks at it.

    Parameters
    ----------
    key : hashable
        Tells the plane, its contrast and the chosen way of seeing from all others.
    pyramid : LookPyramid
        With a single look if the plane is not large.
    look_key : callable
        Identifies the embedding of a look.
    read : callable
        ``read(predictor, look)`` reads and embeds a look, in the inference thread. Prompts and
        masks of the result are in full-resolution pixels of the look.
    cache : RecentEmbeddings
        Of looks read before.
    seeing : Seeing
    limits : (float, float), optional
        Values of the image that are black and white; None: found in the plane.
    found_limits : callable
        Returns those of a large plane, once a look at it was read.
    begin : callable, optional
        Of a plane that is not large: reads its pixels, in any thread; returns what encodes them.
    """

    key: Hashable
    pyramid: LookPyramid
    look_key: Callable[[Look], Hashable]
    read: Callable[[Predictor, Look], Embedding]
    cache: RecentEmbeddings
    seeing: Seeing = Seeing.AUTO
    limits: tuple[float, float] | None = None
    found_limits: Callable[[], tuple[float, float] | None] = lambda: None
    begin: Callable[[], Callable[[Predictor], Embedding]] | None = None

    @property
    def in_parts(self) -> bool:
        """Whether there is more than one look."""
        return self.pyramid.last > 0 or self.pyramid.sides[0] < max(self.pyramid.shape)

    def known(self, predictor: Predictor, look: Look) -> Embedding | None:
        """Return the embedding of a look that was read before."""
        return self.cache.get((self.look_key(look), predictor.model_id))

    def has(self, predictor: Predictor, look: Look) -> bool:
        """Whether a look was read before; it does not count as used."""
        return (self.look_key(look), predictor.model_id) in self.cache

    def embedding(self, predictor: Predictor, look: Look) -> Embedding:
        """Return the embedding of a look; read it if necessary. For the inference thread."""
        found = self.known(predictor, look)
        if found is None:
            found = self.read(predictor, look)
            self.cache.put((self.look_key(look), predictor.model_id), found)
        return found

    def answer(
        self,
        predictor: Predictor,
        drafts: Sequence[ObjectDraft],
        levels: Sequence[tuple[int, bool]],
        *,
        briefly: bool = False,
        on_read: Callable[[Look], None] = lambda look: None,
    ) -> list[Answer[Candidates]]:
        """Ask the model about drafts, each in the look that shows it well.

        For the inference thread: looks may have to be read.

        Parameters
        ----------
        predictor : Predictor
        drafts : sequence of ObjectDraft
            N of them, predictable.
        levels : sequence of (int, bool)
            Where to begin, from `SizesSeen.start`, for each draft.
        briefly : bool
            Read one look at most; answers that need another are not settled.
        on_read : callable
            Called with each look before it is read.
        """
        reads = 0

        questions = _questions(drafts, levels)

        def ask(look: Look, numbers: list[int]) -> Seen[Candidates]:
            nonlocal reads
            if not self.has(predictor, look):
                reads += 1
                on_read(look)
            embedding = self.embedding(predictor, look)
            asked = [in_look(drafts[number], look) for number in numbers]
            found = predict(predictor, embedding, asked, look, self.pyramid.shape)
            seen = []
            for each, number in zip(found, numbers, strict=True):
                chosen = drafts[number].candidate
                believed = each.confirmed(embedding, chosen) if look.scale >= 1 else 1
                seen.append(SeenObject(each, each.mask(chosen), believed))
            return Seen(seen, embedding.usual_side * look.scale)

        def may_ask(look: Look) -> bool:
            return not briefly or not reads or self.has(predictor, look)

        return answered(self.pyramid, questions, ask, may_ask)

    def first_looks(
        self, drafts: Sequence[ObjectDraft], levels: Sequence[tuple[int, bool]]
    ) -> list[Look]:
        """Return the look in which `answer` begins, for each draft."""
        return [
            self.pyramid.first(question)[1] for question in _questions(drafts, levels)
        ]

    def instance(
        self, predictor: Predictor, level: int, xy: tuple[float, float]
    ) -> BoxedMask | None:
        """Return the object that the object head sees at (x, y), in a look that was read before.

        Parameters
        ----------
        predictor : Predictor
        level : int
            Of the pyramid; looks of the levels nearest to it are asked first.
        xy : (float, float)
            In pixels of the plane.

        Returns
        -------
        BoxedMask or None
            In pixels of the plane; None where no look tells.
        """
        pyramid = self.pyramid
        levels = range(len(pyramid.sides))
        for each in sorted(levels, key=lambda other: abs(other - level)):
            look = pyramid.holding((*xy, *xy), each)[1]
            if not self.has(predictor, look):
                continue
            embedding = self.known(predictor, look)
            local = xy[0] - look.x0, xy[1] - look.y0
            found = None if embedding is None else embedding.instance_at(local)
            if found is not None:
                placed = look.placed(found, pyramid.shape)
                cut = look.clearance(placed.box, pyramid.shape) < look.scale
                return None if cut else placed
        return None

    def reading_words(self, look: Look) -> str:
        """Say what is being read while a click waits for it."""
        if not self.in_parts or look == Look.whole(self.pyramid.shape):
            return "Reading the image…"
        height, width = look.size
        return f"Reading {width:,} × {height:,} pixels of the image…"

    def ahead(self, level: int, shown: Look, at: tuple[float, float]) -> list[Look]:
        """List the looks to read before they are asked for, the most urgent first.

        Parameters
        ----------
        level : int
            Of the pyramid.
        shown : Look
            What is on the screen.
        at : (float, float)
            (x, y) of the mouse, or the middle of the screen.
        """
        if not self.in_parts:
            return []
        grid = self.pyramid.grids[level]
        around = grid.side // 2
        height, width = self.pyramid.shape
        wider = Look(
            max(shown.y0 - around, 0),
            max(shown.x0 - around, 0),
            min(shown.y1 + around, height),
            min(shown.x1 + around, width),
        )
        looks = [grid.around(at), *grid.touching(shown), *grid.touching(wider)]
        return list(dict.fromkeys(looks))[: self.cache.capacity // (2 * _BYTES)]

    def words(self, level: int) -> str:
        """Say through which looks the plane is seen; "" where that goes without saying."""
        if not is_large(self.pyramid.shape):
            return ""
        side, scale = self.pyramid.sides[level], self.pyramid.scale(level)
        part = _PARTS.get(round(scale), f"1/{scale:.0f} of")
        reduced = f" at {part} the resolution" if scale > 1 else ""
        if side >= max(self.pyramid.shape):
            return f"Seen whole,{reduced}"
        return f"Seen in tiles of {side:,} pixels" + (f",{reduced}" if reduced else "")


@dataclass(eq=False)
class SizesSeen:
    """How large the objects of an image are, and at which level each draft is seen.

    A draft keeps its level when the view is zoomed, so that its mask does not flicker.
    """

    _sizes: deque[float] = field(default_factory=lambda: deque(maxlen=_SIZES))
    _levels: OrderedDict[Hashable, int] = field(default_factory=OrderedDict)

    def usual(self, seen: SeenPlane, shown: float) -> int:
        """Level for new objects.

        Parameters
        ----------
        seen : SeenPlane
        shown : float
            Longer side of the part of the plane that is on the screen, in pixels of the plane.
        """
        pyramid = seen.pyramid
        if seen.seeing is Seeing.FULL:
            return pyramid.own
        level = pyramid.showing(shown)
        return pyramid.fitting(median(self._sizes), level) if self._sizes else level

    def start(
        self, seen: SeenPlane, draft: ObjectDraft, shown: float
    ) -> tuple[int, bool]:
        """Return where to begin with a draft, and whether to look more closely at a small one."""
        level = self._levels.get((seen.key, draft.anchor))
        if level is not None:
            return min(level, seen.pyramid.last), False
        return self.usual(seen, shown), seen.seeing is not Seeing.FULL

    def note(
        self, seen: SeenPlane, draft: ObjectDraft, answer: Answer[Candidates]
    ) -> None:
        """Remember an answer to a click."""
        height, width = answer.found.mask(draft.candidate).mask.shape
        if not seen.in_parts or not height:
            return
        self._levels[seen.key, draft.anchor] = answer.level
        while len(self._levels) > _ANCHORS:
            self._levels.popitem(last=False)
        self._sizes.append(max(height, width))


def _questions(
    drafts: Sequence[ObjectDraft], levels: Sequence[tuple[int, bool]]
) -> list[Question]:
    return [
        Question(_extent(draft), *level, sized=draft.box is not None)
        for draft, level in zip(drafts, levels, strict=True)
    ]


def _extent(draft: ObjectDraft) -> Box:
    """Return the box around all prompts of a draft."""
    boxes: list[Box] = [(point.x, point.y, point.x, point.y) for point in draft.points]
    if draft.box is not None:
        boxes.append(draft.box)
    if draft.edited is not None and draft.edited.mask.area:
        boxes.append(draft.edited.mask.box)
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)
