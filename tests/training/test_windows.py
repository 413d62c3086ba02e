"""Windows: image and labels agree whatever the geometry, and frames are inference's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from napari_tinysam.predictor import resize_longest_side
from tinysam_training.data.augmentation import Augmentation
from tinysam_training.data.labelled_image import LabelledImage
from tinysam_training.data.windows import (
    WHOLE,
    Window,
    frame_window,
    sample_window,
    size_balanced,
    whole_frame,
)

NONE = Augmentation.none()

#: Geometry of all kinds, intensities as they are.
GEOMETRY = replace(
    NONE,
    zoom=(0.5, 2.0),
    extent=(8.0, 400.0),
    fit_probability=0.75,
    padding_probability=0.3,
    mirror_probability=0.5,
    turn_probability=0.75,
)

#: Difference in intensity between one label and the next.
STEP = 40


def image_of(labels: np.ndarray, *, complete: bool = True) -> LabelledImage:
    """An image that shows the labels of layer 0 as its intensities."""
    layers = np.asarray(labels, np.int32).reshape(-1, *labels.shape[-2:])
    gray = (layers[0] * STEP).astype(np.uint8)
    rgb = np.repeat(gray[..., None], 3, axis=2)
    return LabelledImage("image", "set", rgb, layers, complete)


def rectangles(
    height: int, width: int, *boxes: tuple[int, int, int, int]
) -> LabelledImage:
    """Objects x0, y0, x1, y1, numbered in their order."""
    labels = np.zeros((height, width), np.int32)
    for number, (x0, y0, x1, y1) in enumerate(boxes, start=1):
        labels[y0:y1, x0:x1] = number
    return image_of(labels)


def extents(mask: np.ndarray) -> tuple[int, int]:
    ys, xs = np.nonzero(mask)
    return int(np.ptp(ys)) + 1, int(np.ptp(xs)) + 1


# -------------------------------------------------------------------- random windows


@settings(max_examples=60, deadline=None)
@given(
    sides=st.tuples(st.integers(40, 120), st.integers(40, 120)),
    corners=st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=5
    ),
    size=st.sampled_from([64, 128, 192]),
    seed=st.integers(0, 2**32),
)
def test_every_object_keeps_its_intensity(
    sides: tuple[int, int], corners: list[tuple[int, int]], size: int, seed: int
) -> None:
    labels = np.zeros(sides, np.int32)
    for number, (y, x) in enumerate(corners, start=1):  # the later over the earlier
        labels[y : y + 30, x : x + 20] = number
    labels = np.searchsorted(np.unique(np.append(0, labels)), labels)
    # Interpolation reaches as far as a pixel of the image is wide in the window.
    reach = int(2 * 1024 / max(sides)) + 2

    window = sample_window(
        image_of(labels), size, np.random.default_rng(seed), GEOMETRY
    )
    shown = window.labels[0, : window.height, : window.width]
    around = {"size": 2 * reach + 1, "mode": "nearest"}
    even = ndi.minimum_filter(shown, **around) == ndi.maximum_filter(shown, **around)
    intensity = window.rgb[:, : window.height, : window.width]
    assert (intensity == np.where(even, STEP * shown, intensity)).all()


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(60, 1600),
    first=st.floats(0.2, 0.4),
    last=st.floats(0.6, 0.8),
    upright=st.booleans(),
    size=st.sampled_from([64, 256]),
    seed=st.integers(0, 2**32),
)
def test_labels_change_where_the_image_does(
    length: int, first: float, last: float, upright: bool, size: int, seed: int
) -> None:
    labels = np.zeros((12, length), np.int32)
    labels[:, int(first * length) : int(last * length)] = 1
    image = image_of(labels.T if upright else labels)
    window = sample_window(image, size, np.random.default_rng(seed), GEOMETRY)
    # At a straight edge, half of the intensity is where the label changes. Beside the border of a
    # reduced window the filter is cut off on one side.
    shown = np.s_[3 : window.height - 3, 3 : window.width - 3]
    intensity, inside = window.rgb[0][shown], window.labels[0][shown] > 0
    tie = np.abs(intensity - STEP / 2) <= 1
    np.testing.assert_array_equal((intensity > STEP / 2)[~tie], inside[~tie])


@settings(max_examples=40, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    layers=st.integers(1, 3),
    size=st.sampled_from([32, 128]),
    seed=st.integers(0, 2**32),
)
def test_any_image_gives_windows(
    sides: tuple[int, int], layers: int, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (layers, *sides)).astype(np.int32)
    image = LabelledImage(
        "any", "noise", rng.integers(1, 256, (*sides, 3), np.uint8), labels, False
    )
    for augmentation in (Augmentation.full(), None):
        window = sample_window(image, size, rng, augmentation)
        assert window.size == size
        assert window.rgb.shape == (3, size, size)
        assert window.labels.shape == (layers, size, size)
        assert window.rgb.dtype == np.float32
        assert window.labels.dtype == np.int32
        assert np.isfinite(window.rgb).all()
        assert (window.dataset, window.complete) == ("noise", False)
        assert 1 <= window.height <= size
        assert 1 <= window.width <= size
        check_padding(window)


def check_padding(window: Window) -> None:
    for part in (np.s_[..., window.height :, :], np.s_[..., window.width :]):
        assert (window.rgb[part] == 0).all()
        assert (window.labels[part] == 0).all()
        assert (window.boundary_distance[part] == 0).all()
        assert (window.centre_distance[part] == 1).all()


def test_the_generator_decides_and_nothing_else() -> None:
    image = rectangles(90, 120, (10, 10, 40, 30), (60, 50, 80, 80))
    state = torch.get_rng_state()
    drawn = []
    for torch_seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed)
            rng = np.random.default_rng([3, 7])
            drawn.append(
                [sample_window(image, 96, rng, Augmentation()) for _ in range(6)]
            )
    for one, other in zip(*drawn, strict=True):
        np.testing.assert_array_equal(one.rgb, other.rgb)
        np.testing.assert_array_equal(one.labels, other.labels)
    assert len({window.rgb.tobytes() for window in drawn[0]}) > 4
    assert torch.equal(state, torch.get_rng_state())


def test_distances_belong_to_the_pixels_of_their_objects() -> None:
    image = rectangles(100, 140, (20, 20, 61, 51), (80, 40, 121, 81))
    rng = np.random.default_rng(0)
    for _ in range(10):
        window = sample_window(image, 256, rng, GEOMETRY)
        inside = window.labels[0] > 0
        assert ((window.boundary_distance > 0) == inside).all()
        assert (window.centre_distance[~inside] == 1).all()
        deep = window.boundary_distance == 1
        if deep.any():
            assert window.centre_distance[deep].max() < 0.5


@pytest.mark.parametrize("augmentation", [None, NONE])
def test_without_augmentation_windows_are_cut_from_the_image(
    augmentation: Augmentation | None,
) -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (40, 1024, 3), np.uint8)  # inference does not resize it
    labels = np.zeros((1, 40, 1024), np.int32)
    labels[0, 10:30, 500:520] = 1
    image = LabelledImage("wide", "set", rgb, labels)
    for _ in range(5):
        window = sample_window(image, 64, rng, augmentation)
        assert (window.height, window.width) == (40, 64)
        shown = window.rgb[:, :40].transpose(1, 2, 0)
        starts = [x for x in range(961) if (rgb[:, x : x + 64] == shown).all()]
        assert len(starts) == 1
        part = labels[0, :, starts[0] : starts[0] + 64]
        np.testing.assert_array_equal(window.labels[0, :40], part)
        assert window.labels.any()


@pytest.mark.parametrize(
    ("sides", "side", "least", "largest"),
    [
        ((32, 2048), 3, 8, 12),  # a speck of 1 to 6 pixels is enlarged
        ((90, 90), 80, 350, 410),  # 450 to 1800 pixels are too large
        ((64, 64), 2, 16, 66),  # the zoom alone, 16 times 0.5 to 2
    ],
)
def test_objects_take_8_to_400_pixels(
    sides: tuple[int, int], side: int, least: int, largest: int
) -> None:
    settings_of = replace(GEOMETRY, padding_probability=0.0, fit_probability=0.0)
    image = rectangles(*sides, (5, 5, 5 + side, 5 + side))
    rng = np.random.default_rng(1)
    seen = []
    for _ in range(12):
        labels = sample_window(image, 512, rng, settings_of).labels[0]
        seen.append(max(extents(labels)))
    assert least <= min(seen)
    assert max(seen) <= largest


def test_the_zoom_is_spread_over_its_range() -> None:
    image = rectangles(128, 128, (50, 50, 60, 60))  # 8 times as large at inference
    settings_of = replace(NONE, zoom=(0.5, 2.0))
    rng = np.random.default_rng(0)
    drawn = np.array(
        [
            max(extents(sample_window(image, 256, rng, settings_of).labels[0])) / 80
            for _ in range(80)
        ]
    )
    whole = drawn[drawn > 0.45]
    assert whole.max() <= 2.05
    assert np.quantile(np.log2(whole), [0.25, 0.5, 0.75]) == pytest.approx(
        [-0.5, 0, 0.5], abs=0.3
    )


def test_large_images_are_shown_at_their_own_resolution_too() -> None:
    image = rectangles(16, 4096, (2000, 2, 2040, 12))
    rng = np.random.default_rng(0)
    scales = [
        max(extents(sample_window(image, 256, rng, GEOMETRY).labels[0])) / 40
        for _ in range(40)
    ]
    assert min(scales) < 0.5  # a quarter is the scale of inference without tiles
    assert 1 < max(scales) <= 2.1


def test_objects_are_mostly_seen_whole_and_everywhere() -> None:
    image = rectangles(200, 256, (100, 80, 110, 90))
    rng = np.random.default_rng(0)
    whole, places = [], []
    for _ in range(100):
        labels = sample_window(image, 128, rng, None).labels[0]
        whole.append(np.count_nonzero(labels) == 40 * 40)
        ys, xs = np.nonzero(labels)
        places.append((ys.mean(), xs.mean()))
    assert WHOLE - 0.12 < np.mean(whole) < 1
    assert (np.min(places, axis=0) < 25).all()
    assert (np.max(places, axis=0) > 103).all()


def test_windows_are_zoomed_out_for_objects_that_are_too_large() -> None:
    image = rectangles(100, 100, (20, 30, 60, 70))  # 410 pixels at inference
    rng = np.random.default_rng(0)
    always = replace(NONE, zoom=(0.4, 1.0), fit_probability=1.0)
    never = replace(always, fit_probability=0.0)
    fitted = [sample_window(image, 256, rng, always) for _ in range(20)]
    assert np.median([max(extents(w.labels[0])) for w in fitted]) <= 0.91 * 256
    cut = [max(extents(sample_window(image, 256, rng, never).labels[0])) for _ in "20"]
    assert max(cut) > 0.91 * 256


def test_padding_is_right_and_below() -> None:
    image = rectangles(100, 100, (40, 40, 50, 50))
    rng = np.random.default_rng(0)
    always = replace(GEOMETRY, padding_probability=1.0)
    windows = [sample_window(image, 96, rng, always) for _ in range(30)]
    for window in windows:
        check_padding(window)
        assert min(window.height, window.width) < 96
        assert min(window.height, window.width) >= 32
    assert any(window.height < 96 for window in windows)
    assert any(window.width < 96 for window in windows)


def test_a_small_image_is_padded_to_the_window() -> None:
    image = rectangles(20, 40, (5, 5, 15, 15))
    settings_of = replace(NONE, zoom=(0.1, 0.1))
    window = sample_window(image, 128, np.random.default_rng(0), settings_of)
    assert (window.height, window.width) == (51, 102)
    assert extents(window.labels[0]) == pytest.approx((25.6, 25.6), abs=1)


def test_objects_of_all_layers_are_chosen() -> None:
    labels = np.zeros((2, 64, 1024), np.int32)
    labels[0, 20:40, 10:40] = 1
    labels[1, 20:40, 900:930] = 1
    rng = np.random.default_rng(0)
    windows = [sample_window(image_of(labels), 64, rng, None) for _ in range(30)]
    seen = [tuple(window.labels.any(axis=(1, 2)).tolist()) for window in windows]
    assert set(seen) == {(True, False), (False, True)}


def test_specks_are_not_chosen_beside_objects() -> None:
    labels = np.zeros((64, 1024), np.int32)
    labels[20:40, 10:40] = 1
    labels[30, 900] = 2
    rng = np.random.default_rng(0)
    windows = [sample_window(image_of(labels), 64, rng, None) for _ in range(20)]
    assert all((window.labels == 1).any() for window in windows)
    speck = image_of(np.where(labels == 2, 1, 0))
    assert sample_window(speck, 64, rng, None).labels.any()


def test_an_image_without_objects_gives_windows_of_all_of_it() -> None:
    rgb = np.zeros((8, 1024, 3), np.uint8)
    rgb[..., 0] = np.arange(1024) // 8
    image = LabelledImage("empty", "set", rgb, np.zeros((1, 8, 1024), np.int32))
    rng = np.random.default_rng(0)
    starts = [sample_window(image, 32, rng, None).rgb[0, 0, 0] for _ in range(30)]
    assert min(starts) < 30
    assert max(starts) > 90
    assert sample_window(image, 32, rng, Augmentation()).labels.sum() == 0


def test_rare_sizes_are_not_drowned() -> None:
    sizes = np.array([20.0] * 1000 + [300.0])
    probabilities = size_balanced(sizes)
    assert probabilities.sum() == pytest.approx(1)
    assert probabilities[-1] == pytest.approx(1 / (1 + np.sqrt(1000)))
    np.testing.assert_allclose(size_balanced(np.array([17, 20, 31])), 1 / 3)
    layers = np.array([0, 0, 0, 0, 1])
    by_layer = size_balanced(np.full(5, 10), layers)
    np.testing.assert_allclose(by_layer, [1 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 3])


@pytest.mark.parametrize("size", [0, 16, 100, 1056])
def test_sizes_that_are_not_possible_are_refused(size: int) -> None:
    image = rectangles(20, 20, (5, 5, 10, 10))
    with pytest.raises(ValueError, match="multiple of 32"):
        sample_window(image, size, np.random.default_rng(0))
    with pytest.raises(ValueError, match="multiple of 32"):
        frame_window(image, size, 0, 0)


# ---------------------------------------------------------------- windows as at inference


@pytest.fixture(scope="module", params=[(60, 90), (1100, 50)])
def photograph(request: pytest.FixtureRequest) -> LabelledImage:
    """Smooth colours, enlarged or reduced at inference, and two layers of labels."""
    rng = np.random.default_rng(0)
    height, width = request.param
    rgb = ndi.gaussian_filter(rng.uniform(-400, 650, (height, width, 3)), (1, 1, 0))
    labels = np.arange(1, height * width + 1).reshape(1, height, width)
    return LabelledImage(
        "photograph",
        "set",
        np.clip(rgb, 0, 255).astype(np.uint8),
        np.concatenate([labels % 7, labels]).astype(np.int32),
    )


def test_whole_frames_are_those_of_inference(photograph: LabelledImage) -> None:
    frame = whole_frame(photograph)
    resized = resize_longest_side(photograph.rgb, 1024)
    height, width = resized.shape[:2]
    assert (frame.height, frame.width, frame.size) == (height, width, 1024)
    np.testing.assert_array_equal(
        frame.rgb[:, :height, :width], resized.transpose(2, 0, 1)
    )
    check_padding(frame)
    # The second layer numbers the pixels: each is taken at its centre.
    y, x = np.divmod(frame.labels[1, :height, :width] - 1, photograph.rgb.shape[1])
    centres = np.mgrid[:height, :width] + 0.5
    for taken, centre, side, original in zip(
        (y, x), centres, (height, width), photograph.rgb.shape, strict=False
    ):
        place = centre * original / side
        assert np.abs(taken + 0.5 - place).max() <= 0.5
    np.testing.assert_array_equal(
        frame.labels[0, :height, :width], frame.labels[1, :height, :width] % 7
    )
    for name in ("boundary_distance", "centre_distance"):
        np.testing.assert_allclose(
            getattr(frame, name)[:height, :width],
            getattr(photograph, name)[y, x] / np.float32(255),
        )


@pytest.mark.parametrize(
    ("size", "top", "left"), [(256, 3, 17), (128, 40, 0), (64, 60, 60), (1024, 0, 0)]
)
def test_frame_windows_are_cut_from_the_whole_frame(
    photograph: LabelledImage, size: int, top: int, left: int
) -> None:
    frame = whole_frame(photograph)
    part = np.s_[..., 16 * top : 16 * top + size, 16 * left : 16 * left + size]
    for given_frame in (frame, None):
        window = frame_window(photograph, size, top, left, given_frame)
        for name in ("rgb", "labels", "boundary_distance", "centre_distance"):
            np.testing.assert_array_equal(
                getattr(window, name), getattr(frame, name)[part]
            )
        assert window.height == min(max(frame.height - 16 * top, 0), size)
        assert window.width == min(max(frame.width - 16 * left, 0), size)
        check_padding(window)


@pytest.mark.parametrize(("top", "left"), [(49, 0), (0, 49), (-1, 0)])
def test_windows_beyond_the_frame_are_refused(top: int, left: int) -> None:
    image = rectangles(20, 20, (5, 5, 10, 10))
    with pytest.raises(ValueError, match="0 to 48"):
        frame_window(image, 256, top, left)


def test_sampled_windows_look_as_inference_would_show_them(
    photograph: LabelledImage,
) -> None:
    """torchvision resizes as Pillow does, up to rounding."""
    frame = whole_frame(photograph)
    window = sample_window(photograph, 1024, np.random.default_rng(0), None)
    assert (window.height, window.width) == (frame.height, frame.width)
    difference = (window.rgb - frame.rgb)[:, : frame.height, : frame.width]
    assert np.abs(difference).max() <= 1
    assert abs(difference.mean()) < 0.01
    np.testing.assert_array_equal(window.labels, frame.labels)


def test_arrays_that_cannot_be_written_are_read() -> None:
    image = rectangles(64, 64, (5, 5, 40, 40))
    image.rgb.setflags(write=False)
    image.labels.setflags(write=False)
    for augmentation in (None, Augmentation()):
        window = sample_window(image, 64, np.random.default_rng(0), augmentation)
        window.rgb[:] = 0
    assert (image.rgb.max(axis=2)[6:39, 6:39] == STEP).all()
