"""The offer on top of the dock, in a real viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from qtpy.QtWidgets import QMessageBox

from desk import open_desk
from fake_inference import QueuedInference
from napari_tinysam.journal.folder import Journals
from napari_tinysam.journal.reading import labels_of, read_journal

if TYPE_CHECKING:
    import pytest

    from dock_driver import OpenDockFactory


def crashed(image: np.ndarray) -> np.ndarray:
    """Label an image and end without saving; return the labels."""
    desk = open_desk(Image(image, name="cells"), inference=QueuedInference())
    for x, y in ((60, 60), (200, 100)):
        desk.click(x, y)
        desk.session.commit()
        desk.inference.turn()
    assert desk.session.target is not None
    labels = np.array(desk.session.target.data)
    assert labels.max() == 2
    desk.session.close(window_is_gone=True)
    return labels


def box_of(dock: Any) -> Any:
    return dock.widget.recovery


def test_there_is_no_box_without_unsaved_labels(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    dock = open_dock(Image(blobs, name="cells"))

    assert not box_of(dock).isVisible()


def test_prompts_are_offered_and_drawn_again(
    open_dock: OpenDockFactory, blobs: np.ndarray, qtbot: Any
) -> None:
    desk = open_desk(Image(blobs, name="cells"), inference=QueuedInference())
    desk.click(60, 60)
    desk.session.close(window_is_gone=True)
    dock = open_dock(Image(blobs, name="cells"))
    box = box_of(dock)
    qtbot.waitUntil(box.isVisible, timeout=20_000)
    assert box.text.text().startswith("Prompts of 1 object on cells from ")
    assert not box.show_it.isVisible()
    box.restore.click()

    assert not box.isVisible()
    assert not any(layer.name.endswith("not saved") for layer in dock.viewer.layers)
    dock.until(dock.shows_preview)
    assert dock.viewer.layers["point_prompts"].data.tolist() == [[60, 60]]


def test_unsaved_labels_are_offered_shown_and_restored(
    open_dock: OpenDockFactory, blobs: np.ndarray, qtbot: Any
) -> None:
    labels = crashed(blobs)
    dock = open_dock(Image(blobs, name="cells"))
    box = box_of(dock)
    qtbot.waitUntil(box.isVisible, timeout=20_000)
    assert box.text.text().startswith("2 objects on cells from ")
    assert [each.text() for each in (box.restore, box.show_it)] == ["Restore", "Show"]
    box.show_it.click()
    assert "cells not saved" in dock.viewer.layers
    assert box.show_it.text() == "Hide"
    box.restore.click()

    assert not box.isVisible()
    target = dock.widget.session.target
    assert target is not None
    assert [each for each in dock.viewer.layers if isinstance(each, Labels)].count(
        target
    ) == 1
    np.testing.assert_array_equal(target.data, labels)
    assert dock.widget.output.labels.currentText() == "cells committed_objects"
    journal = dock.widget.session._parts.subject.memory.journals[target]
    before = journal.last
    target.paint((10, 10), 9)

    def kept() -> None:
        assert journal.flush()
        found = labels_of(read_journal(journal.folder))
        np.testing.assert_array_equal(found, target.data)

    qtbot.waitUntil(lambda: journal.last > before, timeout=20_000)
    kept()
    assert 9 in target.data


def test_discard_and_later(
    open_dock: OpenDockFactory, blobs: np.ndarray, qtbot: Any
) -> None:
    crashed(blobs)
    crashed(blobs)
    dock = open_dock(Image(blobs, name="cells"))
    box = box_of(dock)
    qtbot.waitUntil(box.isVisible, timeout=20_000)
    assert len(list(Journals().folder.iterdir())) == 2
    box.discard.click()
    assert box.isVisible()  # there is another one
    assert len(list(Journals().folder.iterdir())) == 1
    box.later.click()
    assert not box.isVisible()
    assert len(list(Journals().folder.iterdir())) == 1


def test_images_that_are_not_open_are_discarded_if_the_user_is_sure(
    open_dock: OpenDockFactory,
    blobs: np.ndarray,
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crashed(blobs)
    dock = open_dock(wait=False)
    box = dock.widget.unfinished
    qtbot.waitUntil(box.isVisible, timeout=20_000)
    assert box.text.text().startswith("Not saved: cells (2 objects, ")
    assert not box.open.isVisible()  # it was never a file
    asked, answers = [], [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes]
    monkeypatch.setattr(
        QMessageBox,
        "question",
        lambda _, title, text, *buttons: asked.append(text) or answers.pop(0),
    )
    box.discard.click()
    assert box.isVisible()
    assert len(Journals().ended()) == 1
    box.discard.click()
    assert not box.isVisible()
    assert not Journals().ended()
    assert "cells (2 objects, " in asked[0]
