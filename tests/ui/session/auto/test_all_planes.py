"""Auto-segmentation of stacks, movies and all images: written plane by plane, one undo step."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import dask.array
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image, Labels

from desk import Desk, open_desk
from everything.scene import SceneRuntime
from fake_inference import SteppedInference
from napari_tinysam.everything.thresholds import NOTE
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.ui.session.facade import StatusKind
from napari_tinysam.ui.session.labels.filling import Filling, packed
from napari_tinysam.ui.session.worker import Lane
from napari_tinysam.ui.state.planes import Plane
from napari_tinysam.ui.state.region import Region
from napari_tinysam.ui.state.time_left import time_left

#: In pixels of the frame of 1024; planes have 128, so a disc's middle is at an eighth of this.
DISCS = [(200.0, 200.0, 90.0), (720.0, 200.0, 80.0), (640.0, 720.0, 100.0)]
MIDDLES = [(25, 25), (25, 90), (90, 80)]  # y, x


def stack(planes: int = 4, name: str = "cells", **options: Any) -> Image:
    return Image(np.zeros((planes, 128, 128), np.uint8), name=name, **options)


def desk(
    *layers: Any, inference: Any = None, region: Region = Region.ALL_PLANES
) -> Desk:
    runtime = SceneRuntime(DISCS, seen=DISCS)
    search = {
        "score_threshold": 0.5,
        "stability_threshold": 0.5,
        "points_per_side": 16,
    }
    notes = {NOTE: json.dumps({"search": search, "labels": {"confidence": 0.6}})}
    predictor = Predictor(runtime, name="discs", model_id="discs", notes=notes)
    found = open_desk(
        *(layers or (stack(),)),
        inference=inference,
        load_predictor=lambda *_: predictor,
    )
    found.runtime = runtime
    found.session.auto.set_region(region)
    if isinstance(inference, SteppedInference):
        inference.run_all()  # the model and the embedding
    return found


def counts(labels: Labels | None) -> list[int]:
    """How many discs are labelled on each plane."""
    assert labels is not None
    data = np.asarray(labels.data).reshape(-1, 128, 128)
    return [sum(bool(plane[middle]) for middle in MIDDLES) for plane in data]


def finish(here: Desk) -> None:
    """Wait until a run has ended: slow planes are read in a thread."""
    end = time.monotonic() + 60
    while here.session.all_planes.running:
        assert time.monotonic() < end
        if isinstance(here.inference, SteppedInference):
            here.inference.run_all()
        time.sleep(0.005)


def begin(here: Desk, inference: SteppedInference, planes: int) -> None:
    """Run until so many planes are written."""
    here.session.auto_segment()
    while here.session.target is None or sum(map(bool, counts(here.session.target))) < (
        planes
    ):
        inference.step()


def test_all_planes_are_one_step_of_undo() -> None:
    here = desk()
    here.session.auto_segment()
    target = here.session.target
    assert counts(target) == [3, 3, 3, 3]
    assert here.ids == list(range(1, 13))  # unique in the stack
    assert here.session.status.kind is StatusKind.READY
    assert here.told[-1][1].startswith("12 objects in planes 0 to 3 of cells.")
    assert not here.session.saving.is_saved(target)
    here.session.undo()
    assert here.ids == []
    here.session.redo()
    assert counts(target) == [3, 3, 3, 3]
    assert here.ids == list(range(1, 13))


@pytest.mark.parametrize("then", [True, False])
def test_then_link_through_the_planes(then: bool) -> None:
    here = desk(stack(axis_labels=("z", "y", "x")))
    here.session.set_then_link(then)
    here.session.auto_segment()
    assert counts(here.session.target) == [3, 3, 3, 3]
    assert len(here.ids) == (3 if then else 12)
    if then:
        here.session.undo()  # the links
        assert len(here.ids) == 12
    here.session.undo()
    assert here.ids == []


@pytest.mark.parametrize(
    "data",
    [
        dask.array.zeros((3, 128, 128), np.uint8, chunks=(1, 128, 128)),
        np.zeros((3, 128, 128, 3), np.uint8),
        [np.zeros((3, 128, 128)), np.zeros((3, 64, 64))],
    ],
)
def test_lazy_colour_and_pyramids(data: Any) -> None:
    here = desk(Image(data, name="cells", multiscale=isinstance(data, list)))
    here.session.auto_segment()
    finish(here)
    assert counts(here.session.target) == [3, 3, 3]


def test_a_movie_of_stacks_with_channels() -> None:
    image = Image(
        np.zeros((2, 3, 2, 128, 128), np.uint8),
        name="cells",
        axis_labels=("t", "z", "c", "y", "x"),
    )
    here = desk(image)
    here.session.set_then_link(False)
    here.session.auto_segment()
    target = here.session.target
    assert target.data.shape == (2, 3, 2, 128, 128)
    assert (target.data[:, :, 0] == target.data[:, :, 1]).all()
    assert len(here.ids) == 2 * 3 * 3
    here.session.undo()
    assert here.ids == []


def test_rows_and_columns_may_be_swapped() -> None:
    image = Image(np.zeros((3, 128, 96), np.uint8), name="cells")
    here = desk(image)
    here.viewer.dims.order = (0, 2, 1)
    here.session.auto_segment()
    found = here.session.target.data
    assert len(here.ids) == 9
    here.session.undo()
    assert not found.any()
    here.session.redo()
    assert len(here.ids) == 9


def test_a_range_of_planes() -> None:
    here = desk()
    here.session.all_planes.set_range(0, 1, 2)
    here.session.auto_segment()
    assert counts(here.session.target) == [0, 3, 3, 0]


@pytest.mark.parametrize("fill", [True, False])
def test_committed_objects_stay(fill: bool) -> None:
    here = desk()
    labels = Labels(np.zeros((4, 128, 128), np.uint16), name="mine")
    labels.data[1, 15:35, 15:35] = 7
    before = labels.data.copy()
    here.viewer.add_layer(labels)
    here.session.set_target(labels)
    here.session.all_planes.set_fill(fill)
    here.session.auto_segment()
    assert counts(labels) == [3, 3 if fill else 1, 3, 3]
    assert (labels.data[before > 0] == 7).all()
    assert ("Left as they are: plane 1 of cells" in here.told[-1][1]) is not fill
    here.session.undo()
    assert (labels.data == before).all()


def test_the_sliders_of_a_plane_count_for_all() -> None:
    here = desk(region=Region.PLANE)
    here.session.auto_segment()
    assert here.session.proposals.count == 3
    # The radius of the smallest disc is 10 pixels, that of the next 11.
    here.session.proposals.set_settings(least_area=np.pi * 10.5**2)
    assert here.session.proposals.count == 2
    here.session.auto.set_region(Region.ALL_PLANES)
    here.session.auto_segment()
    assert counts(here.session.target) == [2, 2, 2, 2]
    assert here.session.proposals.count == 0  # they are labelled now
    here.session.undo()
    assert here.session.proposals.count == 2
    here.session.set_model("other")
    assert here.session.all_planes.settings_in_words == ""


def test_clicks_go_first_and_undo_is_in_order() -> None:
    inference = SteppedInference()
    here = desk(inference=inference)
    begin(here, inference, 1)
    assert here.session.status.kind is StatusKind.SEGMENTING
    here.viewer.dims.set_point(0, 3)
    assert inference.step() is Lane.EMBED
    here.click(90, 25)
    assert inference.step() is Lane.PROMPT
    here.session.commit()
    assert here.session.target.data[3, 25, 90]
    assert inference.step() is Lane.AUTO
    inference.run_all()
    target = here.session.target
    assert counts(target) == [3, 3, 3, 3]
    here.session.undo()  # the commit came after the run began
    assert counts(target) == [3, 3, 3, 2]
    here.session.undo()  # the click
    here.session.undo()
    assert not target.data.any()


def test_cancel_keeps_planes_and_the_next_run_goes_on() -> None:
    inference = SteppedInference()
    here = desk(stack(6), inference=inference)
    begin(here, inference, 2)
    here.session.cancel()
    inference.run_all()
    assert not here.session.all_planes.running
    assert here.session.status.kind is StatusKind.READY
    done = sum(map(bool, counts(here.session.target)))
    assert done == 2
    text = here.told[-1][1]
    assert "planes 0 to 1 of cells" in text
    assert "Not done: planes 2 to 5 of cells" in text
    assert here.session.all_planes.ranges() == [(0, "", 2, 5, 5)]
    here.session.auto_segment()
    inference.run_all()
    assert counts(here.session.target) == [3] * 6
    # Two runs are two steps.
    here.session.undo()
    assert counts(here.session.target) == [3, 3, 0, 0, 0, 0]
    assert here.session.all_planes.note == ""


def test_after_undo_the_range_is_whole_again() -> None:
    inference = SteppedInference()
    here = desk(inference=inference)
    begin(here, inference, 2)
    here.session.cancel()
    assert here.session.all_planes.ranges()[0].first == 2
    here.session.undo()
    assert here.session.all_planes.ranges()[0].first == 0
    assert here.session.all_planes.note == ""


def test_undo_in_the_middle_takes_it_back_and_stops_it() -> None:
    inference = SteppedInference()
    here = desk(inference=inference)
    begin(here, inference, 2)
    here.session.undo()
    inference.run_all()
    assert not here.session.all_planes.running
    assert not here.session.target.data.any()
    assert "taken back" in here.told[-1][1]


def test_closing_in_the_middle_keeps_planes_and_their_undo() -> None:
    inference = SteppedInference()
    here = desk(inference=inference)
    begin(here, inference, 2)
    target = here.session.target
    here.session.close()
    assert sum(map(bool, counts(target))) == 2
    from napari_tinysam.ui.session.facade import AnnotationSession

    again = AnnotationSession(
        here.viewer,
        SteppedInference(),
        load_predictor=lambda *_: None,
        notify=lambda *_: None,
    )
    again.undo()
    assert not target.data.any()


@pytest.mark.parametrize("what", ["image", "labels", "data"])
def test_what_it_works_on_goes_away(what: str) -> None:
    inference = SteppedInference()
    here = desk(inference=inference)
    begin(here, inference, 1)
    image, target = here.image, here.session.target
    if what == "image":
        here.viewer.layers.remove(image)
    elif what == "labels":
        here.viewer.layers.remove(target)
    else:
        image.data = np.ones((4, 128, 128), np.uint8)
    inference.run_all()
    assert not here.session.all_planes.running
    assert counts(target)[:2] == [3, 0]
    words = {"image": "left out", "labels": "were removed", "data": "left out"}
    assert any(words[what] in text for _, text in here.told)


@pytest.mark.parametrize("cancelled", [True, False])
def test_the_next_run_searches_all_planes_if_the_labels_were_removed(
    cancelled: bool,
) -> None:
    inference = SteppedInference()
    here = desk(inference=inference)
    begin(here, inference, 2)
    if cancelled:
        here.session.cancel()
        inference.run_all()
    here.viewer.layers.remove(here.session.target)
    inference.run_all()
    here.session.auto_segment()
    finish(here)
    assert counts(here.session.target) == [3, 3, 3, 3]


def test_a_damaged_plane_does_not_stop_the_others() -> None:
    def read(block_info: Any = None) -> np.ndarray:
        at = block_info[None]["array-location"][0][0]
        if at == 3:
            raise OSError("The disk is gone")
        return np.zeros((1, 128, 128), np.uint8)

    data = dask.array.map_blocks(read, chunks=((1,) * 4, 128, 128), dtype=np.uint8)
    here = desk(Image(data, name="cells"))
    here.session.auto_segment()
    finish(here)
    assert counts(here.session.target) == [3, 3, 3, 0]
    level, text = here.told[-1]
    assert level == "warning"
    assert "Failed: plane 3 of cells. The disk is gone" in text


def slow_stack() -> tuple[Image, threading.Event]:
    """Return a stack whose planes are read while the event is set."""
    ready = threading.Event()
    ready.set()

    def read() -> np.ndarray:
        assert ready.wait(60)
        return np.zeros((1, 128, 128), np.uint8)

    data = dask.array.map_blocks(read, chunks=((1,) * 4, 128, 128), dtype=np.uint8)
    return Image(data, name="cells", contrast_limits=(0, 255)), ready


def test_clicks_do_not_wait_for_a_slow_plane() -> None:
    inference = SteppedInference()
    image, ready = slow_stack()
    here = desk(image, inference=inference)
    ready.clear()
    here.session.auto_segment()
    assert [inference.step() for _ in range(2)] == [Lane.AUTO, Lane.AUTO]
    assert not inference.waiting
    here.click(25, 25)
    assert inference.step() is Lane.PROMPT
    assert here.session.candidate_scores
    ready.set()
    finish(here)
    assert counts(here.session.target) == [3] * 4


def test_stopped_while_a_slow_plane_is_read() -> None:
    inference = SteppedInference()
    image, ready = slow_stack()
    here = desk(image, inference=inference)
    ready.clear()
    here.session.auto_segment()
    for _ in range(2):
        inference.step()
    here.session.cancel()
    ready.set()
    for thread in threading.enumerate():
        if thread.name == "tinysam-read":
            thread.join(60)
    inference.run_all()
    assert here.session.target is None
    assert not here.session.all_planes.running


def test_all_images_that_are_shown() -> None:
    one, two, hidden = stack(2, "one"), stack(3, "two"), stack(2, "hidden")
    flat = Image(np.zeros((128, 128), np.uint8), name="flat")
    here = desk(one, two, hidden, flat, region=Region.ALL_IMAGES)
    hidden.visible = False
    here.session.auto_segment()
    found = {
        name: counts(here.viewer.layers[f"{name} committed_objects"])
        for name in ("one", "two", "flat")
    }
    assert found == {"one": [3, 3], "two": [3, 3, 3], "flat": [3]}
    assert "hidden committed_objects" not in here.viewer.layers
    here.session.set_image(two)
    here.session.undo()
    assert counts(here.viewer.layers["two committed_objects"]) == [0, 0, 0]
    assert counts(here.viewer.layers["one committed_objects"]) == [3, 3]


def test_large_planes_are_searched_in_tiles() -> None:
    random = np.random.default_rng(0)
    large = Image(random.integers(0, 255, (2, 1600, 1700), np.uint8), name="large")
    inference = SteppedInference()  # there are many steps
    here = desk(large, inference=inference)
    here.session.auto_segment()
    inference.run_all()
    target = here.session.target
    assert len(here.ids) > 2 * len(DISCS)  # the runtime shows them in each tile
    assert all(plane.any() for plane in target.data)
    here.session.undo()
    assert not target.data.any()


def test_labels_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_tinysam.files.label_store import LabelStore
    from napari_tinysam.ui.session.labels import outputs

    monkeypatch.setattr(outputs, "LARGEST_IN_MEMORY", 1000)
    here = desk(Image(np.zeros((2, 1100, 1100), np.uint8), name="cells"))
    here.session.auto_segment()
    store = here.session.target.data[0]
    assert isinstance(store, LabelStore)
    assert len(np.unique(store[:])) == 1 + 2 * 3
    here.session.undo()
    assert not store[:].any()
    here.session.redo()
    assert len(np.unique(store[:])) == 1 + 2 * 3


def test_regions_that_make_no_sense_are_not_offered() -> None:
    here = desk(Image(np.zeros((128, 128), np.uint8), name="flat"))
    assert Region.ALL_PLANES not in here.session.regions
    assert here.session.region is Region.PLANE
    here.session.auto_segment()
    assert here.session.proposals.count == 3
    assert here.session.target is None


def test_a_small_data_type_is_full() -> None:
    here = desk()
    labels = Labels(np.zeros((4, 128, 128), np.uint8), name="mine")
    labels.data[3, 0, 0] = 250
    here.viewer.add_layer(labels)
    here.session.set_target(labels)
    here.session.auto_segment()
    assert counts(labels) == [3, 0, 0, 0]
    assert "no id left" in here.told[-1][1]


def test_changing_the_model_stops_it() -> None:
    inference = SteppedInference()
    here = desk(inference=inference)
    begin(here, inference, 1)
    here.session.set_model("other")
    inference.run_all()
    assert not here.session.all_planes.running
    assert counts(here.session.target)[2:] == [0, 0]
    assert any("model was changed" in text for _, text in here.told)


def test_it_waits_for_a_model_that_is_loaded_again() -> None:
    inference = SteppedInference()
    here = desk(inference=inference)
    begin(here, inference, 1)
    embedder = here.session._parts.embedder
    embedder.predictor = None  # for its faster form
    embedder.start()
    inference.run_all()
    assert counts(here.session.target) == [3, 3, 3, 3]


def test_without_a_model_it_says_so() -> None:
    def fails(*_: Any) -> Any:
        raise OSError("The disk is gone")

    here = open_desk(stack(), load_predictor=fails)
    here.session.auto.set_region(Region.ALL_PLANES)
    here.session.auto_segment()
    assert not here.session.all_planes.running
    assert "there is no model" in here.told[-1][1]


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_filling_takes_back_what_it_wrote(data: Any) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    before = random.integers(0, 3, (3, 40, 30)) * (random.random((3, 40, 30)) < 0.3)
    layer = Labels(before.astype(np.uint16))
    posted: list[Any] = []
    filling = Filling(layer, posted.append, lambda *_: None)
    for at in range(3):
        found = random.integers(0, 4, (40, 30)).astype(np.int32)
        plane = Plane((at, None, None), (1, 2), (40, 30))
        filling.add(plane, range(10 + 3 * at, 13 + 3 * at), packed(found))
        free = before[at] == 0
        want = np.where(free & (found > 0), found + 9 + 3 * at, before[at])
        assert (layer.data[at] == want).all()
    painted = random.random((3, 40, 30)) < 0.1
    layer.data[painted] = 99
    filling.revert()
    filling.finish()
    assert (layer.data == np.where(painted, 99, before)).all()
    filling.apply()
    filling.finish()
    assert (layer.data[painted] == 99).all()
    filling.revert()
    filling.finish()
    assert (layer.data == np.where(painted, 99, before)).all()


@pytest.mark.parametrize(
    ("seconds", "done", "text"),
    [
        (1, 1, ""),
        (30, 0, ""),
        (30, 5, "less than a minute left"),
        (100, 1, "about 15 min left"),
        (3600, 1, "about 9 h left"),
    ],
)
def test_time_left(seconds: float, done: float, text: str) -> None:
    assert time_left(seconds, done, 10) == text
