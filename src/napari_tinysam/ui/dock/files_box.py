"""Image files that are segmented beside the viewer: which, where to, how far, and their results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QWidget,
)

from napari_tinysam.ui.dock.buttons import explain, set_tip
from napari_tinysam.ui.dock.choice_combo import Choice, ChoiceCombo
from napari_tinysam.ui.dock.key_button import KeyButton
from napari_tinysam.ui.dock.layouts import grid_in

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession

_STEPS = 1000  # of the bar

#: So many results are listed while the batch runs; all of them at its end.
_LISTED = 100

_CHANNELS = (
    Choice(None, "As the file says", "Colours as colours, otherwise the first channel"),
    *(Choice(at, str(at)) for at in range(6)),
)


class FilesBox(QWidget):
    """Folder or files, where results go, progress, and opening a result.

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
        self._listed = (-1, False)
        files = session.files
        self.folder = KeyButton("Folder…")
        set_tip(self.folder, "Segment all images of a folder, stacks plane by plane")
        self.folder.clicked.connect(self._choose_folder)
        self.some = KeyButton("Files…")
        set_tip(self.some, "Segment some images of a folder")
        self.some.clicked.connect(self._choose_files)
        self.chosen = QLabel()
        self.chosen.setWordWrap(True)
        self.output = ChoiceCombo()
        self.output.chosen.connect(self._choose_output)
        self.channel = ChoiceCombo(_CHANNELS, tip="Of files that have several channels")
        self.channel.chosen.connect(files.set_channel)
        self.text = QLabel()
        self.text.setObjectName("TinySAMHint")
        self.text.setWordWrap(True)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(4)
        self.bar.setRange(0, _STEPS)
        self.cancel = QPushButton("Cancel")
        set_tip(
            self.cancel,
            "Stop. What is finished is kept, and the next run goes on after it",
        )
        self.cancel.clicked.connect(files.cancel)
        self.result = ChoiceCombo(tip="Images that are segmented")
        self.result.chosen.connect(self._note_result)
        self._shown_result: object = None
        self.open = KeyButton("Open")
        self.open.clicked.connect(self._open)

        grid = grid_in(self)
        grid.setColumnStretch(1, 1)
        choose = QHBoxLayout()
        choose.setSpacing(6)
        choose.addWidget(self.folder, 1)
        choose.addWidget(self.some, 1)
        grid.addLayout(choose, 0, 0, 1, 2)
        grid.addWidget(self.chosen, 1, 0, 1, 2)
        self._add_row(grid, 2, "Results", self.output)
        self._add_row(grid, 3, "Channel", self.channel)
        grid.addWidget(self.text, 4, 0, 1, 2)
        grid.addWidget(self.bar, 5, 0, 1, 2)
        grid.addWidget(self.cancel, 6, 0, 1, 2)
        grid.addWidget(self.open, 7, 0)
        grid.addWidget(self.result, 7, 1)
        files.changed.connect(self.refresh)
        self.refresh()

    def close_down(self) -> None:
        """Stop following the session."""
        self._session.files.changed.disconnect(self.refresh)

    def refresh(self) -> None:
        """Show how far the batch is."""
        files = self._session.files
        for choice in (self.folder, self.some, self.output, self.channel):
            choice.setEnabled(not files.running)
        self.chosen.setText(self._chosen_in_words())
        self.chosen.setVisible(bool(files.paths))
        set_tip(self.chosen, "\n".join(str(path) for path in files.paths[:20]))
        here = files.output
        choices = [
            Choice(False, "Beside the images", "In the folder of the images"),
            *([] if here is None else [Choice(here, here.name, str(here))]),
            Choice(True, "Another folder…", "Choose where the results go"),
        ]
        self.output.set_choices(choices)
        self.output.show_choice(here or False)
        self.channel.show_choice(files.channel)
        self.text.setText(files.text)
        self.text.setVisible(bool(files.text))
        self.bar.setVisible(files.running)
        self.bar.setValue(round(_STEPS * (files.fraction or 0.0)))
        self.cancel.setVisible(files.running)
        self._list_results()

    def _add_row(self, grid: QGridLayout, row: int, title: str, field: QWidget) -> None:
        grid.addWidget(QLabel(title), row, 0)
        grid.addWidget(field, row, 1)

    def _chosen_in_words(self) -> str:
        files = self._session.files
        if not files.paths:
            return ""
        count = files.found
        number = "…" if count is None else f"{count:,} image{'' if count == 1 else 's'}"
        if len(files.paths) == 1:
            return f"{number} in “{files.paths[0].name}”"
        return f"{number} of “{files.paths[0].parent.name}”"

    def _list_results(self) -> None:
        """List what can be opened; long lists only at the end."""
        files = self._session.files
        done = [each for each in files.results if each.state not in ("failed",)]
        for part in (self.result, self.open):
            part.setVisible(bool(done))
        explain(self.open, bool(done), "Show this image and its labels in the viewer")
        listed = min(len(done), _LISTED) if files.running else len(done), files.running
        if listed == self._listed:
            return
        self._listed = listed
        self.result.set_choices(
            [
                Choice(each, each.image.name, str(each.image))
                for each in done[: listed[0]]
            ]
        )
        self.result.show_choice(self._shown_result)

    # --- user → session ------------------------------------------------------------------

    def _choose_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Segment all images of a folder")
        if name:
            self._session.files.choose([Path(name)])

    def _choose_files(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Segment images")
        if names:
            self._session.files.choose([Path(name) for name in names])

    def _choose_output(self, where: Path | bool) -> None:
        files = self._session.files
        if where is True:
            name = QFileDialog.getExistingDirectory(self, "Where the results go")
            if name:
                files.set_output(Path(name))
        else:
            files.set_output(None if where is False else where)
        self.refresh()

    def _note_result(self, result: object) -> None:
        self._shown_result = result

    def _open(self) -> None:
        at = self.result.currentIndex()
        done = [each for each in self._session.files.results if each.state != "failed"]
        if 0 <= at < len(done):
            self._session.open_result(done[at])
