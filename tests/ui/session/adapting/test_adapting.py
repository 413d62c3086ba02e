"""Adapting from the dock, without a window: what is learnt from, what is heard, how it ends."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels

from desk import Desk, open_desk
from napari_tinysam.ui.session.adapting.adapting import Adapting
from napari_tinysam.ui.session.adapting.annotated import (
    Source,
    annotated,
    read_samples,
    sources,
)
from napari_tinysam.ui.session.adapting.comparison import read_comparison
from napari_tinysam.ui.state.image_list import EntryState
from tinysam_training.commands.adaptation import Adaptation, all_adaptations

pytestmark = pytest.mark.usefixtures("at_once")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, two with six objects each."""
    folder = tmp_path / "cells"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(3):
        pixels = noise.integers(0, 255, (60, 80), np.uint8)
        tifffile.imwrite(folder / f"{number}.tif", pixels)
        labels = np.zeros((60, 80), np.uint16)
        for at in range(6):
            labels[5:15, 2 + 12 * at : 10 + 12 * at] = at + 1
        if number < 2:
            tifffile.imwrite(folder / f"{number}_labels.tif", labels)
    return folder


class Bench:
    """A list of images, an `Adapting` and a process that the test plays."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.desk: Desk = open_desk()
        self.listed = self.desk.session.listed
        self.listed.open_paths([folder])
        self.told: list[tuple[str, str]] = []
        self.posted: queue.Queue[Callable[[], None]] = queue.Queue()
        self.started: list[Path] = []
        self.alive = True
        self.root = root
        self.adapting = self.new()

    def new(self) -> Adapting:
        def start(path: Path) -> Callable[[], bool]:
            self.started.append(path)
            return lambda: self.alive

        return Adapting(
            self.listed,
            self.posted.put,
            lambda *message: self.told.append(message),
            start=start,
            folder=self.root,
        )

    def done(self, *numbers: int) -> None:
        assert self.listed.images is not None
        for number in numbers:
            self.listed.go_to(number)
            self.listed.set_state(self.listed.images.entries[number], EntryState.DONE)

    def until(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end
            try:
                self.posted.get(timeout=0.1)()
            except queue.Empty:
                continue

    @property
    def run(self) -> Adaptation:
        return Adaptation(self.started[-1])


@pytest.fixture
def bench(folder: Path, tmp_path: Path) -> Bench:
    return Bench(folder, tmp_path / "adaptations")


def test_what_there_is_to_learn_from_is_said(bench: Bench) -> None:
    assert "mark those as done" in bench.adapting.found.text
    bench.adapting.begin("default", "cpu")
    assert not bench.started
    bench.done(0)
    assert "1 image with 6 objects: too few" in bench.adapting.found.text
    bench.done(1)
    found = bench.adapting.found
    assert found.text == "2 images with 12 objects: a beginning. 30 objects teach more."
    assert found.is_enough
    entries = bench.listed.images.entries  # type: ignore[union-attr]
    bench.listed.set_state(entries[1], EntryState.STARTED)
    assert not bench.adapting.found.is_enough
    bench.adapting.set(partly=True)
    assert "(1 partly annotated)" in bench.adapting.found.text


def test_labels_that_are_not_saved_are_learnt_from_as_well(bench: Bench) -> None:
    bench.done(0, 1)
    layers = bench.listed.layers_of(bench.listed.images.entries[1])  # type: ignore[union-attr]
    assert layers is not None
    assert layers[1] is not None
    layers[1].data[40:50, 40:50] = 77
    bench.listed.images.entries[1].saved = False  # type: ignore[union-attr]
    found = annotated(bench.listed, partly=False)
    samples = list(read_samples(sources(found, bench.listed)))
    assert [len(np.unique(sample.labels)) - 1 for sample in samples] == [6, 7]
    assert all(sample.complete for sample in samples)
    assert [sample.rgb.shape for sample in samples] == [(60, 80, 3)] * 2


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((60, 80), np.uint16), ((60, 80, 3), np.uint8), ((3, 60, 80), np.uint16)],
)
def test_unsaved_labels_do_not_change_what_the_image_looks_like(
    tmp_path: Path, shape: tuple[int, ...], dtype: Any
) -> None:
    """A later round knows the images of an earlier one by their pixels."""
    rng = np.random.default_rng(1)
    rgb = len(shape) == 3 and shape[2] == 3
    path, labels_path = tmp_path / "a.tif", tmp_path / "a_labels.tif"
    pixels = rng.integers(0, 255, shape).astype(dtype)
    tifffile.imwrite(path, pixels, photometric="rgb" if rgb else "minisblack")
    labels = np.ones(shape[:2] if rgb else shape, np.uint8)
    tifffile.imwrite(labels_path, labels, photometric="minisblack")
    saved, unsaved = (
        list(read_samples([Source("a", True, path, known)]))
        for known in (labels_path, labels)
    )
    assert len(saved) == len(unsaved) == (3 if shape[0] == 3 else 1)
    for one, other in zip(saved, unsaved, strict=True):
        assert np.array_equal(one.rgb, other.rgb)
        assert one.image == other.image == "0"


def test_layers_without_files_are_learnt_from(bench: Bench) -> None:
    image = Image(
        np.random.default_rng(0).integers(0, 99, (40, 50), np.uint8), name="x"
    )
    labels = Labels(
        np.pad(np.ones((9, 9), np.uint8), ((0, 31), (0, 41))), name="x_labels"
    )
    desk = open_desk(image, labels)
    desk.session.set_target(labels)
    desk.session.listed.take_layers()
    found = annotated(desk.session.listed, partly=True)
    assert len(found.partly) == 1
    (sample,) = read_samples(sources(found, desk.session.listed))
    assert not sample.complete
    assert sample.labels.sum() == 81


def test_a_label_file_that_does_not_fit_is_left_out_with_a_sentence(
    bench: Bench, folder: Path
) -> None:
    bench.done(0, 1)
    tifffile.imwrite(folder / "0_labels.tif", np.ones((9, 9), np.uint8))
    bench.adapting.begin("default", "cpu")
    reason = "the image has 80 × 60 pixels, its labels have 9 × 9"
    (note,) = bench.run.events()[0]
    assert note["event"] == "note"
    assert reason in note["text"]
    assert (bench.run.order().images, bench.run.order().objects) == (1, 6)
    bench.until(lambda: bench.told)
    assert bench.told[-1][0] == "warning"
    assert bench.told[-1][1].startswith("Left out: ")
    assert reason in bench.told[-1][1]


def test_where_no_labels_fit_nothing_begins(bench: Bench, folder: Path) -> None:
    bench.done(0, 1)
    for number in range(2):
        tifffile.imwrite(folder / f"{number}_labels.tif", np.ones((9, 9), np.uint8))
    bench.adapting.begin("default", "cpu")
    assert not bench.started
    assert not bench.adapting.running
    level, text = bench.told[-1]
    assert level == "warning"
    assert "its labels have 9 × 9" in text
    assert all_adaptations(bench.root) == []


def test_done_images_without_objects_are_background(bench: Bench, folder: Path) -> None:
    bench.done(0, 1)
    assert not bench.adapting.found.empty
    bench.done(2)
    found = bench.adapting.found
    assert [entry.name for entry in found.empty] == ["2"]
    assert found.text.startswith(
        "2 images with 12 objects, 1 without objects as background: "
    )
    samples = list(read_samples(sources(found, bench.listed)))
    assert [sample.objects for sample in samples] == [6, 6, 0]
    assert samples[2].complete
    assert samples[2].rgb.shape == (60, 80, 3)
    bench.adapting.begin("default", "cpu")
    assert (bench.run.order().images, bench.run.order().objects) == (2, 12)
    assert len(list(bench.run.data.rglob("*.npz"))) == 3
    # An image whose objects were counted and whose labels are gone is no background.
    entry = bench.listed.images.entries[0]  # type: ignore[union-attr]
    (folder / "0_labels.tif").unlink()
    entry.labels = None
    assert entry not in bench.adapting.found.empty


def begun(bench: Bench) -> Adaptation:
    bench.done(0, 1)
    bench.adapting.set(name="My cells", minutes=5.0)
    bench.adapting.begin("default", "cpu")
    assert bench.adapting.running
    run = bench.run
    run.say("began")
    run.say("stage", text="Learning", left=130)
    run.say("judged", step=0, score=0.5)
    for step in range(1, 4):
        run.say("step", step=step, progress=step / 4, loss=1 / step, left=100)
    run.say("judged", step=3, score=0.7)
    bench.until(lambda: len(bench.adapting.curve.scores) == 2)
    return run


def test_a_run_is_followed_to_its_result(bench: Bench, tmp_path: Path) -> None:
    run = begun(bench)
    order = run.order()
    assert (order.name, order.minutes, order.images, order.objects) == (
        "My cells",
        5.0,
        2,
        12,
    )
    adapting = bench.adapting
    assert adapting.text == "Learning, about 2 min left"
    assert adapting.curve.losses == [(0.25, 1.0), (0.5, 0.5), (0.75, 1 / 3)]
    assert adapting.curve.scores == [(0.0, 0.5), (0.75, 0.7)]
    adapting.begin("default", "cpu")
    assert "already" in bench.told[-1][1]
    adapting.stop_early()
    assert run.request == "stop"
    figures = {"one click": [0.5, 0.75]}
    run.say(
        "done",
        verdict="better",
        model="m.safetensors",
        figures=figures,
        table=figures | {"IoU, 3 clicks": [0.6, 0.5]},
        remark="Worse than before: three clicks.",
        text="Good.",
    )
    bench.alive = False
    bench.until(lambda: adapting.result is not None)
    assert not adapting.running
    assert adapting.result is not None
    assert adapting.result.model == "m.safetensors"
    assert adapting.result.figures == {"one click": (0.5, 0.75)}
    assert adapting.result.table["IoU, 3 clicks"] == (0.6, 0.5)
    assert adapting.result.remark == "Worse than before: three clicks."
    assert "“My cells” is ready" in bench.told[-1][1]
    # It is told once: not again at the next start.
    later = bench.new()
    later.look()
    assert later.result is None


def test_worse_and_failed_leave_the_model_as_it_is(bench: Bench) -> None:
    run = begun(bench)
    run.say("done", verdict="worse", model="", figures={}, text="It is worse.")
    bench.alive = False
    bench.until(lambda: bench.adapting.result is not None)
    assert bench.adapting.result is not None
    assert bench.adapting.result.model == ""
    assert bench.told[-1] == ("warning", "It is worse.")
    bench.adapting.put_away()
    assert bench.adapting.result is None


def test_cancelled_is_gone(bench: Bench) -> None:
    run = begun(bench)
    bench.adapting.cancel()
    assert run.request == "cancel"
    run.say("cancelled")
    bench.alive = False
    bench.until(lambda: not bench.adapting.running)
    assert "cancelled" in bench.adapting.text
    assert all_adaptations(bench.root) == []


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({}, "interrupted"),
        ({"event": "stopped", "text": "Memory ran out."}, "Memory ran out."),
        ({"event": "paused"}, "paused"),
    ],
)
def test_an_interrupted_run_is_resumed_or_discarded_at_the_next_start(
    bench: Bench, event: dict[str, str], said: str
) -> None:
    run = begun(bench)
    if event:
        run.say(**event)
    bench.alive = False
    bench.until(lambda: not bench.adapting.running)
    assert said in bench.adapting.text
    bench.adapting.close()
    later = bench.new()
    later.look()
    assert later.left == run
    assert said in later.text
    bench.alive = True
    later.resume()
    assert bench.started[-1] == run.path
    assert later.running
    bench.alive = False
    bench.until(lambda: not later.running)
    later.discard()
    assert later.left is None
    assert all_adaptations(bench.root) == []


def test_a_model_without_a_place_is_put_into_another_folder(
    bench: Bench, tmp_path: Path
) -> None:
    run = begun(bench)
    run.say("stopped", text="It cannot be written.", elsewhere=True)
    bench.alive = False
    bench.until(lambda: not bench.adapting.running)
    assert bench.adapting.is_homeless
    assert "It cannot be written." in bench.adapting.text
    bench.alive = True
    bench.adapting.resume(tmp_path / "other")
    assert bench.started[-1] == run.path
    assert run.order().model == str(tmp_path / "other" / "My-cells.safetensors")
    assert not bench.adapting.is_homeless


@pytest.mark.parametrize("goes_on", [True, False])
def test_closing_napari_leaves_the_run_or_pauses_it(
    bench: Bench, goes_on: bool
) -> None:
    run = begun(bench)
    bench.adapting.set(goes_on=goes_on)
    bench.adapting.close()
    assert run.request == ("" if goes_on else "pause")


def test_the_run_of_an_earlier_napari_is_followed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(bench)
    bench.adapting.close()
    held = run.take()
    later = bench.new()
    later.look()
    assert later.running
    bench.until(lambda: len(later.curve.losses) == 3)
    # Another one cannot begin.
    third = bench.new()
    third.begin("default", "cpu")
    assert "already" in bench.told[-1][1]
    assert not third.running
    run.say("done", verdict="none", text="It stays.")
    import os

    os.close(held)
    bench.until(lambda: later.result is not None)


def test_a_process_that_cannot_start_is_a_sentence(bench: Bench) -> None:
    bench.done(0, 1)

    def start(path: Path) -> Callable[[], bool]:
        raise OSError(12, "Cannot allocate memory")

    bench.adapting._start = start
    bench.adapting.begin("default", "cpu")
    assert bench.told[-1] == ("warning", "Cannot allocate memory.")
    assert bench.adapting.left is not None


def test_a_comparison_is_one_sheet(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        read_comparison(tmp_path)
    for number, (height, width) in enumerate(((20, 30), (10, 40))):
        labels = np.full((height, width), number + 1, np.int32)
        np.savez(
            tmp_path / f"{number}.npz",
            image=np.full((height, width, 3), 9, np.uint8),
            yours=labels,
            before=0 * labels,
            after=labels,
        )
    sheet = read_comparison(tmp_path)
    assert sheet["image"].shape[:2] == sheet["found"].shape == (42, 92)
    assert (sheet["found"][:, :40] == 0).all()
    assert np.unique(sheet["found"][:, 52:]).tolist() == [0, 1, 2]


def test_labels_that_a_batch_has_written_are_noted(bench: Bench, folder: Path) -> None:
    bench.done(0)
    tifffile.imwrite(folder / "2_labels.tif", np.ones((60, 80), np.uint8))
    bench.listed.look_for_labels()
    entry = bench.listed.images.entries[2]  # type: ignore[union-attr]
    assert entry.labels == folder / "2_labels.tif"
    assert entry.state is EntryState.STARTED
    # Nobody has looked at them yet, so they teach nothing.
    bench.adapting.set(partly=True)
    assert entry not in bench.adapting.found.entries
