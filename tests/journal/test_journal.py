"""What was noted is read again: labels as they were, actions in order, whatever was cut off."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journal_cases import about, box, lines_of, put, windows
from napari_tinysam.journal.lines import Window
from napari_tinysam.journal.reading import labels_of, read_journal
from napari_tinysam.journal.sparse import SparseLabels
from napari_tinysam.journal.writing import Journal

SHAPE = (2, 530, 20)  # several chunks

#: The examples share a folder, and empty it themselves.
in_a_folder = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def noted(folder: Path, actions: list[list[Window]], **options: object) -> Journal:
    journal = Journal(folder, about(SHAPE), **options)
    for each in actions:
        journal.note("commit", {"xy": [1, 2]}, model="default 12", windows=each)
    return journal


# ------------------------------------------------------------ what is read again


def test_actions_are_read_again(tmp_path):
    journal = Journal(tmp_path, about(SHAPE))
    journal.note("click", {"xy": (3.5, np.float32(4)), "label": np.int64(1)})
    journal.note(
        "commit", ids=np.array([7]), model="m 1", windows=[box((0, 1, 2), (1, 2, 3), 7)]
    )
    journal.close()

    found = read_journal(tmp_path)

    click, commit = found.actions
    assert (click.number, click.name) == (1, "click")
    assert click.arguments == {"xy": [3.5, 4.0], "label": 1}
    assert (commit.ids, commit.model) == ((7,), "m 1")
    assert commit.windows[0].start == (0, 1, 2)
    np.testing.assert_array_equal(commit.windows[0].labels, np.full((1, 2, 3), 7))
    assert commit.time >= click.time > 1.7e9
    assert found.about == about(SHAPE)
    assert not found.remarks


@in_a_folder
@given(st.lists(st.lists(windows(SHAPE), max_size=3), max_size=12))
def test_labels_are_as_they_were(tmp_path, actions):
    folder = fresh(tmp_path / "journal")
    noted(folder, actions).close()

    wanted = np.zeros(SHAPE, np.uint32)
    for each in actions:
        for window in each:
            put(wanted, window)
    found = read_journal(folder)
    np.testing.assert_array_equal(labels_of(found), wanted)
    assert found.unsaved == set(np.unique(wanted)) - {0}


@in_a_folder
@given(st.data())
def test_cut_at_any_byte_the_last_whole_line_counts(tmp_path, data):
    # Undo writes the old labels back, as any other change.
    actions = data.draw(
        st.lists(st.lists(windows(SHAPE), max_size=2), min_size=1, max_size=8)
    )
    folder = fresh(tmp_path / "journal")
    noted(folder, actions).close()
    path = lines_of(folder)
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    cut = data.draw(st.floats(0, 1))
    cut = first + round(cut * (len(content) - first))
    path.write_bytes(content[:cut])

    found = read_journal(folder)

    whole = content[:cut].count(b"\n") - 1
    wanted = np.zeros(SHAPE, np.uint32)
    for each in actions[:whole]:
        for window in each:
            put(wanted, window)
    assert len(found.actions) == whole
    np.testing.assert_array_equal(labels_of(found), wanted)
    assert len(found.remarks) == (content[cut - 1] != ord("\n"))


@in_a_folder
@given(st.lists(st.lists(windows(SHAPE), max_size=2), min_size=3, max_size=20))
def test_rolling_changes_nothing(tmp_path, actions):
    folder = fresh(tmp_path / "journal")
    journal = noted(folder, [], roll=1)
    wanted = np.zeros(SHAPE, np.uint32)
    for each in actions:
        journal.note("commit", {"xy": [1, 2]}, windows=each)
        journal.flush()
        for window in each:
            put(wanted, window)
    journal.close()

    found = read_journal(folder)
    np.testing.assert_array_equal(labels_of(found), wanted)
    assert [action.number for action in found.actions] == list(
        range(1, len(actions) + 1)
    )
    assert found.unsaved == set(np.unique(wanted)) - {0}


def test_the_journal_of_a_long_session_stays_small(tmp_path):
    journal = Journal(tmp_path, about((1, 512, 512)), roll=20_000)
    for number in range(1000):
        journal.note("paint", windows=[box((0, 9, 9), (1, 50, 50), number % 5)])
        if number % 100 == 0:
            journal.flush()
    journal.close()

    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 150_000
    found = read_journal(tmp_path)
    assert len(found.actions) == 1000
    assert labels_of(found)[0, 20, 20] == 999 % 5


@pytest.mark.parametrize("shape", [(30, 40), (4, 30, 40), (3000, 3000)])
def test_labels_that_were_there_are_kept(tmp_path, shape):
    rng = np.random.default_rng(1)
    labels = np.where(rng.random(shape) < 0.001, rng.integers(1, 99, shape), 0)
    labels = labels.astype(np.uint16)
    journal = Journal(tmp_path, about(shape, "<u2"), labels)
    five = Window((0,) * len(shape), labels[:1] * 0 + 5)
    journal.note("commit", ids=[5], windows=[five])
    labels[:1] = 5  # as the layer that it is
    journal.close()

    found = read_journal(tmp_path)
    np.testing.assert_array_equal(labels_of(found), labels)
    assert found.changed
    assert 5 in found.unsaved


def test_a_small_layer_may_change_while_the_journal_begins(tmp_path):
    labels = np.ones((20, 20), np.uint32)
    journal = Journal(tmp_path, about((20, 20)), labels)
    labels[:] = 2  # never noted
    journal.close()

    assert set(np.unique(labels_of(read_journal(tmp_path)))) == {1}


# ------------------------------------------------------------ what is saved


def test_only_what_was_changed_since_saving_is_unsaved(tmp_path):
    journal = Journal(tmp_path, about(SHAPE))
    journal.note("commit", windows=[box((0, 0, 0), (1, 4, 4), 1)])
    journal.saved("labels.tif", journal.last)
    assert journal.flush()
    assert not read_journal(tmp_path).changed
    journal.note("commit", windows=[box((0, 8, 8), (1, 4, 4), 2)])
    journal.close()

    found = read_journal(tmp_path)
    assert found.changed
    assert found.unsaved == {2}
    assert set(np.unique(labels_of(found))) == {0, 1, 2}


def test_what_was_done_while_saving_is_unsaved(tmp_path):
    journal = Journal(tmp_path, about(SHAPE))
    through = journal.note("commit", windows=[box((0, 0, 0), (1, 4, 4), 1)])
    journal.note("commit", windows=[box((0, 8, 8), (1, 4, 4), 2)])
    journal.saved("labels.tif", through)
    journal.close()

    assert read_journal(tmp_path).unsaved == {2}


def test_deleting_is_a_change_too(tmp_path):
    journal = Journal(tmp_path, about(SHAPE))
    journal.note("commit", windows=[box((0, 0, 0), (1, 4, 4), 1)])
    journal.saved("labels.tif", journal.last)
    journal.note("delete", windows=[box((0, 0, 0), (1, 4, 4), 0)])
    journal.close()

    found = read_journal(tmp_path)
    assert found.changed
    assert not found.unsaved


@pytest.mark.parametrize("saved", [False, True])
def test_a_roll_does_not_forget_what_is_saved(tmp_path, saved):
    journal = Journal(tmp_path, about(SHAPE), roll=1)
    journal.note("commit", windows=[box((0, 0, 0), (1, 4, 4), 1)])
    journal.flush()
    if saved:
        journal.saved("labels.tif", journal.last)
        journal.flush()
    for _ in range(3):
        journal.note("look")
        journal.flush()
    journal.close()

    found = read_journal(tmp_path)
    assert found.changed is not saved
    assert found.unsaved == (set() if saved else {1})


# ------------------------------------------------------------ the caller never waits


def test_noting_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    import os

    gate, syncing = threading.Event(), threading.Event()
    sync = os.fsync

    def slow(file: int) -> None:
        syncing.set()
        assert gate.wait(30)
        sync(file)

    monkeypatch.setattr("napari_tinysam.journal.lines_file.os.fsync", slow)
    journal = Journal(tmp_path, about(SHAPE))
    assert syncing.wait(30)
    for _ in range(50):
        journal.note("commit", windows=[box((0, 0, 0), (1, 4, 4), 1)], at_once=True)
    assert not journal.flush(0.01)
    gate.set()
    assert journal.flush()
    journal.close()
    assert len(read_journal(tmp_path).actions) == 50


def test_what_is_noted_is_on_disk_soon_without_asking(tmp_path):
    journal = Journal(tmp_path, about(SHAPE))
    journal.note("click")
    with journal._changed:
        assert journal._changed.wait_for(lambda: journal._done == 1, 30)
    assert len(read_journal(tmp_path).actions) == 1
    journal.close()


def test_a_journal_that_is_flushed_has_begun(tmp_path):
    labels = np.full(SHAPE, 6, np.uint32)
    journal = Journal(tmp_path, lambda: about(SHAPE), labels, unsaved=[6])
    assert journal.flush()

    found = read_journal(tmp_path)
    assert found.changed
    assert found.unsaved == {6}
    np.testing.assert_array_equal(labels_of(found), labels)
    journal.close()


def test_an_image_that_cannot_be_read_is_said(tmp_path):
    told, said = [], threading.Event()

    def unreadable():
        raise RuntimeError("the disk is gone")

    def tell(text: str) -> None:
        told.append(text)
        said.set()

    journal = Journal(tmp_path, unreadable, on_problem=tell)
    journal.note("click")
    assert said.wait(30)
    journal.close()
    assert "the disk is gone" in told[0]


# ------------------------------------------------------------ sparse labels


@given(st.data())
@settings(max_examples=60)
def test_sparse_labels_are_those_of_an_array(data):
    shape = data.draw(
        st.sampled_from([(1030, 700), (3, 520, 30), (2, 2, 9, 513), (700,)])
    )
    labels, wanted = SparseLabels(shape, np.uint32), np.zeros(shape, np.uint32)
    for window in data.draw(st.lists(windows(shape), max_size=6)):
        labels.write(window.start, window.labels)
        put(wanted, window)
    again = SparseLabels(shape, np.uint32, labels.packed_chunks())

    np.testing.assert_array_equal(labels.to_array(), wanted)
    np.testing.assert_array_equal(again.to_array(), wanted)
    window = data.draw(windows(shape))
    place = zip(window.start, window.labels.shape, strict=True)
    np.testing.assert_array_equal(
        again.read(window.start, window.labels.shape),
        wanted[tuple(slice(a, a + n) for a, n in place)],
    )


def test_more_chunks_than_are_open_at_once():
    shape = (90, 8, 8)
    labels = SparseLabels(shape, np.uint16)
    for _ in range(2):
        for plane in range(90):
            labels.write((plane, 1, 1), np.full((1, 3, 3), plane + 1, np.uint16))
    labels.write((4, 0, 0), np.zeros((1, 8, 8), np.uint16))

    assert set(np.unique(labels.to_array())) == set(range(91)) - {5}
    assert (4, 0, 0) not in labels.packed_chunks()
