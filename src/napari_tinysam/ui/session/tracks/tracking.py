"""The objects of the frames of a movie become tracks, in the labels of an image.

Frames are measured once, in steps on the inference thread. Tracks are found anew from that, also
there, whenever a setting, a decision on a division or a correction changes. Labels carry the
number of their track; a tracks layer beside them shows the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_tinysam.errors import TinySAMError
from napari_tinysam.ui.session.journals.deeds import settings_to_json
from napari_tinysam.ui.session.labels.writing import LabelsError
from napari_tinysam.ui.session.stacks.work import StackWork, Workplace
from napari_tinysam.ui.session.tracks.changes import Arrival, state_of_same
from napari_tinysam.ui.session.tracks.finding import found_tracks
from napari_tinysam.ui.session.tracks.movie_frames import (
    MovieFrames,
    image_frames,
    movie_frames,
)
from napari_tinysam.ui.session.tracks.outside import Outside, PiecesBefore, outside
from napari_tinysam.ui.session.tracks.showing import ShownTracks
from napari_tinysam.ui.session.tracks.state import TrackState, are_tracks, state_moved
from napari_tinysam.ui.session.tracks.tracked_movie import (
    TrackEdit,
    TrackedMovie,
    Tracks,
    in_words,
    own_ids,
)
from napari_tinysam.ui.session.worker import Lane
from napari_tinysam.ui.state.history import Deed
from napari_tinysam.ui.state.stack_planes import (
    AxisKind,
    axis_of_kind,
)
from napari_tinysam.ui.state.status import Status, StatusKind
from napari_tinysam.ui.state.traces import moved_to
from napari_tinysam.volume.corrections import Kind
from napari_tinysam.volume.measuring import MeasuredFrames
from napari_tinysam.volume.tracking import TrackSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image, Labels

    from napari_tinysam.ui.session.labels.stack_edits import StackEdit
    from napari_tinysam.ui.session.stacks.linking import Linking
    from napari_tinysam.ui.session.stacks.piece_measuring import MeasuredPieces
    from napari_tinysam.ui.session.stacks.pieces import Relabel
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.volume.corrections import Place

#: What the step of the button and that of the sliders are called.
STEP, SLIDER = "track", "tracking"

#: What is done when tracks come back with restored labels; it is no step.
BROUGHT_BACK = ""

Change = Callable[[TrackState], TrackState]


class Tracking(StackWork):
    """Tracks the objects of movies, one movie at a time.

    Parameters
    ----------
    place : Workplace
    linking : Linking
        Stacks of a movie are linked in depth before they are tracked.
    """

    def __init__(self, place: Workplace, linking: Linking) -> None:
        super().__init__(place, "Tracking", Lane.TRACK)
        self._linking = linking
        self._shown = ShownTracks(place.viewer, place.inference.post)
        self._step = STEP
        self._change: Change = _unchanged
        self._arrivals: list[Arrival] = []  # not yet part of the tracks
        self._relabelling.on_turned.append(self._turned)

    @property
    def note(self) -> str:
        """What was tracked in the labels of the image, in words."""
        movie = self.movie
        return "" if movie is None or movie.tracks is None else in_words(movie.tracks)

    # --- what the user chooses -----------------------------------------------------------

    @property
    def movie(self) -> TrackedMovie | None:
        """The tracked labels of the image; None if they are not tracked."""
        image = self._subject.image
        layer = None if image is None else self._outputs.of(image)
        movie = None if layer is None else self._movies.get(layer)
        return movie if movie is not None and movie.tracks is not None else None

    @property
    def settings(self) -> TrackSettings:
        """When objects of two frames are the same."""
        subject = self._subject
        return TrackSettings() if subject.image is None else subject.state.tracking

    def set_settings(self, **changed: Any) -> None:
        """Change settings, and track anew what is tracked.

        Parameters
        ----------
        **changed
            Those of `TrackSettings`.
        """
        image = self._subject.image
        if image is None:
            return
        settings = replace(self.settings, **changed)
        self._subject.state.tracking = settings
        anew = set(changed) != {"least_frames"}

        def change(state: TrackState) -> TrackState:
            given = None if anew else state.given
            return replace(state, settings=settings, given=given)

        if self.movie is not None:
            self._start(image, SLIDER, change)
        self._subject.changed.emit()

    def track_anew(self) -> None:
        """Track again what is tracked: distances are others."""
        if self._subject.image is not None and self.movie is not None:
            self._start(self._subject.image, SLIDER, _unchanged)

    def change(self, step: str, change: Change) -> None:
        """Change decisions or corrections, as one step.

        Parameters
        ----------
        step : str
            What was done.
        change : callable
            Makes the new state of the old one.
        """
        if self._subject.image is not None and self.movie is not None:
            self._start(self._subject.image, step, change)

    @property
    def _movies(self) -> dict[Labels, TrackedMovie]:
        return self._subject.memory.tracked

    def frame_of(self, movie: TrackedMovie, plane: Plane) -> int | None:
        """Return the frame of a movie that a plane of the image belongs to; None if none."""
        axis = self._time()
        at = None if axis is None else plane.index[axis]
        if at is None or not 0 <= at - movie.start < len(movie.frames):
            return None
        return at - movie.start

    def at_frame(self, movie: TrackedMovie, plane: Plane, frame: int) -> Plane:
        """Return the plane of another frame of a movie."""
        axis = self._time()
        return plane if axis is None else moved_to(plane, axis, frame + movie.start)

    def center_on(self, movie: TrackedMovie, place: Place) -> None:
        """Bring an object into the middle of the canvas."""
        frame, index = place
        data = movie.position(frame, movie.frames.centres[frame][index])
        world = movie.layer.data_to_world(data)
        camera = self._viewer.scene.camera
        offset = len(camera.center) - 2
        shown = [axis - movie.layer.ndim for axis in movie.axes]
        middle = list(camera.center)
        middle[offset:] = [float(world[axis]) for axis in shown]
        camera.center = tuple(middle)

    def _time(self) -> int | None:
        place = self.place
        if place is None:
            return None
        return axis_of_kind(*place, self._subject.state, AxisKind.TIME)

    # --- begin and end -------------------------------------------------------------------

    def time_known(self, image: Image) -> bool:
        """Whether an axis of an image is known to be time."""
        plane = self._plane(image)
        state = self._subject.memory.state_of(image)
        return plane is not None and (
            axis_of_kind(image, plane, state, AxisKind.TIME) is not None
        )

    def track(self, images: Sequence[Image]) -> None:
        """Track the objects in the labels of images, those of stacks after linking them."""
        stacks = [image for image in images if self._must_link(image)]
        if stacks:
            self._linking.link(stacks, lambda: self.track(images))
            return
        self._step, self._change = STEP, _unchanged
        self._work_on(images)

    def take(self, image: Image, parents: dict[int, int]) -> None:
        """Take the ids of the labels for tracks, as where they were read from a file."""
        layer = self._outputs.of(image)
        if layer is not None:
            self._movies.pop(layer, None)
            given = tuple(parents.items())
            self._start(image, STEP, lambda state: replace(state, given=given))

    def bring_back(
        self, image: Image, parents: dict[int, int], settings: TrackSettings
    ) -> None:
        """Take the ids of restored labels for their tracks; that is no step."""
        self._subject.memory.state_of(image).tracking = settings
        given = tuple(parents.items())
        self._start(image, BROUGHT_BACK, lambda state: replace(state, given=given))

    def arrive(self, image: Image, step: str, arrival: Arrival) -> None:
        """Let what is known from elsewhere join the tracks, as a step or part of one."""
        self._arrivals.append(arrival)
        self._start(image, step, _unchanged)

    def finish(self) -> None:
        """Write at once what still waits: the labels are read next."""
        self._relabelling.finish()

    def image_frames(self, image: Image) -> list[list[Plane]]:
        """Return the planes of each frame of a movie; nothing if its time is not known."""
        state = self._subject.memory.state_of(image)
        return image_frames(image, self._plane(image), state)

    def forget(self, layer: Image | Labels) -> None:
        """Forget a layer that left the viewer, or an image that has other data."""
        for labels, movie in list(self._movies.items()):
            if layer is labels or layer is movie.image:
                del self._movies[labels]
                self._shown.forget(labels)
        super().forget(layer)

    def _must_link(self, image: Image) -> bool:
        layer, plane = self._outputs.of(image), self._plane(image)
        if layer is None or plane is None or not self._linking.depth_known(image):
            return False
        return not self._linking.linked_in(layer) and layer not in self._movies

    def _start(self, image: Image, step: str, change: Change) -> None:
        if self._now is None:
            self._step, self._change = step, change
            self._begin(image)
        elif self._now is image:
            # What was asked just now has not been done yet.
            earlier = self._change
            self._step, self._change = step, lambda state: change(earlier(state))
            layer = self._outputs.of(image)
            if self._measuring is None and layer in self._movies:
                self._find(self._movies[layer])

    def _turned(self, edit: Relabel, applied: bool) -> None:
        """Follow a step that was undone or redone."""
        if not isinstance(edit, TrackEdit):
            return
        movie = edit.movie
        movie.state, movie.tracks = edit.now if applied else edit.was
        movie.version = self._saving.version(edit.layer)
        if not applied and edit.earlier is not None:
            # Undo brings back also how the objects were numbered. What was drawn since may stay.
            movie = edit.earlier
            movie.version = -1
        movie.edit = None
        self._movies[edit.layer] = movie
        self._subject.memory.state_of(movie.image).tracking = movie.state.settings
        self._draw(movie)

    # --- measuring -----------------------------------------------------------------------

    def _begin(self, image: Image) -> None:
        try:
            layer = self._outputs.of(image)
            frames = movie_frames(
                image,
                self._plane(image),
                self._subject.memory.state_of(image),
                layer,
            )
        except TinySAMError as error:
            self._notify("info", str(error))
            self._go_on()
            return
        self._now = image
        layer = frames.layer
        movie = self._movies.get(layer)
        if movie is not None and self._is_current(movie, frames.planes):
            movie.frames = replace(movie.frames, scale=frames.scale)
            self._find(movie)
            return

        def found(measured: MeasuredPieces) -> None:
            self._pieces_found(image, frames, measured, movie)

        if movie is not None and not movie.measured.continues(frames.planes):
            movie = None  # frames have other planes now
        before = None
        if movie is not None:
            known = movie.outside.only(frames.planes, inside=True)
            before = PiecesBefore(movie.pieces, known)
        self._measure(layer, [frames.planes], before, True, found)

    def _pieces_found(
        self,
        image: Image,
        frames: MovieFrames,
        found: MeasuredPieces,
        before: TrackedMovie | None,
    ) -> None:
        layer = found.layer
        ids = self._outputs.ids(layer)
        try:
            own = own_ids(found, before, ids.next, apart=self._in_part(image))
        except LabelsError as error:
            self._failed(error)
            return
        ids.used(max(int(each.max(initial=0)) for each in own))
        start = frames.planes[0][0].index[frames.axis] or 0
        if before is None:
            state = TrackState(self._subject.memory.state_of(image).tracking)
            if are_tracks(found):
                state = replace(state, given=())
        else:
            state = state_of_same(before, found)
            # What is asked for names objects as they were numbered until now.
            shift = before.start - start
            asked = state_moved(self._change(state), found, shift)
            self._change = lambda _: asked
            state = state_moved(state, found, shift)
        movie = TrackedMovie(
            image=image,
            measured=found,
            pieces=self._relabelling.made(found),
            own=own,
            version=found.version,
            axis=frames.axis,
            start=start,
            frames=MeasuredFrames(found.overlaps[0], found.centres, frames.scale),
            state=state,
            tracks=None if before is None else before.tracks,
            parents={} if before is None else before.all_parents,
            earlier=before,
            outside=Outside()
            if before is None
            else outside(before, before.outside, found.groups),
        )
        self._movies[layer] = movie
        self._find(movie)

    # --- tracking ------------------------------------------------------------------------

    def _failed(self, error: Exception) -> None:
        image = self._now
        if image is not None and self.settings.way == "trackastra":
            # What follows, as the next slider, would fail as well.
            state = self._subject.memory.state_of(image)
            state.tracking = replace(state.tracking, way="auto")
        self._change = _unchanged
        super()._failed(error)

    def _find(self, movie: TrackedMovie) -> None:
        """Find the tracks on the inference thread, and show them."""
        step, change = self._step, self._change
        state = change(movie.state)
        arrived = [each for each in self._arrivals if each.layer is movie.layer]
        for each in arrived:
            if each.edit is None or each.edit.applied:
                state = each.change(state, movie)

        def shown(tracks: Tracks, newest: bool) -> None:
            if not newest:
                return
            self._change = _unchanged
            self._arrivals = [each for each in self._arrivals if each not in arrived]
            part = arrived[-1].edit if arrived and step == Kind.FOLLOW.value else None
            part = part if part is not None and part.applied else None
            self._show(movie, state, tracks, step, part)
            said = in_words(tracks)
            if state.given is not None:
                said = f"{said} The labels had them already."
            self._end(said if step == STEP else "")
            self._go_on()

        known = self._subject.memory.state_of(movie.image)
        planes = image_frames(movie.image, self._plane(movie.image), known, known.part)
        if state.settings.way == "trackastra" and movie.learned is None:
            self._on_status(Status(StatusKind.LINKING, "Tracking by trackastra"))
        self._compute(movie, lambda: found_tracks(movie, state, planes), shown)

    def _show(
        self,
        movie: TrackedMovie,
        state: TrackState,
        tracks: Tracks,
        step: str,
        part_of: StackEdit | None,
    ) -> None:
        if step == BROUGHT_BACK and movie.has_ids_of(tracks):
            movie.state, movie.tracks, movie.earlier = state, tracks, None
            self._draw(movie)
            return
        edit = movie.edit
        if not isinstance(edit, TrackEdit) or not self._goes_on(movie, step, SLIDER):
            now = movie.pieces.tables
            was = movie.state, movie.tracks
            edit = TrackEdit(movie.pieces, now, now, movie.first, movie, was, was)
            edit.earlier = movie.earlier
        edit.now = movie.state, movie.tracks = state, tracks
        movie.earlier = None
        told = {
            "settings": settings_to_json(state.settings),
            "parents": [list(pair) for pair in movie.all_parents.items()],
        }
        deed = Deed("track", told)
        self._write(movie, edit, tracks.ids, step, deed, part_of)
        self._draw(movie)

    def _draw(self, movie: TrackedMovie) -> None:
        """Show the tracks in their layer, unless a slider went on by then."""
        asked = self._asked

        def is_wanted() -> bool:
            newest = self._now is not movie.image or self._asked == asked
            return newest and self._movies.get(movie.layer) is movie

        self._shown.show(movie, is_wanted)


def _unchanged(state: TrackState) -> TrackState:
    return state
