"""Windows of the frame are inference's own, and labels agree with the image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from napari_tinysam.inference.resize import resize_longest_side
from tinysam_training.data.windows import (
    Window,
    frame_window,
    size_balanced,
    whole_frame,
)
from tinysam_training.labelled_image import LabelledImage

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


def check_padding(window: Window) -> None:
    for part in (np.s_[..., window.height :, :], np.s_[..., window.width :]):
        assert (window.rgb[part] == 0).all()
        assert (window.labels[part] == 0).all()
        assert (window.boundary_distance[part] == 0).all()
        assert (window.centre_distance[part] == 1).all()


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
        frame_window(image, size, 0, 0)


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


def test_arrays_that_cannot_be_written_are_read() -> None:
    image = rectangles(64, 64, (5, 5, 40, 40))
    image.rgb.setflags(write=False)
    image.labels.setflags(write=False)
    whole_frame(image).rgb[:] = 0
    assert (image.rgb.max(axis=2)[6:39, 6:39] == STEP).all()
