"""Parts of large planes, read by themselves for auto-segmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from scipy import ndimage as ndi

from desk import open_desk
from fake_inference import SteppedInference
from napari_tinysam.inference.looks import Look
from napari_tinysam.inference.predictions import Embedding
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.inference.runtime import DecodedPrompts
from napari_tinysam.ui.canvas.proposal_layer import PROPOSED
from napari_tinysam.ui.state.planes import Contrast, shown_plane
from napari_tinysam.ui.state.rectangles import embed_part, finer_part
from napari_tinysam.ui.state.region import Region


@pytest.mark.parametrize(
    ("shape", "rows", "columns", "worth"),
    [
        ((3000, 3000), slice(100, 900), slice(200, 1200), True),
        ((3000, 3000), slice(0, 2000), slice(0, 2000), True),
        # Enlarged, small objects are found better.
        ((800, 1000), slice(100, 400), slice(100, 500), True),
        # Hardly finer than the whole.
        ((3000, 3000), slice(0, 2600), slice(0, 2600), False),
        # Enlarged enough already.
        ((400, 500), slice(0, 300), slice(0, 300), False),
    ],
)
def test_a_part_is_read_by_itself_where_that_shows_more(
    shape: tuple[int, int], rows: slice, columns: slice, worth: bool
) -> None:
    part = Look(rows.start, columns.start, rows.stop, columns.stop)
    assert finer_part(part, shape) == (part if worth else None)


@pytest.mark.parametrize(
    ("rows", "columns", "read"),
    [
        ((500, 510), (600, 700), ((377, 633), (522, 778))),
        ((0, 10), (990, 1000), ((0, 256), (744, 1000))),
    ],
)
def test_small_regions_are_read_with_what_is_around_them(
    rows: tuple[int, int], columns: tuple[int, int], read: Any
) -> None:
    part = Look(rows[0], columns[0], rows[1], columns[1])
    found = finer_part(part, (1000, 1000))
    assert found is not None
    assert (found.rows, found.columns) == (slice(*read[0]), slice(*read[1]))


class Recorder:
    """A predictor that keeps what it is given."""

    def __init__(self) -> None:
        self.image: Any = None
        self.options: dict[str, Any] = {}

    def encode(self, image: Any, **options: Any) -> Any:
        self.image, self.options = np.asarray(image), options
        return Embedding(None, (1, 1), (1, 1), 1024, "recorder")


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2)])
def test_the_part_that_is_read(order: tuple[int, ...]) -> None:
    stack = np.random.default_rng(0).integers(0, 9999, (30, 40, 50), np.uint16)
    viewer = ViewerModel()
    layer = viewer.add_image(stack)
    assert isinstance(layer, Image)
    viewer.dims.order = order
    viewer.dims.set_current_step(order[0], 7)
    plane = shown_plane(layer, viewer.dims)
    whole = stack.transpose(order)[7]
    rows, columns = slice(3, 13), slice(20, 25)
    recorder: Any = Recorder()
    part = Look(rows.start, columns.start, rows.stop, columns.stop)
    embedding = embed_part(layer, plane, Contrast.PERCENTILES, part)(recorder)
    np.testing.assert_array_equal(recorder.image, whole[rows, columns])
    assert embedding.original_size == (10, 5)
    assert recorder.options == {"contrast_limits": None, "channel_axis": None}


def test_a_part_of_a_pyramid_is_read_where_it_is_fine_enough() -> None:
    full = np.random.default_rng(0).integers(0, 255, (6000, 8000, 3), np.uint8)
    viewer = ViewerModel()
    layer = viewer.add_image([full, full[::2, ::2], full[::4, ::4]], multiscale=True)
    assert isinstance(layer, Image)
    plane = shown_plane(layer, viewer.dims)
    recorder: Any = Recorder()
    for rows, columns, step in (
        (slice(400, 800), slice(1000, 1600), 1),
        (slice(400, 2800), slice(1000, 2000), 2),
        (slice(0, 6000), slice(0, 8000), 4),
    ):
        part = Look(rows.start, columns.start, rows.stop, columns.stop)
        embed = embed_part(layer, plane, Contrast.DISPLAYED, part)
        embedding = embed(recorder)
        expected = full[rows, columns][::step, ::step]
        np.testing.assert_array_equal(recorder.image, expected)
        assert embedding.original_size == part.size
        assert recorder.options == {"contrast_limits": None, "channel_axis": -1}


class Bright:
    """Sees bright spots, but for those that have fewer than some pixels of the frame."""

    name = "bright"
    image_size = 1024
    dense_prompts = False
    has_object_head = False

    def encode(self, rgb: np.ndarray) -> Any:
        seen = np.zeros((1024, 1024), bool)
        seen[: rgb.shape[0], : rgb.shape[1]] = rgb[..., 0] > 128
        return ndi.label(seen)[0]

    def maps_of_half(self, rgb: np.ndarray) -> None:
        return None

    def object_maps(self, features: Any) -> None:
        return None

    def decode(
        self, features: Any, *, points: Any, boxes: Any, **others: Any
    ) -> DecodedPrompts:
        if points is None:
            points = boxes.reshape(-1, 2, 2).mean(axis=1, keepdims=True)
        logits = np.full((len(points), 3, 256, 256), -10, np.float32)
        scores = np.zeros((len(points), 3), np.float32)
        for number, (x, y) in enumerate(points[:, 0].astype(int)):
            label = features[y, x]
            spot = features == label
            if label and spot.sum() >= 900:
                logits[number] = np.where(spot[2::4, 2::4], 10, -10)
                scores[number] = 0.95
        return DecodedPrompts(logits, scores)


def test_small_objects_of_a_large_plane_are_found_in_a_part_of_it() -> None:
    y, x = np.mgrid[:3000, :3000]
    plane = np.zeros((3000, 3000), np.uint8)
    middles = [(700, 1500), (820, 1600), (900, 1350)]
    for row, column in [*middles, (2000, 2000)]:
        plane[np.hypot(y - row, x - column) < 30] = 255
    predictor = Predictor(Bright(), name="bright", model_id="bright")  # type: ignore[arg-type]
    inference = SteppedInference()
    desk = open_desk(
        Image(plane, name="cells"),
        inference=inference,
        load_predictor=lambda *_: predictor,
    )
    inference.run_all()
    desk.session.auto_segment()
    inference.run_all()
    assert desk.session.proposals.count == 4  # in tiles

    desk.box(1200, 500, 1800, 1100)
    inference.run_all()
    desk.session.auto.set_region(Region.BOX)
    desk.session.auto_segment()
    inference.run_all()
    assert desk.session.proposals.count == 3
    found = np.asarray(desk.viewer.layers[PROPOSED].data[0])  # of a pyramid
    assert found.shape == plane.shape
    assert all(found[middle] for middle in middles)
    assert not found[2000, 2000]
    truth = np.hypot(y - 700, x - 1500) < 30
    own = found == found[700, 1500]
    assert (truth & own).sum() / (truth | own).sum() > 0.9


def test_cancelling_before_the_part_is_read() -> None:
    predictor = Predictor(Bright(), name="bright", model_id="bright")  # type: ignore[arg-type]
    inference = SteppedInference()
    desk = open_desk(
        Image(np.zeros((3000, 3000), np.uint8)),
        inference=inference,
        load_predictor=lambda *_: predictor,
    )
    inference.run_all()
    desk.box(1200, 500, 1800, 1100)
    inference.run_all()
    desk.session.auto.set_region(Region.BOX)
    desk.session.auto_segment()
    desk.session.cancel()
    inference.run_all()
    assert not desk.session.auto.running
    assert not [text for level, text in desk.told if level == "error"]
