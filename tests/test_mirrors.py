"""Mirror images: maps of them are turned back to where they belong, and steady the objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from analytic_runtime import analytic_predictor
from napari_tinysam.everything import GuidedSettings
from napari_tinysam.everything.guided import GuidedSearch
from napari_tinysam.mirrors import AXES, mean_maps, mirrored, turned_back
from napari_tinysam.object_maps import boundary_distance, centre_distance
from napari_tinysam.predictor import Predictor
from napari_tinysam.scales import reduced


def seen(rgb: np.ndarray, values: int) -> np.ndarray:
    """(3, values, values): means of squares of 4 pixels, as a head without any error sees them."""
    maps = np.zeros((3, values, values), np.float32)
    height, width = -(-rgb.shape[0] // 4) * 4, -(-rgb.shape[1] // 4) * 4
    whole = np.zeros((height, width, 3), np.float32)
    whole[: rgb.shape[0], : rgb.shape[1]] = rgb
    squares = whole.reshape(height // 4, 4, width // 4, 4, 3).mean(axis=(1, 3))
    maps[:, : height // 4, : width // 4] = squares.transpose(2, 0, 1)
    return maps


@given(
    height=st.integers(1, 64),
    width=st.integers(1, 64),
    axes=st.sampled_from(AXES),
    factor=st.sampled_from([1, 2, 4]),
)
@settings(max_examples=60, deadline=None)
def test_maps_come_back_to_their_places(
    height: int, width: int, axes: tuple[int, ...], factor: int
) -> None:
    rng = np.random.default_rng(height * 65 + width)
    rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
    turned = mirrored(rgb, axes)
    assert turned.shape[0] % 16 == turned.shape[1] % 16 == 0
    values = 16 // factor
    size = (turned.shape[0] // (4 * factor), turned.shape[1] // (4 * factor))
    found = turned_back(seen(reduced(turned, factor), values), size, axes)
    expected = seen(reduced(rgb, factor), values)
    # All squares that show nothing but the image; others see how it was continued.
    rows, columns = height // (4 * factor), width // (4 * factor)
    np.testing.assert_allclose(
        found[:, :rows, :columns], expected[:, :rows, :columns], atol=0.51
    )


def test_the_mean_is_taken_look_by_look() -> None:
    first = [np.zeros((3, 4, 4), np.float32), np.ones((3, 2, 2), np.float32)]
    second = [np.ones((3, 4, 4), np.float32), np.ones((3, 2, 2), np.float32)]
    large, small = mean_maps([first, second])
    assert (large == 0.5).all()
    assert (small == 1).all()
    assert large.dtype == np.float32


class Slanting:
    """The object head sees bright discs, 8 pixels of the frame to the right of where they are."""

    name = "slanting"
    image_size = 1024
    dense_prompts = False
    has_object_head = True

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, rgb: np.ndarray, frame_size: int = 0) -> Any:
        self.encoded += 1
        return rgb

    def object_maps(self, features: np.ndarray) -> np.ndarray:
        bright = seen(features, 256)[0] > 127
        labels, _ = ndi.label(np.roll(bright, 2, axis=1))
        maps = np.stack(
            [
                255 * (labels > 0),
                centre_distance(labels.astype(np.int32)),
                boundary_distance(labels.astype(np.int32)),
            ]
        )
        return np.asarray(maps / 255, np.float32)


@pytest.mark.parametrize("shape", [(1024, 1024), (700, 1000), (333, 500)])
@pytest.mark.parametrize("axes", AXES)
def test_errors_of_a_direction_cancel_out(
    shape: tuple[int, int], axes: tuple[int, ...]
) -> None:
    scale = 1024 / max(shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    disc = np.hypot(x * scale - 400, y * scale - 300) < 60
    predictor = Predictor(Slanting(), name="slanting", model_id="slanting")
    embedding = predictor.encode(disc.astype(np.uint8)[..., None].repeat(3, 2) * 255)
    own = predictor.looked_maps(embedding)
    other = predictor.mirrored_maps(embedding, axes)
    off = [maps[0].nonzero()[1].mean() * 4 + 1.5 - 400 for (maps,) in (own, other)]
    assert off[0] == pytest.approx(8, abs=2)
    assert off[1] == pytest.approx(-8 if 1 in axes else 8, abs=2)
    rows = [maps[0].nonzero()[0].mean() for (maps,) in (own, other)]
    assert rows[0] == pytest.approx(rows[1], abs=0.5)


@pytest.mark.parametrize("mirrors", [0, 1, 2, 3])
def test_the_guided_search_looks_at_as_many_mirror_images_as_it_may(
    mirrors: int,
) -> None:
    y, x = np.mgrid[:1024, :1024]
    image = np.zeros((1024, 1024, 3), np.uint8)
    image[np.hypot(x - 400, y - 300) < 60] = 255
    runtime = Slanting()
    predictor = Predictor(runtime, name="slanting", model_id="slanting")  # type: ignore[arg-type]
    embedding = predictor.encode(image)
    chosen = replace(GuidedSettings(), mirrors=mirrors)
    steps = iter(GuidedSearch(predictor, embedding, chosen))
    for number in range(mirrors):
        assert next(steps) == []  # it can be left after each of them
        assert runtime.encoded == 2 + number


def test_the_image_is_as_it_was_encoded() -> None:
    """Whoever paints into an image after it was encoded does not change what is mirrored."""
    predictor = Predictor(Slanting(), name="slanting", model_id="slanting")  # type: ignore[arg-type]
    image = np.zeros((1024, 1024, 3), np.uint8)
    image[200:300, 400:500] = 255
    embedding = predictor.encode(image)
    (before,) = predictor.mirrored_maps(embedding, (1,))
    image[:] = 0
    (after,) = predictor.mirrored_maps(embedding, (1,))
    assert before[0].any()
    np.testing.assert_array_equal(after, before)


def test_only_images_that_are_there_are_mirrored() -> None:
    predictor = analytic_predictor(object_maps=np.zeros((3, 256, 256), np.float32))
    embedding = predictor.encode(np.zeros((64, 64), np.uint8))
    with pytest.raises(ValueError, match="does not hold its image"):
        predictor.mirrored_maps(replace(embedding, resized=None), (1,))
    with pytest.raises(ValueError, match="3 mirror images at most"):
        GuidedSettings(mirrors=4)
