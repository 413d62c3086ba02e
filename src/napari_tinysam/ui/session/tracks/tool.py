"""Corrections of tracks with keys: link, cut, swap, divide, delete, follow; divisions decided.

Each key acts on the object under the cursor and is one step of undo. Linking, swapping and dividing
concern several objects, often of several frames: the key is pressed over one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from napari_tinysam.ui.session.tracks.tracked_movie import mother_place
from napari_tinysam.volume.corrections import Correction, Kind

if TYPE_CHECKING:
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.labels.labelling import Labeller
    from napari_tinysam.ui.session.tracks.following import TrackFollowing
    from napari_tinysam.ui.session.tracks.state import TrackState
    from napari_tinysam.ui.session.tracks.tracked_movie import TrackedMovie
    from napari_tinysam.ui.session.tracks.tracking import Tracking
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.subject import Subject
    from napari_tinysam.volume.corrections import Place
    from napari_tinysam.volume.tracking import Division

#: The step that takes or refuses a proposed division.
DECIDED = {True: "division", False: "no division"}


@dataclass(frozen=True)
class Begun:
    """A correction that waits for more objects.

    Parameters
    ----------
    kind : Kind
    places : tuple of Place
        Those so far.
    labels : tuple of int
        Their tracks.
    movie : TrackedMovie
        Has these places; when it was measured anew, they are others.
    """

    kind: Kind
    movie: TrackedMovie
    places: tuple[Place, ...] = ()
    labels: tuple[int, ...] = ()


class Tool(Enum):
    """A correction: the method that makes it."""

    LINK = "link"
    CUT = "cut"
    SWAP = "swap"
    DELETE = "delete"
    FOLLOW = "follow"
    DIVIDE = "divide"
    REFUSE = "refuse"


#: How many objects a correction needs.
_NEEDED = {Kind.LINK: 2, Kind.SWAP: 2, Kind.DIVIDE: 3}


class TrackTool:
    """Corrects the tracks of the image's labels.

    Parameters
    ----------
    subject : Subject
    labelling : Labeller
        Knows which id is where.
    tracking : Tracking
    notify : callable
        ``notify(level, text)``.
    go_to : callable
        Shows a plane.
    following : TrackFollowing
        Follows a track anew.
    """

    def __init__(
        self,
        subject: Subject,
        labelling: Labeller,
        tracking: Tracking,
        notify: Notify,
        go_to: Callable[[Plane], None],
        following: TrackFollowing,
    ) -> None:
        self._subject = subject
        self._labelling = labelling
        self._tracking = tracking
        self._notify = notify
        self._go_to = go_to
        self._following = following
        self._begun: Begun | None = None
        self._armed: Tool | None = None  # what clicks do
        self._doubt = -1  # which proposed division was shown last

    @property
    def armed(self) -> Tool | None:
        """The correction that clicks make, as chosen by its button."""
        return None if self._tracking.movie is None else self._armed

    def arm(self, tool: Tool) -> None:
        """Let the next clicks do what a key does; once more leaves that."""
        self._armed = None if tool is self._armed else tool
        self._begun = None
        self._subject.changed.emit()

    def click_at(self, xy: tuple[float, float]) -> bool:
        """Correct the track at (x, y) as its button says; return whether one is pressed."""
        if (armed := self.armed) is None:
            return False
        self._subject.cursor = xy
        getattr(self, armed.value)()
        if self._begun is None:
            self._armed = None
            self._subject.changed.emit()
        return True

    @property
    def hint(self) -> str:
        """What the correction that was begun waits for; "" if none was."""
        begun = self._begun
        if self._tracking.movie is None:
            return ""
        if begun is None:
            return "" if self._armed is None else "Click the tracked object."
        label = begun.labels[0]
        if begun.kind is Kind.LINK:
            return f"Track {label} goes on as … In a later frame, press K over that, or click it."
        if begun.kind is Kind.SWAP:
            return (
                f"Swap track {label} with … Press Q over the other here, or click it."
            )
        which = "first" if len(begun.places) == 1 else "second"
        return f"Track {label} divides. Later on, press D over the {which} daughter."

    @property
    def doubts(self) -> list[Division]:
        """The divisions that are proposed, by frame."""
        movie = self._tracking.movie
        if movie is None or movie.tracks is None:
            return []
        return movie.tracks.possible

    # --- what keys and buttons do --------------------------------------------------------

    def link(self) -> None:
        """Let a track go on as another: pressed over the one, then over the other later on."""
        self._collect(Kind.LINK)

    def swap(self) -> None:
        """Exchange two tracks from this frame on: pressed over the one, then over the other."""
        self._collect(Kind.SWAP)

    def cut(self) -> None:
        """Let a new track begin with the object under the cursor."""
        self._single(Kind.CUT)

    def delete(self) -> None:
        """Hide the track under the cursor from this frame on."""
        self._single(Kind.DELETE)

    def follow(self) -> None:
        """Let the model follow the track under the cursor anew from this frame on."""
        if (here := self._here()) is not None:
            self._leave()
            movie, place = here
            self._following.follow(movie, self._label(movie, place), place[0])

    def divide(self) -> None:
        """Confirm the division that is proposed here, or say who the daughters are."""
        if self._begun is None and (here := self._here()) is not None:
            division = self._proposed(*here) or self._proposed(*here, refused=True)
            if division is not None:
                self._decide(here[0], division, True)
                return
        self._collect(Kind.DIVIDE)

    def refuse(self) -> None:
        """Refuse the division that is proposed or was taken here; or leave what was begun."""
        if self._begun is not None:
            self._leave()
            return
        if (here := self._here()) is None:
            return
        movie, place = here
        division = self._proposed(movie, place)
        if division is not None:
            self._decide(movie, division, False)
            return
        mother = self._mother(movie, place)
        if mother is None:
            self._notify("info", "No division is proposed or taken here.")
            return
        key = (mother[0], int(movie.frames.overlaps.ids[mother[0]][mother[1]]))

        def change(state: TrackState) -> TrackState:
            decisions = {**state.decisions, key: False}
            corrections = (*state.corrections, Correction(Kind.UNITE, (mother,)))
            return replace(state, decisions=decisions, corrections=corrections)

        self._tracking.change(Kind.UNITE.value, change)

    def next_doubt(self) -> None:
        """Show the next proposed division."""
        movie, doubts = self._tracking.movie, self.doubts
        plane = self._subject.plane
        if movie is None or plane is None or not doubts:
            self._notify("info", "No division is in doubt.")
            return
        self._doubt = (self._doubt + 1) % len(doubts)
        division = doubts[self._doubt]
        self._go_to(self._tracking.at_frame(movie, plane, division.frame))
        self._tracking.center_on(movie, mother_place(movie, division.key))
        self._subject.cursor = None  # the image moved under the mouse
        one, other = self._labels(movie, division)
        self._notify(
            "info",
            f"Has {one} divided, into {one} and {other}? Over one of them: D for yes, Shift+D for "
            "no.",
        )

    # --- places --------------------------------------------------------------------------

    def _here(self) -> tuple[TrackedMovie, Place] | None:
        """Return the movie and the object under the cursor; else say what is missing."""
        movie, plane = self._tracking.movie, self._subject.plane
        if movie is None:
            self._notify(
                "info", "Track the objects first (Link and track, in the dock)."
            )
            return None
        if self._following.running:
            self._notify("info", "Wait until following has ended, or cancel it.")
            return None
        label = self._labelling.id_at(self._subject.cursor)
        frame = None if plane is None else self._tracking.frame_of(movie, plane)
        if not label or frame is None:
            outside = label and plane is not None
            said = "This frame is outside of the range that is tracked."
            self._notify("info", said if outside else "Move over a tracked object.")
            return None
        place = movie.piece(frame, label)
        if place is None:
            self._notify(
                "info", f"Object {label} is new here. Press Track to track it, too."
            )
            return None
        return movie, place

    def _label(self, movie: TrackedMovie, place: Place) -> int:
        return int(movie.pieces.tables[place[0]][place[1] + 1])

    def _labels(self, movie: TrackedMovie, division: Division) -> tuple[int, int]:
        """Ids of the mother and of the daughter that is new."""
        mother = self._label(movie, mother_place(movie, division.key))
        places = () if movie.tracks is None else movie.tracks.daughters[division.key]
        ids = [self._label(movie, place) for place in places]
        return mother, next((each for each in ids if each != mother), mother)

    def _proposed(
        self, movie: TrackedMovie, place: Place, *, refused: bool = False
    ) -> Division | None:
        """Return the division that is proposed at an object, its mother or one of its daughters.

        `refused`: one that the user refused.
        """
        tracks = movie.tracks
        if tracks is None:
            return None
        for division in tracks.refused if refused else tracks.possible:
            family = (
                mother_place(movie, division.key),
                *tracks.daughters.get(division.key, ()),
            )
            if place in family:
                return division
        return None

    def _mother(self, movie: TrackedMovie, place: Place) -> Place | None:
        """Return the mother of the division that an object belongs to."""
        tracks = movie.tracks
        if tracks is None:
            return None
        label = self._label(movie, place)
        mother = tracks.parents.get(label)
        if mother is None and label in tracks.parents.values():
            mother = label
        return None if mother is None else tracks.ends.get(mother)

    # --- corrections ---------------------------------------------------------------------

    def _single(self, kind: Kind) -> None:
        if (here := self._here()) is not None:
            self._leave()
            self._correct(Correction(kind, (here[1],)))

    def _collect(self, kind: Kind) -> None:
        """Take the object under the cursor as the next one of a correction."""
        if (here := self._here()) is None:
            return
        movie, place = here
        begun = self._begun
        if begun is None or begun.kind is not kind or begun.movie is not movie:
            begun = Begun(kind, movie)
        if place in begun.places:
            self._leave()
            return
        if begun.places and (said := self._wrong(begun, place, movie.start)):
            self._notify("info", said)
            return
        labels = (*begun.labels, self._label(movie, place))
        begun = Begun(kind, movie, (*begun.places, place), labels)
        if len(begun.places) < _NEEDED[kind]:
            self._begun = begun
            self._subject.changed.emit()
            return
        self._leave()
        self._correct(Correction(kind, begun.places))

    def _wrong(self, begun: Begun, place: Place, start: int) -> str:
        """Say why an object cannot be the next one."""
        first = begun.places[0][0]
        shown = first + start
        if begun.kind is Kind.SWAP and place[0] != first:
            return f"Swapping takes two objects of one frame: go back to frame {shown}."
        if begun.kind is not Kind.SWAP and place[0] <= first:
            return f"It must be in a later frame than {shown}."
        return ""

    def _leave(self) -> None:
        if self._begun is not None:
            self._begun = None
            self._subject.changed.emit()

    def _correct(self, correction: Correction) -> None:
        self._tracking.change(
            correction.kind.value,
            lambda state: replace(state, corrections=(*state.corrections, correction)),
        )

    def _decide(self, movie: TrackedMovie, division: Division, taken: bool) -> None:
        mother = mother_place(movie, division.key)

        def change(state: TrackState) -> TrackState:
            decisions = {**state.decisions, division.key: taken}
            refusal = Correction(Kind.UNITE, (mother,))
            left = tuple(each for each in state.corrections if each != refusal)
            corrections = left if taken else state.corrections
            return replace(state, decisions=decisions, corrections=corrections)

        self._tracking.change(DECIDED[taken], change)
