"""Choices that are made once: model, device, contrast, hover preview."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QLabel,
    QPushButton,
    QWidget,
)

from napari_tinysam.checkpoints import REGISTRY, is_available_offline
from napari_tinysam.ui.dock.layer_combo import NarrowCombo
from napari_tinysam.ui.state.choices import keep_choice
from napari_tinysam.ui.state.planes import Contrast

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession

_FILE = "Choose file…"
_FILE_FILTER = "Model weights (*.safetensors *.pth *.pt);;All files (*)"

_DEVICES = {"auto": "Automatic", "cpu": "Processor (CPU)"}
_GPU = (
    {"mps": "Apple GPU"} if sys.platform == "darwin" else {"cuda": "NVIDIA GPU (CUDA)"}
)

_CONTRAST_TEXTS = {
    Contrast.PERCENTILES: "automatic",
    Contrast.DISPLAYED: "as displayed",
}


class ModelBox(QWidget):
    """Model, device, contrast and hover preview.

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
        self._models: list[str | None] = []  # names or files; None: choose a file
        self._shown: tuple[object, ...] = ()
        self.model = NarrowCombo()
        self.model.activated.connect(self._choose_model)
        self.failure = QLabel()
        self.failure.setObjectName("TinySAMHint")
        self.failure.setWordWrap(True)
        self.retry = QPushButton("Try again")
        self.retry.setToolTip("Load the chosen model once more")
        self.retry.clicked.connect(self._try_again)
        self.device = NarrowCombo()
        for name, text in {**_DEVICES, **_GPU}.items():
            self.device.addItem(text, name)
        self.device.setToolTip("Where the model runs. Automatic takes the fastest.")
        self.device.activated.connect(self._choose_device)
        self.contrast = NarrowCombo()
        for contrast in Contrast:
            self.contrast.addItem(_CONTRAST_TEXTS[contrast], contrast)
        self.contrast.setToolTip(
            "What the model sees: contrast stretched over the values of the plane, or as "
            "the image is displayed now (layer controls)."
        )
        self.contrast.activated.connect(self._choose_contrast)
        self.hover = QCheckBox("Show the mask under the cursor")
        self.hover.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.hover.clicked.connect(self._choose_hover)

        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(6)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Model", self.model)
        form.addRow(self.failure)
        form.addRow(self.retry)
        form.addRow("Runs on", self.device)
        form.addRow("Contrast", self.contrast)
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
            session.hover_enabled,
        )
        if choices == self._shown:
            return  # this is called after every click; marks of models read the disk
        self._shown = choices
        self.refresh_models()
        failure = session.model_failure
        self.failure.setText(failure)
        for part in (self.failure, self.retry):
            part.setVisible(bool(failure))
        at = self.device.findData(session.device)
        if at < 0:  # "cuda:1", from the settings
            self.device.addItem(session.device, session.device)
            at = self.device.count() - 1
        self.device.setCurrentIndex(at)
        self.contrast.setCurrentIndex(list(Contrast).index(session.contrast))
        self.hover.setChecked(session.hover_enabled)

    def refresh_models(self) -> None:
        """Show which models are on this machine by now."""
        current = self._session.model_name
        models: list[str | None] = list(REGISTRY)
        if current not in REGISTRY:
            models.append(current)
        texts = [_model_text(name) for name in models if name is not None]
        models.append(None)
        texts.append(_FILE)
        if texts != [self.model.itemText(i) for i in range(self.model.count())]:
            self.model.clear()
            for name, text in zip(models, texts, strict=True):
                self.model.addItem(text)
                tip = _model_tip(name)
                self.model.setItemData(
                    self.model.count() - 1, tip, Qt.ItemDataRole.ToolTipRole
                )
        self._models = models
        self.model.setCurrentIndex(models.index(current))
        self.model.setToolTip(_model_tip(current))

    def _choose_model(self, at: int) -> None:
        name = self._models[at]
        if name is None:
            name, _ = QFileDialog.getOpenFileName(
                self, "Choose model weights", "", _FILE_FILTER
            )
        if name:
            keep_choice("model", "name", name)
            self._session.set_model(name, self._session.device)
        self.refresh_models()

    def _try_again(self) -> None:
        self._session.set_model(self._session.model_name, self._session.device)

    def _choose_device(self, at: int) -> None:
        device = str(self.device.itemData(at))
        keep_choice("model", "device", device)
        self._session.set_model(self._session.model_name, device)

    def _choose_contrast(self, at: int) -> None:
        self._session.set_contrast(list(Contrast)[at])

    def _choose_hover(self, checked: bool) -> None:
        keep_choice("preview", "enabled", checked)
        self._session.set_hover_enabled(checked)


def _model_text(name: str) -> str:
    """Title and whether choosing it means waiting for a download, and for how much."""
    checkpoint = REGISTRY.get(name)
    if checkpoint is None:
        return Path(name).name
    if checkpoint.url is None:
        bundled = "" if "bundled" in checkpoint.title else " (bundled)"
        return f"{checkpoint.title}{bundled}"
    if is_available_offline(name):
        return f"{checkpoint.title} (downloaded)"
    size = "" if checkpoint.size is None else f" {_megabytes(checkpoint.size)}"
    return f"{checkpoint.title}, download{size}"


def _megabytes(size: int) -> str:
    """Bytes as people read them: "41 MB", "2.6 GB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _model_tip(name: str | None) -> str:
    if name is None:
        return "A .safetensors or .pth file of TinySAM, MobileSAM or SAM"
    checkpoint = REGISTRY.get(name)
    if checkpoint is None:
        return name
    return f"{checkpoint.description}\nTrained on: {checkpoint.training_data}"
