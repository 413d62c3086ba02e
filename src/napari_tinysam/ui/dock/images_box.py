"""The list of images that are annotated one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QPoint, Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMenu,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tinysam.ui.canvas.keys import action
from napari_tinysam.ui.dock.buttons import action_button, explain, set_tip
from napari_tinysam.ui.dock.choice_combo import Choice, ChoiceCombo
from napari_tinysam.ui.dock.classes_box import ClassesBox
from napari_tinysam.ui.dock.images_list import ImagesModel, ImagesView
from napari_tinysam.ui.dock.key_button import KeyButton
from napari_tinysam.ui.dock.layouts import form_in
from napari_tinysam.ui.state.image_list import FILTERS, EntryState

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession
    from napari_tinysam.ui.state.image_list import ImageEntry, ImageList


class ImagesBox(QWidget):
    """Opens a list of images, shows how far it is, and goes through it.

    Parameters
    ----------
    session : AnnotationSession
        What the buttons act on.
    parent : QWidget, optional
        As in Qt.
    """

    #: A list was opened.
    opened = Signal()
    #: The user wants to see how the model is adapted.
    adapt_wanted = Signal()

    def __init__(
        self, session: AnnotationSession, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._listed = listed = session.listed
        self._shown: ImageList | None = None
        self.offer = QPushButton()
        self.offer.clicked.connect(lambda: listed.go_on_with_offer())
        self.folder = KeyButton("Folder…")
        set_tip(
            self.folder,
            "List all images of a folder, or an OME-Zarr image or plate, to annotate one after "
            "the other",
        )
        self.folder.clicked.connect(self._choose_folder)
        self.files = KeyButton("Files…")
        set_tip(self.files, "List some images")
        self.files.clicked.connect(self._choose_files)
        self.layers = KeyButton("Layers")
        set_tip(self.layers, "List the images that are open; they stay open")
        self.layers.clicked.connect(lambda: listed.take_layers())
        self.title = QLabel()
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(4)
        self.close_list = QPushButton("×")
        self.close_list.setFixedWidth(24)
        set_tip(self.close_list, "Close the list. The open image and all files stay")
        self.close_list.clicked.connect(lambda: listed.leave_list())
        self.model = ImagesModel(listed, self)
        self.view = ImagesView(self.model)
        self.view.chosen.connect(self._go_to)
        self.view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.view.customContextMenuRequested.connect(self._open_menu)
        self.done = action_button(
            "finish_image", "Done, next image", session, role="primary"
        )
        self.previous = action_button("previous_image", "Previous", session)
        self.next = action_button("next_image", "Next", session)
        self.adapt = QPushButton("Enough to adapt the model…")
        set_tip(
            self.adapt,
            "Let the model learn from the images that are done: it does better in the others",
        )
        self.adapt.clicked.connect(self.adapt_wanted)
        self.text = QLabel()
        self.text.setObjectName("TinySAMHint")
        self.text.setWordWrap(True)
        self.output = ChoiceCombo()
        self.output.chosen.connect(self._choose_output)
        self.shown = ChoiceCombo(
            [Choice(name, name) for name in FILTERS], tip="Which images are listed"
        )
        self.shown.chosen.connect(self._filter)
        self.skip = QCheckBox("Skip done")
        set_tip(self.skip, "Next and Previous pass over images that are done")
        self.skip.clicked.connect(listed.set_skip_done)
        self.classes = ClassesBox(session)
        self._lay_out()
        listed.changed.connect(self.refresh)
        session.adapting.changed.connect(self._show_whether_enough)
        listed.thumbnail_read.connect(self._picture_read)
        self.refresh()

    def close_down(self) -> None:
        """Stop following the session."""
        self.classes.close_down()
        self._listed.changed.disconnect(self.refresh)
        self._session.adapting.changed.disconnect(self._show_whether_enough)
        self._listed.thumbnail_read.disconnect(self._picture_read)

    def _lay_out(self) -> None:
        choose = QHBoxLayout()
        choose.setSpacing(6)
        for button in (self.folder, self.files, self.layers):
            choose.addWidget(button, 1)
        top = QHBoxLayout()
        top.addWidget(self.title, 1)
        top.addWidget(self.close_list)
        go = QHBoxLayout()
        go.setSpacing(6)
        go.addWidget(self.previous, 1)
        go.addWidget(self.next, 1)
        filters = QWidget()
        row = QHBoxLayout(filters)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(self.shown, 1)
        row.addWidget(self.skip)
        self._options = QWidget()
        form = form_in(self._options)
        form.addRow("Show", filters)
        form.addRow("Labels go", self.output)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        column.addWidget(self.offer)
        column.addLayout(choose)
        column.addLayout(top)
        column.addWidget(self.bar)
        column.addWidget(self.view)
        column.addWidget(self.done)
        column.addLayout(go)
        column.addWidget(self.adapt)
        column.addWidget(self.text)
        column.addWidget(self._options)
        column.addWidget(self.classes)

    # ------------------------------------------------------------ session → view

    def refresh(self) -> None:
        """Show the list as it is now."""
        listed = self._listed
        images, offer = listed.images, listed.offer
        self.offer.setVisible(images is None and offer is not None)
        if offer is not None:
            done = offer.count(EntryState.DONE)
            self.offer.setText(
                f"Go on with “{offer.title}” ({done} of {len(offer.entries)} done)"
            )
            self.offer.setToolTip("\n".join(map(str, offer.sources[:5])))
        for part in (
            *(self.title, self.close_list, self.bar, self.view, self.done),
            *(self.previous, self.next, self._options, self.classes),
        ):
            part.setVisible(images is not None)
        self.text.setText(listed.text)
        self.text.setVisible(bool(listed.text))
        self._show_whether_enough()
        if images is not None:
            self._refresh_list(images)
        if images is not None and images is not self._shown:
            self.opened.emit()
        self._shown = images

    def _show_whether_enough(self) -> None:
        adapting = self._session.adapting
        idle = not (adapting.running or adapting.result or adapting.left)
        self.adapt.setVisible(idle and adapting.found.is_plenty)

    def _refresh_list(self, images: ImageList) -> None:
        listed = self._listed
        count, done = len(images.entries), images.count(EntryState.DONE)
        place = "" if images.at is None else f"image {images.at + 1} of {count}, "
        self.title.setText(f"{images.title}: {place}{done} done")
        self.bar.setRange(0, count)
        self.bar.setValue(done)
        self.view.refresh(listed.current)
        here = listed.current is not None
        reason = "Another image is shown: click one of the list."
        explain(self.done, here, action("finish_image").text, reason)
        explain(self.next, True, action("next_image").text)
        explain(self.previous, True, action("previous_image").text)
        self.skip.setChecked(images.skip_done)
        folder = images.folder
        self.output.set_choices(
            [
                Choice(False, "beside the images", "As NAME_labels.tif"),
                *([] if folder is None else [Choice(folder, folder.name, str(folder))]),
                Choice(
                    True,
                    "to another folder…",
                    "Labels are saved there, with a copy of the image: training reads both",
                ),
            ]
        )
        self.output.show_choice(folder or False)

    def _picture_read(self, path: Path) -> None:
        for row, entry in enumerate(self.model.rows):
            if entry.path == path:
                index = self.model.index(row)
                self.model.dataChanged.emit(index, index)

    # ------------------------------------------------------------ user → session

    def _choose_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Images to annotate")
        if name:
            self._listed.open_paths([Path(name)])

    def _choose_files(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Images to annotate")
        if names:
            self._listed.open_paths([Path(name) for name in names])

    def _choose_output(self, where: Path | bool) -> None:
        if where is True:
            name = QFileDialog.getExistingDirectory(self, "Where the labels go")
            if name:
                self._listed.set_folder(Path(name))
        else:
            self._listed.set_folder(None if where is False else where)
        self.refresh()

    def _filter(self, name: str) -> None:
        self.model.filter = name
        self.refresh()

    def _go_to(self, entry: ImageEntry) -> None:
        images = self._listed.images
        if images is not None and entry in images.entries:
            self._listed.go_to(images.entries.index(entry))

    def _open_menu(self, place: QPoint) -> None:
        row = self.view.indexAt(place).row()
        if not 0 <= row < len(self.model.rows):
            return
        entry = self.model.rows[row]
        menu = QMenu(self)
        done = entry.state is EntryState.DONE
        other = EntryState.STARTED if entry.count else EntryState.NEW
        state = other if done else EntryState.DONE
        mark = menu.addAction("Mark as not done" if done else "Mark as done")
        if mark is not None:
            mark.triggered.connect(lambda: self._listed.set_state(entry, state))
        every = menu.addAction("Mark all that have labels as done")
        if every is not None:
            every.triggered.connect(lambda: self._listed.mark_labelled())
        viewport = self.view.viewport()
        if viewport is not None:
            menu.exec(viewport.mapToGlobal(place))
