"""Steps of undo out of a journal: in order, across snapshots, as far back as windows are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from journal_cases import about, box, put
from napari_tinysam.journal.reading import Recovered, labels_of, read_journal
from napari_tinysam.journal.steps import steps_of
from napari_tinysam.journal.writing import Journal

if TYPE_CHECKING:
    from napari_tinysam.journal.lines import Window

SHAPE = (2, 60, 60)


def course(count: int) -> list[Window]:
    """Boxes that overlap, of changing ids, also erased."""
    places = [(n % 2, n * 7 % 40, n * 13 % 40) for n in range(count)]
    return [box(place, (1, 20, 20), n % 5) for n, place in enumerate(places)]


def taken_back(found: Recovered) -> list[np.ndarray]:
    """Undo all steps; returns the labels before each, the last step first."""
    labels, states = labels_of(found), []
    for step in reversed(steps_of(found.actions)[0]):
        for before, after in reversed(step.changes):
            place = tuple(
                slice(at, at + length)
                for at, length in zip(after.start, after.shape, strict=True)
            )
            np.testing.assert_array_equal(labels[place], after.labels)
            put(labels, before)
        states.append(labels.copy())
    return states


@pytest.mark.parametrize("roll", [2**20, 500])
def test_steps_are_taken_back_to_the_beginning(tmp_path, roll, monkeypatch):
    monkeypatch.setattr("napari_tinysam.journal.writing._PAUSE", 0)
    labels, wanted = np.zeros(SHAPE, np.uint32), []
    journal = Journal(tmp_path, about(SHAPE), roll=roll)
    for number, window in enumerate(course(30), start=1):
        wanted.append(labels.copy())
        put(labels, window)
        journal.note("commit", windows=[window], step=number)
        if number % 10 == 0:
            journal.flush()
    journal.close()

    found = read_journal(tmp_path)
    assert bool(list(tmp_path.glob("snapshot-*"))) is (roll < 2**20)
    states = taken_back(found)
    assert len(states) == 30
    for state, before in zip(states, reversed(wanted), strict=True):
        np.testing.assert_array_equal(state, before)


def test_steps_of_long_ago_are_cut(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_tinysam.journal.writing._PAUSE", 0)
    monkeypatch.setattr("napari_tinysam.journal.snapshot._MOST_BYTES", 400)
    journal = Journal(tmp_path, about(SHAPE), roll=500)
    for number, window in enumerate(course(30), start=1):
        journal.note("commit", windows=[window], step=number)
        journal.flush()
    journal.close()

    found = read_journal(tmp_path)
    done, _ = steps_of(found.actions)
    assert 0 < len(done) < 30
    assert [step.number for step in done] == list(range(31 - len(done), 31))
    assert len(found.actions) == 30
    taken_back(found)


def test_undo_and_redo_move_steps(tmp_path):
    journal = Journal(tmp_path, about(SHAPE))
    for number in range(1, 5):
        journal.note("prompt", {"text": "point"}, step=number)
    journal.note("undo", step=4)
    journal.note("undo", step=3)
    journal.note("redo", step=3)
    journal.close()
    done, undone = steps_of(read_journal(tmp_path).actions)
    assert [step.number for step in done] == [1, 2, 3]
    assert [step.number for step in undone] == [4]
    assert done[0].arguments == {"text": "point"}


def test_a_long_step_is_one_and_a_new_one_forgets_the_undone(tmp_path):
    journal = Journal(tmp_path, about(SHAPE))
    first, second, third, fourth = course(4)
    journal.note("commit", windows=[first], step=1)
    journal.note("follow", windows=[second], step=2)
    journal.note("commit", windows=[third], step=3)
    journal.note("follow", windows=[fourth], step=2)
    journal.note("undo", step=3)
    journal.note("commit", step=4)
    journal.close()
    done, undone = steps_of(read_journal(tmp_path).actions)
    assert [(step.number, len(step.changes)) for step in done] == [
        (1, 1),
        (2, 2),
        (4, 0),
    ]
    assert not undone
