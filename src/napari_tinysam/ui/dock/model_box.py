"""Choices that are made once: model, device, contrast, large images, hover preview."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QLabel,
    QPushButton,
    QWidget,
)

from napari_tinysam.checkpoints import REGISTRY, is_available_offline
from napari_tinysam.checkpoints.own import own_models
from napari_tinysam.ui.dock.choice_combo import Choice, ChoiceCombo
from napari_tinysam.ui.dock.layouts import form_in
from napari_tinysam.ui.state.choices import keep_choice
from napari_tinysam.ui.state.planes import Contrast
from napari_tinysam.ui.state.seeing import Seeing

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession

_FILE = Choice(
    None,
    "Choose file…",
    "A TinySAM, MobileSAM or SAM model, or one that you fine-tuned (.safetensors, .pth)",
)
_FILE_FILTER = "Models (*.safetensors *.pth *.pt);;All files (*)"

_DEVICES = [
    Choice("auto", "Automatic"),
    Choice("cpu", "Processor (CPU)"),
    Choice("mps", "Apple GPU")
    if sys.platform == "darwin"
    else Choice("cuda", "NVIDIA GPU (CUDA)"),
]

_CONTRASTS = (
    Choice(
        Contrast.PERCENTILES,
        "Automatic",
        "The model sees the contrast stretched to the values of the plane",
    ),
    Choice(
        Contrast.DISPLAYED,
        "As displayed",
        "The model sees the image as the layer controls display it now",
    ),
)


_SEEING = (
    Choice(
        Seeing.AUTO,
        "Automatic",
        "The model sees parts of a large image, as large as suits the zoom and the objects",
    ),
    Choice(
        Seeing.WHOLE,
        "Whole",
        "The model sees all of the image at once, reduced: for objects that fill much of it",
    ),
    Choice(
        Seeing.FULL,
        "Full resolution",
        "The model sees tiles of the image at its own resolution",
    ),
)


class ModelBox(QWidget):
    """Model, device, contrast, how large images are seen, and hover preview.

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
        self._shown: tuple[object, ...] = ()
        self.model = ChoiceCombo()
        self.model.chosen.connect(self._choose_model)
        self.failure = QLabel()
        self.failure.setObjectName("TinySAMHint")
        self.failure.setWordWrap(True)
        self.retry = QPushButton("Try again")
        self.retry.setToolTip("Load the chosen model again")
        self.retry.clicked.connect(self._try_again)
        self.device = ChoiceCombo(
            tip="Where the model runs. “Automatic” takes the fastest"
        )
        self.device.chosen.connect(self._choose_device)
        self.contrast = ChoiceCombo(_CONTRASTS)
        self.contrast.chosen.connect(session.set_contrast)
        self.seeing = ChoiceCombo(_SEEING)
        self.seeing.chosen.connect(session.set_seeing)
        self.hover = QCheckBox("Show the mask under the cursor")
        self.hover.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.hover.clicked.connect(self._choose_hover)

        form = form_in(self)
        form.addRow("Model", self.model)
        form.addRow(self.failure)
        form.addRow(self.retry)
        form.addRow("Runs on", self.device)
        form.addRow("Contrast", self.contrast)
        form.addRow("Large images", self.seeing)
        form.addRow(self.hover)
        self.refresh()

    def refresh(self) -> None:
        """Show the session's choices."""
        session = self._session
        choices = (
            session.model_name,
            session.model_failure,
            session.device,
            session.contrast,
            session.seeing,
            session.hover_enabled,
        )
        if choices == self._shown:
            return  # this runs after every click, and `refresh_models` reads the disk
        self._shown = choices
        self.refresh_models()
        failure = session.model_failure
        self.failure.setText(failure)
        for part in (self.failure, self.retry):
            part.setVisible(bool(failure))
        devices = list(_DEVICES)
        if session.device not in [device.value for device in devices]:
            # "cuda:1", from the settings
            devices.append(Choice(session.device, session.device))
        self.device.set_choices(devices)
        self.device.show_choice(session.device)
        self.contrast.show_choice(session.contrast)
        self.seeing.show_choice(session.seeing)
        self.hover.setChecked(session.hover_enabled)

    def refresh_models(self) -> None:
        """Update which models are on this machine."""
        current = self._session.model_name
        mine = {str(model.path): model for model in own_models()}
        names = list(REGISTRY)
        if current not in REGISTRY and current not in mine:
            names.append(current)
        self.model.set_choices(
            [
                *(
                    Choice(path, model.text, model.about)
                    for path, model in mine.items()
                ),
                *map(_model_choice, names),
                _FILE,
            ]
        )
        self.model.show_choice(current)

    def _choose_model(self, name: str | None) -> None:
        if name is None:
            name, _ = QFileDialog.getOpenFileName(
                self, "Choose a model", "", _FILE_FILTER
            )
        if name:
            keep_choice("model", "name", name)
            self._session.set_model(name, self._session.device)
        self.refresh_models()

    def _try_again(self) -> None:
        self._session.set_model(self._session.model_name, self._session.device)

    def _choose_device(self, device: str) -> None:
        keep_choice("model", "device", device)
        self._session.set_model(self._session.model_name, device)

    def _choose_hover(self, checked: bool) -> None:
        keep_choice("preview", "enabled", checked)
        self._session.set_hover_enabled(checked)


def _model_choice(name: str) -> Choice:
    """Name a model, and say whether it must be downloaded first, and how much that is."""
    checkpoint = REGISTRY.get(name)
    if checkpoint is None:
        return Choice(name, Path(name).name, name)
    text = checkpoint.title
    if checkpoint.url is None:
        text += "" if "bundled" in text else " (bundled)"
    elif is_available_offline(name):
        text += " (downloaded)"
    else:
        size = "" if checkpoint.size is None else f" {_megabytes(checkpoint.size)}"
        text += f", download{size}"
    tip = f"{checkpoint.description}\nTrained on: {checkpoint.training_data}"
    return Choice(name, text, tip)


def _megabytes(size: int) -> str:
    """Write bytes as people read them: "41 MB", "2.6 GB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
