"""Each change of labels is in their journal, and labels that were not saved come back."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Labels

from desk import Desk, noise
from fake_inference import QueuedInference
from journalled_desk import commit, crash, kept, open_queued, places, same
from killed import killed_at_the_end
from napari_tinysam.journal.reading import labels_of
from napari_tinysam.ui.session.labels.filling import packed

# ------------------------------------------------------------ every change is kept


def test_each_change_of_a_plane_is_kept() -> None:
    desk = open_queued(noise(200, 300))
    session = desk.session

    def edit(x: float, y: float) -> None:
        session.set_edit_mode(True)
        desk.click(x, y)
        session.set_edit_mode(False)

    commit(desk, 40, 40)
    commit(desk, 120, 100)
    commit(desk, 250, 150)
    assert len(desk.ids) == 3
    assert same(desk)
    session.stop_hover()
    edit(40, 40)
    session.delete_object()
    desk.inference.turn()
    assert len(desk.ids) == 2
    assert same(desk)
    edit(120, 100)
    session.merge_objects()
    desk.click(250, 150)
    desk.inference.turn()
    assert len(desk.ids) == 1
    assert same(desk)
    for _ in range(3):
        session.undo()
        desk.inference.turn()
        assert same(desk)
    session.redo()
    desk.inference.turn()
    assert same(desk)

    found = kept(desk)
    changing = [action.name for action in found.actions if action.windows]
    assert changing[:5] == [
        "commit",
        "commit",
        "commit",
        "delete",
        "merge",
    ]
    assert "undo" in [action.name for action in found.actions]
    assert found.actions[-1].name == "redo"


def test_painting_and_filling_with_naparis_tools_is_kept() -> None:
    desk = open_queued(noise(3, 60, 80))
    commit(desk, 40, 30)
    target = desk.session.target
    assert target is not None
    target.paint((1, 10, 10), 7)
    desk.inference.turn()
    assert same(desk)
    target.brush_size = 12
    with target.block_history():
        target.paint((1, 40, 50), 9)
        target.paint((1, 45, 60), 9)
    desk.inference.turn()
    assert same(desk)
    target.fill((1, 0, 0), 4)
    desk.inference.turn()

    assert same(desk)
    assert kept(desk).actions[-1].name == "paint"
    assert {4, 7, 9} <= kept(desk).unsaved


def test_naparis_own_undo_is_kept() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    target = desk.session.target
    assert target is not None
    target.paint((10, 10), 7)
    desk.inference.turn()
    target.undo()
    desk.inference.turn()
    assert same(desk)
    target.redo()
    desk.inference.turn()
    assert same(desk)


def test_changes_of_many_planes_are_kept() -> None:
    desk = open_queued(noise(4, 60, 80, axis_labels=("z", "y", "x")))
    session, objects = desk.session, np.zeros((60, 80), np.int32)
    objects[10:30, 10:40], objects[35:50, 50:70] = 1, 2

    def done() -> None:
        desk.inference.turn()
        assert same(desk)

    desk.viewer.dims.set_current_step(0, 1)
    shown = session.shown_plane
    assert shown is not None
    for at in range(4):
        plane = replace(shown, index=(at, None, None))
        filling = session._parts.labelling.filling
        filling.write(desk.image, plane, 2, packed(objects))
    done()
    assert len(desk.ids) == 8
    session.link_planes()
    done()
    assert len(desk.ids) == 2
    session.hover_at(desk.world(20, 20))
    session.delete_object()
    done()
    assert len(desk.ids) == 1
    for count in (2, 8, 0):
        session.undo()
        done()
        assert len(desk.ids) == count
    for count in (8, 2, 1):
        session.redo()
        done()
        assert len(desk.ids) == count


def test_objects_of_channels_are_kept_in_all_of_them() -> None:
    desk = open_queued(noise(5, 2, 60, 80, axis_labels=("t", "c", "y", "x")))
    commit(desk, 40, 30)

    assert same(desk)


def test_labels_that_were_there_are_kept_with_the_changes() -> None:
    labels = np.zeros((200, 300), np.uint16)
    labels[150:180, 20:60] = 5
    desk = open_queued(noise(200, 300), Labels(labels, name="cells committed_objects"))
    commit(desk, 120, 60)

    found = kept(desk)
    assert same(desk)
    assert found.unsaved == {6}
    assert {5, 6} <= set(np.unique(labels_of(found)))


def test_a_layer_with_other_data_is_kept_as_it_is_then() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    target = desk.session.target
    assert target is not None
    target.data = np.where(np.array(target.data) > 0, 3, 1).astype(np.uint32)
    desk.inference.turn()
    assert same(desk)
    commit(desk, 40, 30)
    assert same(desk)


# ------------------------------------------------------------ what needs no keeping


def test_nothing_is_kept_before_anything_is_changed() -> None:
    desk = open_queued(noise(60, 80), Labels(np.ones((60, 80), int)))
    desk.click(40, 30)
    desk.session.close(window_is_gone=True)

    assert not places()


def test_saved_labels_are_not_offered(tmp_path: Path) -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    target = desk.session.target
    assert target is not None
    desk.session.saving.save(target, tmp_path / "labels.tif")
    assert not kept(desk).changed
    crash(desk)

    assert not places()


def test_changes_after_saving_are_offered(tmp_path: Path) -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 20, 30)
    target = desk.session.target
    assert target is not None
    assert desk.session.saving.save_now(target, tmp_path / "labels.tif")
    commit(desk, 60, 30)
    assert kept(desk).unsaved == {2}
    crash(desk)

    offer = open_queued(noise(60, 80)).session.recovery.offer
    assert offer is not None
    assert offer.text.startswith("1 object on cells from ")


def test_what_the_user_does_not_want_to_save_is_gone() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    assert places()
    desk.session.give_up_unsaved()
    crash(desk)

    assert not places()


def test_closing_that_was_cancelled_gives_up_nothing() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 20, 30)
    desk.session.give_up_unsaved()
    commit(desk, 60, 30)
    crash(desk)

    assert places()


def test_the_limits_are_the_users_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_tinysam.ui.state.choices import Choices

    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    crash(desk)
    chosen = Choices(journal_days=0.0)
    monkeypatch.setattr(
        "napari_tinysam.ui.session.labels.labelling.read_choices", lambda: chosen
    )
    assert open_queued(noise(60, 80)).session.recovery.offer is None
    assert not places()


# ------------------------------------------------------------ what comes back


def test_unsaved_objects_are_offered_and_restored() -> None:
    desk = open_queued(noise(200, 300))
    commit(desk, 40, 40)
    commit(desk, 120, 100)
    labels = crash(desk)

    later = open_queued(noise(200, 300))
    recovery = later.session.recovery
    assert recovery.offer is not None
    assert recovery.offer.text.startswith("2 objects on cells from ")
    assert recovery.offer.text.endswith(" were not saved.")
    recovery.restore()

    assert recovery.offer is None
    target = later.session.target
    assert target is not None
    np.testing.assert_array_equal(target.data, labels)
    assert later.session.unsaved_layers() == [target]
    # Only then the old journal is not needed any more.
    commit(later, 250, 150)
    assert same(later)
    assert kept(later).unsaved == {1, 2, 3}
    again = crash(later)
    last = open_queued(noise(200, 300))
    assert last.session.recovery.offer is not None
    last.session.recovery.restore()
    np.testing.assert_array_equal(last.session.target.data, again)


def test_a_crash_right_after_restoring_loses_nothing() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    labels = crash(desk)
    for _ in range(3):
        desk = open_queued(noise(60, 80))
        assert desk.session.recovery.offer is not None
        desk.session.recovery.restore()
        crash(desk)
    desk = open_queued(noise(60, 80))
    assert desk.session.recovery.offer is not None
    np.testing.assert_array_equal(
        desk.session.recovery.offer.found.labels.to_array(), labels
    )


def test_discarded_objects_are_not_offered_again() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    crash(desk)
    later = open_queued(noise(60, 80))
    later.session.recovery.discard()

    assert later.session.recovery.offer is None
    assert not places()


def test_later_asks_the_next_time() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    crash(desk)
    later = open_queued(noise(60, 80))
    later.session.recovery.later()
    assert later.session.recovery.offer is None

    assert open_queued(noise(60, 80)).session.recovery.offer is not None


def test_they_can_be_looked_at_before() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    labels = crash(desk)
    later = open_queued(noise(60, 80))
    recovery, layers = later.session.recovery, later.viewer.layers
    before = len(layers)
    recovery.show()
    assert recovery.showing
    assert len(layers) == before + 1
    np.testing.assert_array_equal(layers["cells not saved"].data, labels)
    assert later.session.target is not layers["cells not saved"]
    recovery.show()
    assert not recovery.showing
    assert len(layers) == before
    recovery.show()
    recovery.restore()
    assert len(layers) == before + 1
    np.testing.assert_array_equal(later.session.target.data, labels)


def test_other_labels_of_the_image_stay_as_they_are() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    crash(desk)
    mine = Labels(np.full((60, 80), 8, np.uint8), name="cells_labels")
    later = open_queued(noise(60, 80), mine)
    later.session.recovery.restore()

    assert (mine.data == 8).all()
    assert later.session.target is not mine


def test_another_image_is_not_mistaken_for_it() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    crash(desk)

    assert open_queued(noise(60, 80, seed=2)).session.recovery.offer is None
    assert open_queued(noise(80, 60)).session.recovery.offer is None


def test_a_renamed_image_is_found_and_said() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    crash(desk)

    offer = open_queued(noise(60, 80, name="new")).session.recovery.offer
    assert offer is not None
    assert "1 object on new" in offer.text
    assert offer.text.endswith("It was called cells then.")


def test_an_open_window_is_no_crash() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    kept(desk)

    assert open_queued(noise(60, 80)).session.recovery.offer is None
    desk.session.close()  # the dock, not the window
    assert open_queued(noise(60, 80)).session.recovery.offer is None


def test_a_dock_that_is_opened_again_goes_on() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 20, 30)
    desk.session.close()
    labels = next(each for each in desk.viewer.layers if isinstance(each, Labels))
    labels.paint((50, 70), 9)  # nobody tells

    from fake_predictor import disc_predictor
    from napari_tinysam.ui.session.facade import AnnotationSession

    predictor, runtime = disc_predictor()
    inference = QueuedInference()
    session = AnnotationSession(
        desk.viewer, inference, load_predictor=lambda *_: predictor
    )
    session.set_active(True)
    again = Desk(desk.viewer, session, inference, runtime)
    inference.turn()
    assert session.target is labels
    commit(again, 60, 30)

    assert same(again)
    assert {1, 9, 10} <= set(np.unique(labels_of(kept(again))))


def test_a_removed_layer_can_be_brought_back() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    target = desk.session.target
    assert target is not None
    desk.viewer.layers.remove(target)

    assert open_queued(noise(60, 80)).session.recovery.offer is not None


def test_objects_after_a_removed_layer_know_what_they_were_made_with() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    desk.viewer.layers.remove(desk.session.target)
    commit(desk, 60, 30)
    told = [action.name for action in kept(desk).actions]
    assert "model" in told
    assert "setting" in told
    labels = crash(desk)
    later = open_queued(noise(60, 80))
    later.session.recovery.restore()  # the newest
    np.testing.assert_array_equal(later.session.target.data, labels)


def settled(desk: Desk) -> None:
    for _ in range(3):  # what was posted, what that looks for, what is found
        desk.inference.turn()


def test_a_removed_layer_is_offered_while_its_image_is_open() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    target = desk.session.target
    assert target is not None
    labels = target.data.copy()
    desk.viewer.layers.remove(target)
    settled(desk)
    recovery = desk.session.recovery
    assert recovery.offer is not None
    recovery.later()
    desk.viewer.layers.remove(desk.viewer.add_labels(np.zeros((60, 80), int)))
    settled(desk)
    assert recovery.offer is None  # asked once

    commit(desk, 40, 30)
    desk.viewer.layers.remove(desk.session.target)
    settled(desk)
    recovery.show()
    recovery.show()  # what it shows is no layer that was removed
    settled(desk)
    recovery.restore()
    assert recovery.offer is None
    np.testing.assert_array_equal(desk.session.target.data, labels)
    desk.session.undo()
    assert not desk.session.target.data.any()


def test_of_several_removed_layers_the_last_is_offered_first() -> None:
    desk = open_queued(noise(200, 300))
    for points in ([(40, 40)], [(40, 40), (120, 100)]):
        for x, y in points:
            commit(desk, x, y)
        desk.viewer.layers.remove(desk.session.target)
        settled(desk)
    assert desk.session.recovery.offer is not None
    assert desk.session.recovery.offer.text.startswith("2 objects on cells from ")


def test_an_image_that_leaves_with_its_labels_is_not_searched() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    desk.viewer.layers.clear()
    settled(desk)
    assert desk.session.recovery.offer is None
    assert len(places()) == 1


def test_a_folder_that_cannot_be_written_is_said_once_and_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NAPARI_TINYSAM_JOURNALS", str(tmp_path / "file"))
    desk = open_queued(noise(200, 300))
    commit(desk, 40, 40)
    commit(desk, 120, 100)

    assert desk.ids == [1, 2]
    warnings = [text for level, text in desk.told if level == "warning"]
    assert len(warnings) == 1
    assert warnings[0].startswith("Nothing can be kept in ")


def test_more_than_the_disk_can_take_at_once_is_kept_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 20, 30)
    monkeypatch.setattr("napari_tinysam.journal.writing._MOST_WAITING", 100)
    commit(desk, 60, 30)
    monkeypatch.undo()
    assert same(desk)
    commit(desk, 40, 50)

    assert same(desk)
    assert kept(desk).changed


def test_labels_in_a_pyramid_on_disk_are_kept_and_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("labels.outputs", "journals.recovery"):
        name = f"napari_tinysam.ui.session.{module}.LARGEST_IN_MEMORY"
        monkeypatch.setattr(name, 100)
    desk = open_queued(noise(1300, 1100))
    commit(desk, 40, 40)
    desk.session.undo()
    desk.session.redo()
    desk.inference.turn()
    target = desk.session.target
    assert target is not None
    labels = np.array(target.data[0][:])
    desk.session.close(window_is_gone=True)

    later = open_queued(noise(1300, 1100))
    later.session.recovery.restore()
    assert later.session.target is not None
    np.testing.assert_array_equal(later.session.target.data[0][:], labels)
    commit(later, 120, 100)
    assert later.session.target.data[0].max() == 2


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
@pytest.mark.parametrize("commits", [1, 4])
def test_kill_9_loses_nothing(commits: int, tmp_path: Path) -> None:
    code = f"""
import sys
import numpy as np
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from desk import noise
from journalled_desk import commit, kept, open_queued
desk = open_queued(noise(3, 200, 300))
for number in range({commits}):
    desk.viewer.dims.set_current_step(0, number % 3)
    commit(desk, 40 + 60 * number, 60)
kept(desk)
np.save({str(tmp_path / "labels.npy")!r}, desk.session.target.data)
sys.stdout.write("ready\\n")
sys.stdout.flush()
commit(desk, 280, 180)
input()
"""
    with killed_at_the_end(code):
        pass
    labels = np.load(tmp_path / "labels.npy")

    desk = open_queued(noise(3, 200, 300))
    assert desk.session.recovery.offer is not None
    assert len(desk.session.recovery.offer.found.unsaved) >= commits
    desk.session.recovery.restore()
    restored = np.array(desk.session.target.data)
    extra = (restored != labels) & (labels > 0)
    assert not extra.any()
    assert (restored[labels > 0] == labels[labels > 0]).all()
