"""The folder of an adaptation: what is written there, and what is read while others write."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_tinysam.errors import DataError, FileError
from tinysam_training.commands import samples as module
from tinysam_training.commands.adaptation import (
    Adaptation,
    Order,
    all_adaptations,
    begin,
)
from tinysam_training.commands.samples import Sample, placed
from tinysam_training.data import find_pairs


def sample(name: str = "cells", size: int = 64, *, complete: bool = True) -> Sample:
    labels = np.zeros((size, size), np.int64)
    labels[2:9, 3:12], labels[20:30, 20:30] = 5, 70_000
    rgb = np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8)
    return Sample(name, rgb, labels, complete)


def order(**changes: object) -> Order:
    known = {"name": "lab", "model": "lab.safetensors", "began": 1.8e9}
    return Order(**(known | changes))  # type: ignore[arg-type]


def test_images_are_kept_as_they_were_and_training_reads_them(tmp_path: Path) -> None:
    samples = [sample("a/b ü.tif"), sample("c", complete=False)]
    made = begin(order(), iter(samples), tmp_path)
    found = find_pairs(made.data, dataset="lab")
    assert not found.findings
    assert [entry.complete for entry in found] == [True, False]
    for entry, wanted in zip(found, samples, strict=True):
        image = entry.read()
        assert np.array_equal(image.rgb, wanted.rgb)
        assert np.array_equal(image.labels[0] > 0, wanted.labels > 0)
        assert len(image.boxes) == 2
    assert made.order() == order(images=2, objects=4)
    assert all_adaptations(tmp_path) == [made]


def test_large_planes_are_learnt_from_in_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRAME", 32)
    made = begin(order(), iter([sample(size=100)]), tmp_path)
    found = [entry.read() for entry in find_pairs(made.data)]
    assert len(found) == 1  # both objects are in the first of nine tiles
    assert found[0].rgb.shape == (33, 33, 3)
    assert made.order().objects == 2


def test_planes_of_a_stack_are_one_image_and_its_tiles_know_their_plane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRAME", 16)
    planes = [replace(sample(f"stack/plane {n}", size=32), image="0") for n in range(3)]
    made = begin(order(), iter([*planes, sample("other", size=16)]), tmp_path)
    assert (made.order().images, made.order().objects) == (2, 7)
    found = [placed(entry) for entry in find_pairs(made.data)]
    images = [entry.image for entry in found]
    assert len(found) == 3 * 2 + 1  # two tiles with objects each
    assert len(set(images)) == 2
    assert len({entry.part_of for entry in found}) == 4


def test_nothing_is_left_where_nothing_can_be_learnt(tmp_path: Path) -> None:
    empty = Sample("e", np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), int))
    with pytest.raises(DataError, match="None of these images has an object"):
        begin(order(), iter([empty]), tmp_path)
    other = Sample("cells", np.zeros((8, 9, 3), np.uint8), np.ones((8, 8), int))
    with pytest.raises(DataError, match="cells: the image has 9 × 8 pixels"):
        begin(order(), iter([other]), tmp_path)
    assert all_adaptations(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="rights of files")
def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match="cannot be written to: Permission denied"):
        begin(order(), iter([sample()]), tmp_path)


def test_events_are_read_while_they_are_written(tmp_path: Path) -> None:
    folder = Adaptation(tmp_path)
    assert folder.events() == ([], 0)
    folder.say("stage", text="Learning")
    first, place = folder.events()
    assert [event["event"] for event in first] == ["stage"]
    path = tmp_path / "events.jsonl"
    with path.open("a") as file:
        file.write('{"event": "step", "step"')
    assert folder.events(place) == ([], place)
    with path.open("a") as file:
        file.write(': 3}\nnot json\n{"event": "done"}\n')
    second, _ = folder.events(place)
    assert [event["event"] for event in second] == ["step", "done"]
    assert folder.end is not None
    folder.say("began")  # it goes on after all
    assert folder.end is None


def test_one_at_a_time(tmp_path: Path) -> None:
    first, second = (
        begin(order(began=1.8e9 + n), iter([sample()]), tmp_path) for n in range(2)
    )
    held = first.take()
    assert first.running
    assert not second.running
    with pytest.raises(FileError, match=r"adapted already \(process \d+ on .*\); wait"):
        second.take()
    os.close(held)
    assert not first.running
    os.close(second.take())


def test_requests_and_an_order_that_is_not_there(tmp_path: Path) -> None:
    folder = Adaptation(tmp_path)
    assert folder.request == ""
    folder.ask("stop")
    assert folder.request == "stop"
    folder.ask(None)
    assert folder.request == ""
    with pytest.raises(FileError, match="cannot be read"):
        folder.order()
