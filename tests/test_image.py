"""Any image plane to the 8-bit RGB that the model sees."""

from __future__ import annotations

from typing import Any

import dask.array
import numpy as np
import pytest
import zarr
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from napari_tinysam.image import as_rgb, to_eight_bits, to_rgb

quick = settings(deadline=None, max_examples=60)

DTYPES = (
    *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32"),
    *("uint64", "int64", "float16", "float32", "float64", ">u2", ">f4"),
)


def gradient(height: int, width: int, dtype: Any = np.uint16) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (x + y).astype(dtype)


@st.composite
def planes(draw: st.DrawFn, dtypes: tuple[str, ...] = DTYPES) -> np.ndarray:
    """(Y, X) of any type and any values, NaN and infinities too."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    return draw(npst.arrays(dtype, shape))


# ------------------------------------------------------------ every image


@quick
@given(planes())
def test_any_plane_becomes_gray_rgb(plane: np.ndarray) -> None:
    before = plane.copy()
    rgb = to_rgb(plane)
    assert rgb.dtype == np.uint8
    assert rgb.shape == (*plane.shape, 3)
    assert (rgb[..., 0] == rgb[..., 1]).all()
    assert (rgb[..., 0] == rgb[..., 2]).all()
    assert np.array_equal(plane, before, equal_nan=plane.dtype.kind == "f")


@quick
@given(planes())
@example(np.array([[-1e308, 1e308]]))
@example(np.array([[0, 2**64 - 1]], np.uint64))
@example(np.array([[0.0, 5e-324]]))
@example(np.array([[np.float32(3e38), np.float32(-3e38)]]))
def test_brighter_stays_brighter_and_the_range_is_used(plane: np.ndarray) -> None:
    gray = to_rgb(plane, percentiles=(0, 100))[..., 0]
    finite = np.isfinite(plane)
    assert not gray[np.isnan(plane)].any()
    values = plane[finite].astype(np.float64)
    order = np.argsort(values, kind="stable")
    assert (np.diff(gray[finite][order].astype(int)) >= 0).all()
    if values.size and values.max() > values.min():
        assert gray[finite].min() == 0
        assert gray[finite].max() == 255
        assert (gray[plane == np.inf] == 255).all()
    else:
        assert not gray[finite].any()
    assert not gray[plane == -np.inf].any()


@quick
@given(planes(("uint8", "uint16", "int16", "float32")), st.integers(1, 3))
def test_scaling_the_values_changes_nothing(plane: np.ndarray, power: int) -> None:
    assume(np.isfinite(plane).all())
    wide = plane.astype(np.float64)
    assume((np.abs(wide) < 1e30).all())
    assume((wide == 0).all() or np.abs(wide[wide != 0]).min() > 1e-30)
    factor = 4.0**power  # a power of two: exact
    difference = to_rgb(wide * factor).astype(int) - to_rgb(wide)
    assert np.abs(difference).max() <= 1


@quick
@given(planes(("int16", "uint16")))
def test_type_does_not_matter(plane: np.ndarray) -> None:
    reference = to_rgb(plane.astype(np.float64)).astype(int)
    for dtype in (plane.dtype, np.int32, np.float32, plane.dtype.newbyteorder()):
        assert np.abs(to_rgb(plane.astype(dtype)) - reference).max() <= 1


@quick
@given(
    npst.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))
)
def test_uint8_rgb_is_not_touched(rgb: np.ndarray) -> None:
    assert np.array_equal(to_rgb(rgb), rgb)
    rgba = np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)])
    assert np.array_equal(to_rgb(rgba), rgb)


# ------------------------------------------------------------ contrast


def test_outliers_do_not_darken_the_rest() -> None:
    plane = gradient(200, 200, np.float32)
    clean = to_rgb(plane).astype(int)
    plane[0, 0], plane[7, 9], plane[99, 3] = 1e9, np.inf, -np.inf
    plane[50, 50] = np.nan
    spoiled = to_rgb(plane).astype(int)
    same = np.ones(plane.shape, bool)
    same[[0, 7, 99, 50], [0, 9, 3, 50]] = False
    assert np.abs(clean - spoiled)[same].max() <= 2
    assert (spoiled[0, 0] == 255).all()
    assert (spoiled[7, 9] == 255).all()
    assert (spoiled[99, 3] == 0).all()
    assert (spoiled[50, 50] == 0).all()


def test_percentiles_are_those_of_numpy() -> None:
    plane = np.random.default_rng(0).normal(size=(100, 100))
    low, high = np.percentile(plane, (10, 90))
    expected = np.rint(np.clip((plane - low) / (high - low) * 255, 0, 255))
    found = to_rgb(plane, percentiles=(10, 90))[..., 0]
    assert np.abs(found - expected).max() <= 1


@settings(deadline=None)
@given(
    npst.arrays(
        st.sampled_from([np.uint8, np.int8, np.uint16, np.int16]),
        npst.array_shapes(min_dims=2, max_dims=2, max_side=12),
    ),
    st.tuples(st.floats(0, 100), st.floats(0, 100)),
)
def test_percentiles_of_small_integers_are_those_of_numpy(
    plane: np.ndarray, percentiles: tuple[float, float]
) -> None:
    low, high = np.percentile(plane.astype(float), percentiles)
    assume(high > low)
    scaled = (plane.astype(float) - low) * (255 / (high - low))
    assume((np.abs(scaled % 1 - 0.5) > 1e-6).all())  # rounding up or down is open
    found = to_rgb(plane, percentiles=percentiles)[..., 0]
    np.testing.assert_array_equal(found, np.rint(np.clip(scaled, 0, 255)))


def test_percentiles_beyond_0_and_100_are_refused() -> None:
    for dtype in (np.uint8, np.float32):
        with pytest.raises(ValueError, match="ercentile"):
            to_rgb(gradient(9, 9, dtype), percentiles=(-1, 99))


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 1), (5, 30, 40), (30, 40, 3)])
def test_gray_stays_gray_until_colours_are_asked_for(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 5000, shape, np.uint16)
    plane = to_eight_bits(image)
    assert plane.shape == (30, 40, 3 if shape[-1] == 3 else 1)
    np.testing.assert_array_equal(as_rgb(plane), to_rgb(image))


def test_a_few_bright_pixels_on_black_are_seen() -> None:
    plane = np.zeros((100, 100), np.uint16)
    plane[5, 5] = 3  # beyond both percentiles
    rgb = to_rgb(plane)
    assert (rgb[5, 5] == 255).all()
    assert not rgb[plane == 0].any()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
@pytest.mark.parametrize("value", [0, 1, 100])
def test_constant_planes_are_black(dtype: str, value: int) -> None:
    assert not to_rgb(np.full((5, 6), value, dtype)).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_planes_without_a_number_are_made(value: float) -> None:
    assert to_rgb(np.full((5, 6), value)).shape == (5, 6, 3)


def test_booleans_are_black_and_white() -> None:
    plane = np.eye(6, dtype=bool)
    for view in (plane, plane[::2], plane.T):
        assert np.array_equal(to_rgb(view)[..., 1], view * np.uint8(255))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_contrast_limits_replace_the_percentiles(dtype: str) -> None:
    plane = np.array([[0, 50, 100, 120]], dtype)
    assert to_rgb(plane, contrast_limits=(50, 100))[0, :, 0].tolist() == [
        0,
        0,
        255,
        255,
    ]
    rgb = np.dstack([plane] * 3)
    found = to_rgb(rgb, contrast_limits=(50, 100))
    assert found[0, :, 2].tolist() == [0, 0, 255, 255]
    assert not to_rgb(plane, contrast_limits=(100, 100)).any()


def test_very_close_contrast_limits_give_a_step() -> None:
    plane = np.array([[0.0, 1.0, 2.0]], np.float32)
    low = 1.0
    gray = to_rgb(plane, contrast_limits=(low, low + 1e-300 + 1e-12))[0, :, 0]
    assert gray.tolist()[0] == 0
    assert gray.tolist()[2] == 255


@pytest.mark.parametrize("limits", [(0, np.nan), (-np.inf, 1)])
def test_contrast_limits_must_be_finite(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        to_rgb(gradient(5, 6), contrast_limits=limits)


def test_colours_of_other_types_keep_their_hue() -> None:
    rgb16 = np.zeros((10, 10, 3), np.uint16)
    rgb16[...] = (1000, 500, 250)
    rgb16[0, 0] = 0
    found = to_rgb(rgb16)[5, 5]
    assert found.tolist() == [255, 128, 64]
    unit = rgb16 / 1000 * 0.5  # float RGB between 0 and 1 is shown as it is
    assert to_rgb(unit)[5, 5].tolist() == [128, 64, 32]


# ------------------------------------------------------------ channels and axes


@quick
@given(st.integers(0, 4), planes(("uint16", "float32")), st.booleans())
def test_channels_first_or_last(
    channel: int, plane: np.ndarray, explicit: bool
) -> None:
    plane = np.tile(plane, (8, 8))  # more pixels than channels
    stack = np.zeros((5, *plane.shape), plane.dtype)
    stack[channel] = plane
    axis = {"channel_axis": 0} if explicit else {}
    assert np.array_equal(to_rgb(stack, channel=channel, **axis), to_rgb(plane))
    axis = {"channel_axis": -1} if explicit else {}
    last = np.moveaxis(stack, 0, -1)
    assert np.array_equal(to_rgb(last, channel=channel, **axis), to_rgb(plane))


def test_the_first_channel_is_the_default() -> None:
    stack = np.stack([gradient(30, 40), gradient(30, 40)[::-1]])
    assert np.array_equal(to_rgb(stack), to_rgb(stack[0]))
    last = np.moveaxis(stack, 0, -1)
    assert np.array_equal(to_rgb(last), to_rgb(stack[0]))
    three = np.stack([*stack, stack[1]])  # three channels first are not colours
    assert np.array_equal(to_rgb(three), to_rgb(stack[0]))


def test_two_or_three_channels_as_colours() -> None:
    planes = [gradient(30, 40), gradient(30, 40)[::-1], gradient(30, 40)[:, ::-1]]
    stack = np.stack([plane * k for k, plane in enumerate(planes, start=1)])
    rgb = to_rgb(stack, channel=(2, 0, 1))
    for colour, index in enumerate((2, 0, 1)):
        assert np.array_equal(rgb[..., colour], to_rgb(planes[index])[..., 0])
    two = to_rgb(stack, channel=[0, 1])
    assert np.array_equal(two[..., 0], rgb[..., 1])
    assert not two[..., 2].any()


def test_one_channel_of_colours() -> None:
    rgb = np.random.default_rng(1).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(to_rgb(rgb, channel=1), to_rgb(rgb[..., 1]))
    assert np.array_equal(to_rgb(rgb, channel=-1), to_rgb(rgb[..., 2]))


@pytest.mark.parametrize(
    "shape",
    [(1, 20, 30), (20, 30, 1), (1, 1, 20, 30), (1, 20, 30, 1), (1, 1, 1, 20, 30)],
)
def test_axes_of_length_one_are_ignored(shape: tuple[int, ...]) -> None:
    plane = gradient(20, 30)
    assert np.array_equal(to_rgb(plane.reshape(shape)), to_rgb(plane))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 500), (1, 500)),
        ((500, 1), (500, 1)),
        ((1, 1), (1, 1)),
        ((1, 500, 3), (1, 500)),
        ((500, 1, 3), (500, 1)),
        ((1, 1, 3), (1, 1)),
        ((1, 1, 4), (1, 1)),
        ((1, 1, 500, 3), (1, 500)),
    ],
)
def test_sides_of_one_pixel(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    image = np.random.default_rng(2).integers(0, 255, shape, dtype=np.uint8)
    rgb = to_rgb(image)
    assert rgb.shape == (*size, 3)
    if shape[-1] in (3, 4):
        assert np.array_equal(rgb, image.reshape(*size, shape[-1])[..., :3])


@pytest.mark.parametrize(
    ("shape", "axis", "size"),
    [
        ((2, 1, 500), 0, (1, 500)),
        ((2, 500, 1), 0, (500, 1)),
        ((1, 500, 2), 2, (1, 500)),
        ((1, 300, 400), 0, (300, 400)),
        ((300, 400, 1), -1, (300, 400)),
        ((1, 500, 4), 0, (500, 4)),
        ((5, 4, 3), 1, (5, 3)),
    ],
)
def test_a_named_channel_axis_decides(
    shape: tuple[int, ...], axis: int, size: tuple[int, int]
) -> None:
    image = np.random.default_rng(2).integers(0, 999, shape, dtype=np.uint16)
    channels = np.moveaxis(image, axis, -1)
    rgb = to_rgb(image, channel=0, channel_axis=axis)
    assert rgb.shape == (*size, 3)
    assert np.array_equal(rgb, to_rgb(channels[..., 0]))


def test_a_side_of_20000_pixels() -> None:
    strip = gradient(3, 20_000)
    assert np.array_equal(to_rgb(strip)[..., 0], to_rgb(strip.T)[..., 0].T)
    assert np.array_equal(to_rgb(np.stack([strip] * 2)), to_rgb(strip))
    tall = np.zeros((20_000, 150), np.uint8)  # sampled for its percentiles
    tall[::2] = 100
    assert set(np.unique(to_rgb(tall))) == {0, 255}


def test_lattice_of_the_percentiles_covers_large_planes() -> None:
    plane = gradient(2500, 2400, np.float32)
    found = to_rgb(plane)[..., 0].astype(int)
    low, high = np.percentile(plane, (0.1, 99.9))
    expected = np.rint(np.clip((plane - low) / (high - low) * 255, 0, 255))
    assert np.abs(found - expected).max() <= 2


# ------------------------------------------------------------ array libraries


@pytest.mark.parametrize("shape", [(30, 40), (3, 30, 40), (30, 40, 3)])
def test_dask_and_zarr(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(3).integers(0, 999, shape, dtype=np.uint16)
    expected = to_rgb(array)
    assert np.array_equal(to_rgb(dask.array.from_array(array, chunks=16)), expected)
    stored = zarr.array(array, chunks=(16,) * len(shape))
    assert np.array_equal(to_rgb(stored), expected)
    assert np.array_equal(to_rgb(array.tolist()), expected)
    assert np.array_equal(to_rgb(np.asfortranarray(array)), expected)
    assert np.array_equal(to_rgb(np.ma.masked_array(array)), expected)


def test_the_result_is_contiguous_and_not_the_input() -> None:
    rgb = np.zeros((5, 6, 4), np.uint8)[:, ::-1]
    found = to_rgb(rgb)
    assert found.flags.c_contiguous
    plane = np.zeros((5, 6), np.uint8)
    to_rgb(plane)[:] = 9
    assert not plane.any()


# ------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((), "two axes"),
        ((5,), "two axes"),
        ((2, 3, 30, 40), "two axes"),
        ((0, 5), "no pixels"),
        ((5, 0), "no pixels"),
        ((5, 5, 0), "no pixels"),
        ((40, 30, 50), "unclear"),
    ],
)
def test_what_is_not_one_plane_is_refused(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        to_rgb(np.zeros(shape))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((5, 5), complex),
        np.array([["a", "b"]]),
        np.array([[None]]),
        np.zeros((5, 5), "datetime64[s]"),
        np.zeros((5, 5), [("r", "u1"), ("g", "u1")]),
        "image.tif",
    ],
)
def test_what_is_not_numbers_is_refused(image: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        to_rgb(image)


@pytest.mark.parametrize("channel", [2, -3, (0, 2), (0, 1, 0, 1), ()])
def test_channels_that_are_not_there(channel: Any) -> None:
    with pytest.raises(ValueError, match="channel"):
        to_rgb(np.zeros((2, 30, 40)), channel=channel)


def test_a_plane_has_no_channels() -> None:
    plane = gradient(5, 6)
    with pytest.raises(ValueError, match="no channels"):
        to_rgb(plane, channel=1)
    assert np.array_equal(to_rgb(plane, channel=0), to_rgb(plane))
    with pytest.raises(ValueError, match="no axis 3"):
        to_rgb(np.zeros((2, 30, 40)), channel_axis=3)
