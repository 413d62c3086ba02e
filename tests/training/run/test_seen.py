"""What a model has seen stands in its file, and is added to by what comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_tinysam import checkpoints
from tinysam_training.data import ImageEntry
from tinysam_training.run.seen import SEEN, Seen
from training.small_runs import discs, write_start


def entry(key: str) -> ImageEntry:
    return ImageEntry(key, "set", True, lambda: discs(1)[0], f"file of {key}", (), key)


def test_two_rounds_add_up(tmp_path: Path) -> None:
    path = write_start(tmp_path / "start.safetensors")
    assert Seen.by(str(path)) == Seen()
    model = checkpoints.load(path).model
    for learnt, held in (("ab", "c"), ("bc", "d")):
        notes = Seen.by(str(path)).notes(map(entry, learnt), map(entry, held))
        checkpoints.save(model, path, notes)
    assert Seen.by(str(path)) == Seen(frozenset("abc"), frozenset("d"))


@pytest.mark.parametrize("note", ["", "{", "[]", '{"learnt": 3, "held_out": []}'])
def test_a_note_that_cannot_be_read_tells_nothing(tmp_path: Path, note: str) -> None:
    path = write_start(tmp_path / "start.safetensors")
    checkpoints.save(checkpoints.load(path).model, path, {SEEN: note})
    assert Seen.by(str(path)) == Seen()


def test_names_of_the_registry_and_random_weights_have_seen_nothing() -> None:
    assert Seen.by("default") == Seen.by("random") == Seen()


def test_parts_of_an_image() -> None:
    seen = Seen(frozenset({"a/0:40:0", "b"}), frozenset({"c"}))
    assert seen.has_learnt(entry("a"))
    assert seen.has_learnt(entry("b"))
    assert seen.has_learnt(entry("b/0:9:1"))
    assert not seen.has_learnt(entry("a/0:40:1"))
    assert seen.has_learnt(entry("a/0:30:1"))
    assert not seen.has_learnt(entry("c"))
    assert seen.cut(entry("a")) == (0, 40)
    assert seen.cut(entry("b")) is None
    assert seen.held(entry("c"))
