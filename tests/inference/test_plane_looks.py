"""Looks of a plane: the same pixels as in the whole, with the contrast of the whole."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest

from napari_tinysam.image import to_rgb
from napari_tinysam.inference.looks import Look
from napari_tinysam.inference.plane_looks import PlaneLooks, is_empty

LOOK = Look(10, 30, 60, 90)


@pytest.mark.parametrize(
    ("shape", "dtype", "options"),
    [
        ((200, 300), np.uint8, {}),
        ((200, 300), np.uint16, {}),
        ((200, 300), np.float32, {"contrast_limits": (100.0, 200.0)}),
        ((200, 300, 3), np.uint8, {}),
        ((200, 300, 4), np.uint16, {}),
        ((200, 300, 3), np.uint16, {"channel": 1, "channel_axis": 2}),
        ((5, 200, 300), np.uint16, {"channel": (3, 1)}),
        ((2, 200, 300), np.float32, {}),
    ],
)
@pytest.mark.parametrize("lazily", [False, True])
def test_a_look_is_a_part_of_the_whole(
    shape: tuple[int, ...], dtype: Any, options: dict[str, Any], lazily: bool
) -> None:
    image = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    whole = to_rgb(image, **options)
    looks = PlaneLooks(da.from_array(image) if lazily else image, **options)
    assert looks.shape == (200, 300)
    np.testing.assert_array_equal(looks.read(LOOK), whole[LOOK.rows, LOOK.columns])


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(TypeError, match="numbers"):
        PlaneLooks(np.zeros((200, 300), complex))
    with pytest.raises(ValueError, match="Channel 9"):
        PlaneLooks(np.zeros((3, 200, 300)), channel=9)


def test_faint_noise_is_empty_and_a_small_object_is_not() -> None:
    noise = np.random.default_rng(0).normal(20, 3, (400, 500, 3)).astype(np.uint8)
    assert is_empty(noise)
    noise[100:106, 50:56] += 40
    assert not is_empty(noise)
    assert not is_empty(noise[:3])  # too small to say
