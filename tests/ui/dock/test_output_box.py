"""The box of the labels: what is saved by itself, and what beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image, Labels
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_tinysam.ui.dock.output_box import OutputBox
from napari_tinysam.ui.dock.questions import ask_for_file
from napari_tinysam.ui.state.choices import read_choices

if TYPE_CHECKING:
    import pytest

    from dock_driver import OpenDockFactory


def test_the_choices_are_kept_and_others_work_is_asked_about(
    open_dock: OpenDockFactory,
    blobs: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dock = open_dock(
        Image(blobs, name="cells"), Labels(np.zeros((200, 300), np.uint16)), show=False
    )
    session, box = dock.widget.session, dock.widget.findChild(OutputBox)
    assert not box.autosave.isChecked()
    assert not box.pace.isVisible()
    box.autosave.click()
    box.provenance.click()
    assert session.saving.autosave.on
    assert session.saving.with_provenance
    choices = read_choices()
    assert (choices.autosave, choices.provenance) == (True, True)
    box.autosave.click()

    (layer,) = session.labels_layers()
    session.set_target(layer)
    file = tmp_path / "cells_labels.tif"
    assert session.saving.save_now(layer, file)
    assert (tmp_path / "cells_provenance.json").exists()
    assert ask_for_file(box, session, layer) == file  # nobody is asked

    file.write_bytes(b"of another program")
    asked: list[str] = []

    def answer(*arguments: object) -> QMessageBox.StandardButton:
        asked.append(str(arguments[2]))
        return QMessageBox.StandardButton.No

    monkeypatch.setattr(QMessageBox, "question", answer)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: ("", ""))
    assert ask_for_file(box, session, layer) is None
    assert asked == ["Another program has changed cells_labels.tif. Replace it?"]
