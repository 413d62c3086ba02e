"""Layers, keys and the end of a session, on a ViewerModel: no window, no thread."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel

from desk import Desk, noise, open_desk
from fake_inference import ImmediateInference, SteppedInference
from fake_predictor import disc_predictor
from napari_tinysam.ui.session.facade import AnnotationSession, StatusKind, session_of


def test_keys_and_mouse_are_ours_only_while_active(desk: Desk) -> None:
    plain = ViewerModel()
    assert desk.viewer.keymap
    assert desk.viewer.mouse_drag_callbacks != plain.mouse_drag_callbacks
    desk.session.set_active(False)
    assert desk.viewer.keymap == plain.keymap
    assert desk.viewer.mouse_drag_callbacks == plain.mouse_drag_callbacks
    assert desk.viewer.mouse_move_callbacks == plain.mouse_move_callbacks


def test_keys_that_were_there_come_back() -> None:
    viewer = ViewerModel()
    before = viewer.bind_key("S", lambda v: None)
    session = AnnotationSession(
        viewer, ImmediateInference(), load_predictor=lambda *_: disc_predictor()[0]
    )
    kept = dict(viewer.keymap)
    session.set_active(True)
    assert dict(viewer.keymap) != kept
    session.set_active(False)
    assert dict(viewer.keymap) == kept
    assert before is None


def test_removing_renaming_and_choosing_layers(desk: Desk) -> None:
    changes = []
    desk.session.layers_changed.connect(lambda: changes.append(1))
    desk.image.name = "renamed"
    assert changes
    first = desk.image
    second = desk.viewer.add_image(np.zeros((50, 50)), name="second")
    desk.session.set_image(first)
    desk.click(100, 80)
    desk.session.commit()
    desk.viewer.layers.remove(desk.session.target)
    assert desk.session.target is None
    desk.session.undo()  # its layer is gone
    text = "Commit cannot be undone or redone: its labels layer was removed."
    assert desk.told[-1] == ("warning", text)
    desk.viewer.layers.remove("renamed")
    assert desk.session.image is second
    desk.viewer.layers.remove(second)
    assert desk.session.image is None
    assert desk.session.status.kind is StatusKind.NO_IMAGE
    for method in ("segment", "commit", "next_object", "clear", "undo", "redo"):
        getattr(desk.session, method)()
    for method in ("delete_object", "merge_objects", "split_object", "cancel"):
        getattr(desk.session, method)()


def test_the_user_may_delete_our_layers(desk: Desk) -> None:
    desk.click(100, 80)
    desk.viewer.layers.remove("current_object")
    desk.viewer.layers.remove("point_prompts")
    desk.click(104, 80)
    assert desk.preview_pixels()
    assert len(desk.viewer.layers["point_prompts"].data) == 2


def test_closing_leaves_the_labels_and_nothing_else(desk: Desk) -> None:
    desk.click(60, 50)
    desk.session.commit()
    desk.click(100, 80)
    assert session_of(desk.viewer) is desk.session
    desk.session.close()
    desk.session.close()
    assert [layer.name for layer in desk.viewer.layers] == [
        "cells",
        "cells committed_objects",
    ]
    assert session_of(desk.viewer) is None
    assert desk.inference.closed


def test_a_closed_session_is_forgotten() -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((60, 80)))
    session = AnnotationSession(
        viewer, ImmediateInference(), load_predictor=lambda *_: disc_predictor()[0]
    )
    session.set_active(True)
    session.click_at((30, 40))
    session.commit()
    session.close()
    gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None


def test_a_result_after_closing_is_dropped() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(60, 80), inference=inference)
    inference.step()
    deliver = inference.start()
    desk.session.close()
    deliver()
    assert [layer.name for layer in desk.viewer.layers] == ["cells"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (8, 8)])
def test_tiny_images_are_no_trouble(shape: tuple[int, int]) -> None:
    desk = open_desk(noise(*shape))
    desk.session.hover_at(desk.world(0, 0))
    desk.click(0, 0)
    desk.session.set_candidate(2)
    desk.box(0, 0, shape[1] - 1, shape[0] - 1)
    desk.session.commit()
    desk.session.undo()
    assert desk.session.status.kind is StatusKind.READY
    assert not [text for level, text in desk.told if level == "error"]
