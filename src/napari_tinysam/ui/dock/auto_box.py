"""Auto-segment: the button, where it looks, and decisions about the proposals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_tinysam.ui.canvas.keys import action
from napari_tinysam.ui.dock.buttons import action_button, explain
from napari_tinysam.ui.dock.choice_combo import Choice, ChoiceCombo
from napari_tinysam.ui.dock.files_box import FilesBox
from napari_tinysam.ui.dock.filter_sliders import (
    ShareSlider,
    SizeSlider,
    SliderRows,
    diameter_of,
)
from napari_tinysam.ui.dock.key_button import KeyButton
from napari_tinysam.ui.dock.planes_box import PlanesBox
from napari_tinysam.ui.dock.rest_box import RestBox
from napari_tinysam.ui.state.mode import Mode
from napari_tinysam.ui.state.region import Region
from napari_tinysam.ui.state.sizes import Lengths, lengths_of

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession
    from napari_tinysam.ui.state.proposed import Classed, Ranking

#: What the button says; the key is on it, too.
_BUTTON = {
    Region.ALL_PLANES: "All planes",
    Region.ALL_IMAGES: "All images",
    Region.LIST: "Images of the list",
    Region.FILES: "Segment files",
}

_REGION_TIPS = {
    Region.PLANE: "The whole shown plane",
    Region.ALL_PLANES: "All planes of the stack or movie, or a range of them. Objects go into "
    "the labels, plane by plane; you can go on working",
    Region.ALL_IMAGES: "All images that are shown, with all their planes. Objects go into the "
    "labels of each; you can go on working",
    Region.LIST: "The images of the list that are not done and have no labels of another program, "
    "without opening them; the open one is left out. Labels are written as files, to be corrected",
    Region.FILES: "Images in a folder, without opening them. Labels and tables are written as "
    "files; you can go on working",
    Region.VIEW: "Only what is on the screen: zoom in first. A part of a plane is enlarged for "
    "the model, so that it finds small objects",
    Region.BOX: "Only inside the box that you drew with Shift+drag. It is enlarged for the "
    "model, so that it finds small objects",
}


class AutoBox(QWidget):
    """Region, accept, pick, discard, and the sliders that filter.

    `start` is in no layout: the dock keeps it visible while the rest is scrolled or folded.

    Parameters
    ----------
    session : AnnotationSession
        What they act on.
    parent : QWidget, optional
        As in Qt.
    """

    def __init__(
        self, session: AnnotationSession, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._session = session
        auto, proposals = session.auto, session.proposals
        self.start = action_button(
            "auto_segment", "Auto-segment", session, role="primary"
        )
        self.similar = action_button("find_similar", "Find similar", session)
        self.region = ChoiceCombo()
        self.region.chosen.connect(auto.set_region)
        self.planes, self.files = PlanesBox(session), FilesBox(session)
        self.rest = RestBox(session)
        self.count = QLabel()
        self.count.setObjectName("TinySAMHint")
        self.advice = QLabel()
        self.advice.setWordWrap(True)
        self.accept = KeyButton("Accept all")
        self.accept.clicked.connect(lambda: proposals.accept_all())
        self.pick = KeyButton("Pick")
        self.pick.setCheckable(True)
        self.pick.clicked.connect(session.set_picking)
        self.discard = KeyButton("Discard")
        self.discard.clicked.connect(lambda: proposals.discard())

        self.confidence = ShareSlider(
            "Confidence",
            "Show only proposals of which the model is at least this sure",
            lambda value: proposals.set_settings(confidence=value),
        )
        self.diameter = SizeSlider(
            lambda least, largest: proposals.set_settings(
                least_area=least, largest_area=largest
            )
        )
        self.parts = ShareSlider(
            "Whole ↔ parts",
            "Left: whole objects. Right: the parts that they are made of",
            lambda value: proposals.set_settings(parts=value),
        )
        self.overlap = ShareSlider(
            "Max. overlap",
            "Leave out a proposal if surer ones cover more than this share of it",
            lambda value: proposals.set_settings(overlap=value),
        )
        self.likeness = ShareSlider(
            "Likeness",
            "Show only proposals that are at least this alike, the most alike in yellow. "
            "At the left end all are shown",
            lambda value: proposals.set_least_likeness(value),
        )
        self.sliders = SliderRows(
            self.likeness, self.confidence, self.diameter, self.parts, self.overlap
        )
        self.classes = ChoiceCombo(
            tip="Each proposal can have the class of the objects that it is most alike to. "
            "Accepted ones get it"
        )
        self.classes.chosen.connect(lambda choice: session.similar.set_classes(*choice))
        self.of_class = QWidget()
        by_class = QHBoxLayout(self.of_class)
        by_class.setContentsMargins(0, 0, 0, 0)
        by_class.setSpacing(6)
        by_class.addWidget(QLabel("Class"))
        by_class.addWidget(self.classes, 1)

        first = QHBoxLayout()
        first.setSpacing(6)
        first.addWidget(QLabel("Look in"))
        first.addWidget(self.region, 1)
        decide = QGridLayout()
        decide.setHorizontalSpacing(6)
        for column, button in enumerate((self.accept, self.pick, self.discard)):
            decide.addWidget(button, 0, column)
            decide.setColumnStretch(column, 1)
        column_ = QVBoxLayout(self)
        column_.setContentsMargins(0, 0, 0, 0)
        column_.setSpacing(6)
        column_.addLayout(first)
        column_.addWidget(self.planes)
        column_.addWidget(self.files)
        column_.addWidget(self.rest)
        column_.addWidget(self.similar)
        column_.addWidget(self.count)
        column_.addWidget(self.advice)
        column_.addLayout(decide)
        column_.addWidget(self.of_class)
        column_.addWidget(self.sliders)
        self.refresh("")

    def refresh(self, blocked: str) -> None:
        """Show the session's state; `blocked` says why nothing can be clicked, "" if it can."""
        session = self._session
        auto, proposals = session.auto, session.proposals
        settings = proposals.settings
        region = session.region
        files = region in (Region.FILES, Region.LIST)
        running = auto.running or session.all_planes.running
        if files:
            chosen = session.files.paths or region is Region.LIST
            blocked = "" if chosen else "Choose a folder or files first."
            running = session.files.running
        explain(
            self.start,
            not blocked and not running,
            f"{action('auto_segment').text}. Labelled objects stay as they are",
            blocked or "It is already running.",
        )
        explain(
            self.similar,
            not blocked and not running,
            f"{action('find_similar').text}: the edited one, the one under the mouse, or the one "
            "that you are clicking. Of a class, all of its objects are examples",
            blocked or "It is already running.",
        )
        self.similar.setVisible(region.in_plane)
        self.start.set_texts(_BUTTON.get(region, "Auto-segment"))
        self.region.set_choices(
            [
                Choice(each, each.value.capitalize(), _REGION_TIPS[each])
                for each in session.regions
            ]
        )
        self.region.show_choice(region)
        self.planes.setVisible(region in (Region.ALL_PLANES, Region.ALL_IMAGES))
        self.planes.refresh()
        self.files.setVisible(region is Region.FILES)
        self.rest.setVisible(region is Region.LIST)
        there = settings is not None and not files
        for part in (self.count, self.accept, self.pick, self.discard, self.sliders):
            part.setVisible(there)
        self.advice.setText(proposals.advice)
        self.advice.setVisible(bool(proposals.advice))
        self.of_class.setVisible(there and bool(session.similar.classes_here()))
        if settings is None or files:
            return
        number = proposals.count
        ranking, classed = proposals.ranking, proposals.classed
        if number:
            like = "" if ranking is None else f" like {ranking.example}"
            self.count.setText(f"{number:,} proposal{'s' if number > 1 else ''}{like}")
        else:
            more = "more " if proposals.decided else ""
            self.count.setText(f"No {more}proposals with these settings")
        reason = blocked or "No proposals with these settings."
        able = not blocked and number > 0
        explain(self.accept, able, "Commit all proposals to the labels", reason)
        explain(
            self.pick,
            able,
            "Click a proposal to accept it, right-click to discard it. Press again to stop",
            reason,
        )
        self.pick.setChecked(session.mode is Mode.PICK)
        explain(self.discard, True, "Discard all proposals")
        self._show_classes(ranking, classed)
        self.confidence.show_value(settings.confidence)
        self.overlap.show_value(settings.overlap)
        self.parts.show_value(settings.parts)
        largest = proposals.largest_area
        image, plane = session.image, session.shown_plane
        lengths = Lengths()
        if image is not None and plane is not None:
            lengths = lengths_of(image, plane, diameter_of(largest))
        self.diameter.show_range(
            settings.least_area, settings.largest_area, largest, lengths
        )

    def _show_classes(self, ranking: Ranking | None, classed: Classed | None) -> None:
        """Show by what proposals are sorted."""
        self.likeness.set_visible(ranking is not None)
        if ranking is not None:
            self.likeness.show_value(ranking.least)
        self.classes.set_choices(
            [
                Choice((False,), "no class", "Accepted proposals get no class"),
                Choice(
                    (True,),
                    "every class",
                    "Each proposal has the class of the objects that it is most alike to; "
                    "choose this again after giving more classes",
                ),
                *(
                    Choice((True, each), each.name, "Only proposals of this class")
                    for each in self._session.similar.classes_here()
                ),
            ]
        )
        only = () if classed is None or classed.only is None else (classed.only,)
        self.classes.show_choice((classed is not None, *only))
