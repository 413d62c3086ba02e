"""Prompts are kept before anything is committed, and come back."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Labels

from desk import noise
from journalled_desk import commit, crash, kept, open_queued, places, same
from killed import killed_at_the_end
from napari_tinysam.journal.folder import Journals
from napari_tinysam.journal.reading import read_journal


def until_gone(count: int) -> None:
    """Wait until no more than so many journals are there."""
    end = time.monotonic() + 20
    while len(places()) > count and time.monotonic() < end:
        time.sleep(0.01)


# ------------------------------------------------------------ what is written, and what is not


def test_looking_at_images_leaves_nothing() -> None:
    desk = open_queued(noise(3, 60, 80), Labels(np.ones((3, 60, 80), int)))
    for plane in range(3):
        desk.viewer.dims.set_current_step(0, plane)
        desk.session.hover_at(desk.world(40, 30))
        desk.session.set_edit_mode(plane % 2 == 0)
        desk.inference.turn()
    desk.session.auto_segment()
    desk.inference.turn()
    assert not Journals().folder.exists()
    desk.session.close(window_is_gone=True)

    assert not Journals().folder.exists()


def test_prompts_that_were_taken_back_leave_nothing() -> None:
    desk = open_queued(noise(60, 80))
    desk.click(40, 30)
    assert len(places()) == 1
    desk.session.undo()
    desk.session.close(window_is_gone=True)

    assert not places()


def test_the_layer_that_is_made_goes_on_with_the_journal_of_the_prompts() -> None:
    desk = open_queued(noise(60, 80))
    desk.click(20, 30)
    (place,) = places()
    desk.session.commit()
    desk.inference.turn()

    assert places() == [place]
    assert same(desk)
    names = [action.name for action in kept(desk).actions if action.step]
    assert names == ["prompt", "commit"]


def test_labels_that_were_there_get_a_journal_with_the_prompts() -> None:
    desk = open_queued(noise(60, 80), Labels(np.zeros((60, 80), np.uint8)))
    desk.click(20, 30)
    (place,) = places()
    desk.session.commit()
    desk.inference.turn()
    until_gone(1)

    assert place not in places()
    assert same(desk)
    names = [action.name for action in kept(desk).actions if action.step]
    assert names == ["prompt", "commit"]


def test_nobody_is_asked_about_prompts_of_work_that_was_given_up() -> None:
    desk = open_queued(noise(60, 80))
    desk.click(40, 30)
    desk.session.give_up_unsaved()
    desk.session.close(window_is_gone=True)

    assert not places()


# ------------------------------------------------------------ what comes back


def test_prompts_come_back_with_their_masks() -> None:
    desk = open_queued(noise(3, 200, 300))
    desk.click(40, 40)
    desk.click(44, 44, 0)
    desk.session.next_object()
    desk.box(100, 90, 140, 130)
    desk.viewer.dims.set_current_step(0, 2)
    desk.click(200, 100)
    desk.inference.turn()
    shown = desk.preview_pixels()
    desk.session.close(window_is_gone=True)

    later = open_queued(noise(3, 200, 300))
    recovery = later.session.recovery
    assert recovery.offer is not None
    assert recovery.offer.text.startswith("Prompts of 3 objects on cells from ")
    assert recovery.offer.text.endswith(" were not committed.")
    recovery.show()
    assert not recovery.showing
    later.viewer.dims.set_current_step(0, 2)
    recovery.restore()
    later.inference.turn()

    assert recovery.offer is None
    assert later.session.uncommitted_count == 3
    assert later.preview_pixels() == shown
    assert not any(isinstance(layer, Labels) for layer in later.viewer.layers[:-1])
    until_gone(1)
    assert len(places()) == 1  # the old journal is not needed any more
    later.session.commit()
    later.viewer.dims.set_current_step(0, 1)
    later.session.commit()
    later.inference.turn()
    assert len(later.ids) == 3
    assert same(later)
    while later.session.undo_text:
        later.session.undo()
        later.inference.turn()
    assert not later.ids
    assert not later.session.uncommitted_count


def test_prompts_come_back_once_more_after_another_crash() -> None:
    desk = open_queued(noise(60, 80))
    desk.click(40, 30)
    desk.session.close(window_is_gone=True)
    for _ in range(2):
        desk = open_queued(noise(60, 80))
        desk.session.recovery.restore()
        until_gone(1)
        desk.session.close(window_is_gone=True)

    offer = open_queued(noise(60, 80)).session.recovery.offer
    assert offer is not None
    assert "Prompts of 1 object " in offer.text


def test_prompts_of_this_session_stay_beside_those_that_come_back() -> None:
    desk = open_queued(noise(200, 300))
    commit(desk, 40, 40)
    desk.click(200, 100)
    crash(desk)
    later = open_queued(noise(200, 300))
    later.click(100, 150)
    assert later.session.recovery.offer is not None
    assert later.session.recovery.offer.text.endswith(
        "Prompts of 1 object were not committed."
    )
    later.session.recovery.restore()
    later.inference.turn()
    assert later.session.uncommitted_count == 2
    crash(later)

    last = open_queued(noise(200, 300))
    last.session.recovery.restore()
    assert last.session.recovery.offer is None
    assert last.session.uncommitted_count == 2
    last.session.commit()
    last.inference.turn()
    assert last.ids == [1, 2, 3]


def test_prompts_after_saving_come_back_without_the_labels(tmp_path: Path) -> None:
    desk = open_queued(noise(200, 300))
    commit(desk, 40, 40)
    target = desk.session.target
    assert target is not None
    assert desk.session.saving.save_now(target, tmp_path / "labels.tif")
    desk.click(200, 100)
    crash(desk)

    later = open_queued(noise(200, 300))
    assert later.session.recovery.offer is not None
    assert not later.session.recovery.offer.has_labels
    later.session.recovery.restore()
    assert later.session.target is None
    assert later.session.uncommitted_count == 1


def test_a_dock_that_is_closed_and_opened_again_keeps_them() -> None:
    from desk import Desk
    from fake_inference import QueuedInference
    from fake_predictor import disc_predictor
    from napari_tinysam.ui.session.facade import AnnotationSession

    desk = open_queued(noise(200, 300))
    desk.click(40, 40)
    desk.session.close()
    (place,) = places()
    assert [action.name for action in read_journal(place).actions][-1] == "prompt"
    assert open_queued(noise(200, 300)).session.recovery.offer is None
    predictor, runtime = disc_predictor()
    inference = QueuedInference()
    session = AnnotationSession(
        desk.viewer, inference, load_predictor=lambda *_: predictor
    )
    session.set_active(True)
    again = Desk(desk.viewer, session, inference, runtime)
    session.next_object()
    again.click(200, 100)
    session.close(window_is_gone=True)

    offer = open_queued(noise(200, 300)).session.recovery.offer
    assert offer is not None
    assert "Prompts of 2 objects " in offer.text


def test_an_image_with_prompts_that_leaves_can_be_opened_again() -> None:
    desk = open_queued(noise(60, 80))
    desk.click(40, 30)
    desk.viewer.layers.clear()
    desk.inference.turn()
    desk.viewer.add_layer(noise(60, 80))
    desk.inference.turn()

    assert desk.session.recovery.offer is not None


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_kill_9_loses_no_prompt() -> None:
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from desk import noise
from journalled_desk import open_queued
desk = open_queued(noise(200, 300))
desk.click(40, 40)
desk.click(44, 44, 0)
desk.session.next_object()
desk.click(200, 100)
desk.session.set_candidate(2)
time.sleep(1)
sys.stdout.write("ready\\n")
sys.stdout.flush()
input()
"""
    with killed_at_the_end(code):
        pass

    desk = open_queued(noise(200, 300))
    recovery = desk.session.recovery
    assert recovery.offer is not None
    recovery.restore()
    desk.inference.turn()
    first, second = desk.session.drafts.objects
    assert [(each.x, each.y, each.label) for each in first.points] == [
        (40, 40, 1),
        (44, 44, 0),
    ]
    assert (second.points[0].x, second.candidate) == (200, 2)
    assert desk.preview_pixels()
