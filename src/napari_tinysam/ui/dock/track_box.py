"""Tracking in a movie: the button, live sliders, and the keys that correct tracks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_tinysam.errors import TinySAMError
from napari_tinysam.ui.canvas.keys import action
from napari_tinysam.ui.dock.buttons import action_button, explain, set_tip
from napari_tinysam.ui.dock.choice_combo import Choice, ChoiceCombo
from napari_tinysam.ui.dock.filter_sliders import CountSlider, ShareSlider, SliderRows
from napari_tinysam.ui.dock.key_button import KeyButton, shown_key
from napari_tinysam.ui.dock.layouts import grid_in
from napari_tinysam.ui.dock.track_files_box import TrackFilesBox
from napari_tinysam.ui.session.tracks.tool import Tool
from napari_tinysam.volume.learned import check_trackastra
from napari_tinysam.volume.linking import MOST_GAP

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession

_WAYS = (
    Choice("auto", "automatic", "By overlap, unless objects move further than that"),
    Choice(
        "overlap",
        "overlap",
        "An object is the one that it lies over in the next frame. Best where objects move "
        "less than their size",
    ),
    Choice(
        "centres",
        "distance",
        "An object is the nearest one in the next frame. For objects that move far",
    ),
)

#: What the overlap slider stands on at least; nothing is the same without overlap.
_LEAST_OVERLAP = 0.01

#: Diameters that the distance slider reaches, in tenths.
_FURTHEST = 50

#: Buttons that correct, row by row; the keys are on them.
_CORRECTIONS = (
    (("link_tracks", "Link", Tool.LINK), ("cut_track", "Cut", Tool.CUT)),
    (("swap_tracks", "Swap", Tool.SWAP), ("delete_track", "Delete", Tool.DELETE)),
    (
        ("divide_track", "Division", Tool.DIVIDE),
        ("refuse_division", "No division", Tool.REFUSE),
    ),
    (("follow_track", "Follow again", Tool.FOLLOW),),
)


class TrackBox(QWidget):
    """Tracking through the frames of a movie.

    Parameters
    ----------
    session : AnnotationSession
        What the choices go to.
    parent : QWidget, optional
        As in Qt.
    """

    def __init__(
        self, session: AnnotationSession, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._session = session
        tracking = session.tracking
        self.track = KeyButton("Track objects")
        self.track.clicked.connect(lambda: session.track_objects())
        self.way = ChoiceCombo((*_WAYS, _by_trackastra()))
        self.way.chosen.connect(lambda way: tracking.set_settings(way=way))
        self.overlap = ShareSlider(
            "Overlap above",
            "Objects of neighbouring frames are the same object if they overlap by more than this",
            lambda value: tracking.set_settings(overlap=max(value, _LEAST_OVERLAP)),
        )
        self.distance = CountSlider(
            "Distance",
            "The furthest that an object moves from frame to frame, in diameters of an object",
            lambda value: tracking.set_settings(distance=value / 10),
        )
        self.gap = CountSlider(
            "Gap",
            "An object may be missing in so many frames and go on after them",
            lambda value: tracking.set_settings(gap=value),
        )
        self.division = ShareSlider(
            "Divisions",
            "Divisions of which the plugin is at least this sure are taken; the others are "
            "proposed",
            lambda value: tracking.set_settings(division=value),
        )
        self.least = CountSlider(
            "At least",
            "Tracks of fewer frames are hidden, unless they are part of a division. They are not "
            "lost: they come back when you move the slider back",
            lambda value: tracking.set_settings(least_frames=value),
        )
        self.note = QLabel()
        self.note.setObjectName("TinySAMHint")
        self.note.setWordWrap(True)
        set_tip(self.note, "Ctrl+Z takes it back")
        self.doubt = action_button("next_doubt", "Next possible division", session)
        self.corrections = QWidget()
        grid = grid_in(self.corrections)
        self.buttons: dict[str, KeyButton] = {}
        self._tools: dict[KeyButton, Tool] = {}
        for row, pair in enumerate(_CORRECTIONS):
            for column, (method, text, tool) in enumerate(pair):
                button = KeyButton(text, shown_key(action(method).label))
                button.setCheckable(True)
                # The key acts under the mouse, the button on what is clicked next.
                button.clicked.connect(partial(self._arm, tool))
                self.buttons[method] = button
                self._tools[button] = tool
                grid.addWidget(button, row, column)
                grid.setColumnStretch(column, 1)

        rows = SliderRows(
            self.overlap, self.distance, self.gap, self.division, self.least
        )
        by = QHBoxLayout()
        by.setSpacing(6)
        by.addWidget(QLabel("By"))
        by.addWidget(self.way, stretch=1)
        column_ = QVBoxLayout(self)
        column_.setContentsMargins(0, 0, 0, 0)
        column_.setSpacing(6)
        column_.addWidget(self.track)
        column_.addLayout(by)
        column_.addWidget(rows)
        self.files = TrackFilesBox(session)
        for part in (self.note, self.doubt, self.corrections, self.files):
            column_.addWidget(part)
        self.refresh()

    def _arm(self, tool: Tool, _: bool) -> None:
        self._session.track_tool.arm(tool)

    def refresh(self) -> None:
        """Show the session's settings, and what is tracked."""
        session = self._session
        tracking, tool = session.tracking, session.track_tool
        settings, movie = tracking.settings, tracking.movie
        explain(
            self.track,
            session.target is not None,
            "Give the objects of a track one number in all frames. Also after changes by hand",
            "No labels yet: segment the frames or choose a labels layer.",
        )
        self.way.show_choice(settings.way)
        way = settings.way if movie is None else movie.way or settings.way
        learned = way in ("given", "trackastra")
        self.overlap.set_visible(way != "centres" and not learned)
        self.distance.set_visible(way == "centres")
        self.gap.set_visible(not learned)
        self.overlap.show_value(settings.overlap)
        tenths = round(settings.distance * 10)
        words = f"{settings.distance:g} ⌀"
        self.distance.show_count(tenths, 1, max(_FURTHEST, tenths), words)
        self.gap.show_count(settings.gap, 0, MOST_GAP, _frames(settings.gap))
        self.division.show_value(settings.division)
        frames = 2 if movie is None else len(movie.frames)
        most = max(2, frames, settings.least_frames)
        least = settings.least_frames
        self.least.show_count(least, 1, most, _frames(least))
        self.note.setText(tracking.note)
        self.note.setVisible(bool(tracking.note))
        self.files.refresh()
        doubts = len(tool.doubts)
        self.doubt.setText(
            f"{doubts} possible division{'' if doubts == 1 else 's'}: next"
        )
        self.doubt.setVisible(bool(doubts))
        self.corrections.setVisible(movie is not None)
        for method, button in self.buttons.items():
            explain(button, True, _TIPS[method])
            button.setChecked(tool.armed is self._tools[button])
            button.set_key_works(session.key_works(method))


#: The same with the key, over the objects, and with the button, by clicking them.
_TIPS = {
    "link_tracks": "Choose an object, go to a later frame, and choose what it goes on as",
    "cut_track": "Choose an object: a new track begins with it",
    "swap_tracks": "Choose two objects of a frame: from here on they are exchanged",
    "delete_track": "Choose an object: its track is deleted from this frame on",
    "divide_track": "Choose one of a possible division to confirm it. Or choose the mother, then "
    "in a later frame each daughter",
    "follow_track": "Choose an object: the model follows it anew from this frame on. What its "
    "track has elsewhere becomes another track",
    "refuse_division": "Choose a mother or daughter: it was no division",
}


def _by_trackastra() -> Choice:
    """Offer trackastra where it can be used; else say why not."""
    try:
        check_trackastra()
    except TinySAMError as error:
        return Choice("trackastra", "trackastra", str(error), enabled=False)
    return Choice(
        "trackastra",
        "trackastra",
        "A model that was trained on many movies, by the package trackastra. It takes a while",
    )


def _frames(count: int) -> str:
    return f"{count} frame{'' if count == 1 else 's'}"
