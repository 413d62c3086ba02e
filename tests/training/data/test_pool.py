"""Windows of a pool against a plain restatement in numpy: pixels, labels, distances, borders."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tinysam.errors import DataError
from tinysam_training.data import ImageStore
from tinysam_training.data.pool import ImagePool, Place, PoolWindows
from tinysam_training.labelled_image import ImageEntry, LabelledImage


def image_of(
    height: int, width: int, layers: int = 1, seed: int = 0, *, gray: bool = False
) -> LabelledImage:
    """Noise, with rectangles as objects."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((layers, height, width), np.int32)
    for layer in labels:
        for label in range(1, 4):
            y, x = rng.integers(height), rng.integers(width)
            layer[y : y + 9, x : x + 6] = label
    rgb = rng.integers(0, 256, (height, width, 1 if gray else 3), np.uint8)
    if gray:
        rgb = rgb.repeat(3, axis=2)
    return LabelledImage.from_arrays("noise", "set", rgb, labels)


def place_of(
    centre: tuple[float, float] | list[tuple[float, float]],
    scale: float | list[float] = 1.0,
    angle: float | list[float] = 0.0,
    mirrored: bool | list[bool] = False,
    image: int | list[int] = 0,
) -> Place:
    """One window, or several."""
    centres = np.array(centre, np.float64).reshape(-1, 2)

    def each(values: object, dtype: type) -> np.ndarray:
        return np.broadcast_to(np.asarray(values, dtype), len(centres)).copy()

    return Place(
        each(image, np.int64),
        centres,
        each(scale, np.float64),
        each(angle, np.float64),
        each(mirrored, np.bool_),
    )


# ------------------------------------------------------------------- the restatement


def coordinates(place: Place, row: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Where in the image the centres of a window's pixels lie."""
    steps = np.arange(side) + 0.5 - side / 2
    down, across = np.meshgrid(steps, steps, indexing="ij")
    if place.mirrored[row]:
        across = -across
    turn, scale = place.angle[row], place.scale[row]
    y = (np.cos(turn) * down - np.sin(turn) * across) / scale + place.centre[row, 0]
    x = (np.sin(turn) * down + np.cos(turn) * across) / scale + place.centre[row, 1]
    return y, x


def halved(rgb: np.ndarray) -> np.ndarray:
    """Means of four pixels, in whole numbers; a last row or column that is alone counts twice."""
    rows = np.arange(-(-rgb.shape[0] // 2) * 2).clip(max=rgb.shape[0] - 1)
    columns = np.arange(-(-rgb.shape[1] // 2) * 2).clip(max=rgb.shape[1] - 1)
    whole = rgb[rows][:, columns].astype(np.float64)
    sums = whole[::2, ::2] + whole[1::2, ::2] + whole[::2, 1::2] + whole[1::2, 1::2]
    return np.round(sums / 4)


def bilinear(rgb: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Values at continuous places, of pixels whose centres lie at halves."""
    y = (y - 0.5).clip(0, rgb.shape[0] - 1)
    x = (x - 0.5).clip(0, rgb.shape[1] - 1)
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    bottom = (top + 1).clip(max=rgb.shape[0] - 1)
    right = (left + 1).clip(max=rgb.shape[1] - 1)
    down, across = (y - top)[..., None], (x - left)[..., None]
    return (
        rgb[top, left] * (1 - down) * (1 - across)
        + rgb[top, right] * (1 - down) * across
        + rgb[bottom, left] * down * (1 - across)
        + rgb[bottom, right] * down * across
    )


def check(
    images: list[LabelledImage], place: Place, side: int, found: PoolWindows
) -> None:
    """Compare windows with the restatement, but for places where rounding decides."""
    layers = max(len(image.labels) for image in images)
    for row, number in enumerate(place.image):
        image = images[number]
        height, width = image.rgb.shape[:2]
        y, x = coordinates(place, row, side)
        scale, rgb, factor = place.scale[row], image.rgb.astype(np.float64), 1.0
        for power in (0.5, 1.5):
            if scale <= 2.0**-power:
                rgb, factor = halved(rgb), factor / 2
        wanted = bilinear(rgb, factor * y, factor * x).transpose(2, 0, 1)
        np.testing.assert_allclose(found.rgb[row], wanted, atol=0.05)

        inside = (y >= 0) & (x >= 0) & (y < height) & (x < width)
        # Pixels of the window whose middle lies on the border of two of the image.
        sure = np.minimum(np.abs(y - np.round(y)), np.abs(x - np.round(x))) > 1e-3
        top = np.floor(y).astype(int).clip(0, height - 1)
        left = np.floor(x).astype(int).clip(0, width - 1)
        np.testing.assert_array_equal(found.inside[row].numpy()[sure], inside[sure])
        for layer in range(layers):
            labels = np.zeros((side, side), np.int32)
            if layer < len(image.labels):
                labels = np.where(inside, image.labels[layer][top, left], 0)
            shown = found.labels[row, layer].numpy()
            np.testing.assert_array_equal(shown[sure], labels[sure])
        for shown, plane, beyond in (
            (found.centre_distance, image.centre_distance, 1),
            (found.boundary_distance, image.boundary_distance, 0),
        ):
            distance = np.where(inside, plane[top, left] / np.float32(255), beyond)
            np.testing.assert_allclose(
                shown[row].numpy()[sure], distance[sure], atol=1e-6
            )


@st.composite
def windows(draw: st.DrawFn) -> tuple[list[LabelledImage], Place, int]:
    """A few images of any shape, and windows anywhere in and beside them."""
    count = draw(st.integers(1, 3))
    images = [
        image_of(
            draw(st.integers(1, 50)),
            draw(st.integers(1, 50)),
            draw(st.integers(1, 2)),
            draw(st.integers(0, 999)),
        )
        for _ in range(count)
    ]
    rows = draw(st.integers(1, 3))

    def some(strategy: st.SearchStrategy) -> list:
        return draw(st.lists(strategy, min_size=rows, max_size=rows))

    place = place_of(
        some(st.tuples(st.floats(-20, 70), st.floats(-20, 70))),
        # Not where two halvings are as near as each other.
        some(st.floats(0.1, 8).filter(lambda s: abs((np.log2(s) % 1) - 0.5) > 1e-3)),
        some(st.floats(-np.pi, np.pi)),
        some(st.booleans()),
        some(st.integers(0, count - 1)),
    )
    return images, place, draw(st.sampled_from([8, 32, 33]))


@settings(max_examples=120, deadline=None)
@given(windows())
def test_windows_are_those_of_the_restatement(
    drawn: tuple[list[LabelledImage], Place, int],
) -> None:
    images, place, side = drawn
    found = ImagePool(images).windows(place, side)
    layers = max(len(image.labels) for image in images)
    assert found.rgb.shape == (len(place.image), 3, side, side)
    assert found.labels.shape == (len(place.image), layers, side, side)
    assert found.rgb.dtype == torch.float32
    assert found.labels.dtype == torch.int32
    assert found.inside.dtype == torch.bool
    check(images, place, side, found)


# ------------------------------------------------------------------------ exactness


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarters", [0, 1, 2, 3, -1])
def test_whole_turns_are_exact(quarters: int, mirrored: bool) -> None:
    image = image_of(32, 32, layers=2)
    place = place_of((16, 16), 1.0, quarters * np.pi / 2, mirrored)
    found = ImagePool([image]).windows(place, 32)

    def turned(planes: np.ndarray) -> np.ndarray:
        result = np.rot90(planes, -quarters, axes=(-2, -1))
        return result[..., ::-1] if mirrored else result

    rgb = image.rgb.transpose(2, 0, 1).astype(np.float32)
    np.testing.assert_array_equal(found.rgb[0], turned(rgb))
    np.testing.assert_array_equal(found.labels[0], turned(image.labels))
    for name in ("centre_distance", "boundary_distance"):
        wanted = turned(getattr(image, name)) / np.float32(255)
        np.testing.assert_array_equal(getattr(found, name)[0], wanted)
    assert found.inside.all()


def test_a_part_at_its_own_scale_is_a_copy() -> None:
    image = image_of(70, 90)
    found = ImagePool([image_of(9, 9), image]).windows(
        place_of((10 + 16, 50 + 16), image=1), 32
    )
    part = np.s_[..., 10:42, 50:82]
    np.testing.assert_array_equal(found.rgb[0], image.rgb.transpose(2, 0, 1)[part])
    np.testing.assert_array_equal(found.labels[0], image.labels[part])


@pytest.mark.parametrize("halving", [1, 2])
def test_a_picture_at_half_its_size_is_the_mean_of_its_pixels(halving: int) -> None:
    image = image_of(64, 64)
    side = 64 >> halving
    found = ImagePool([image]).windows(place_of((32, 32), 0.5**halving), side)
    wanted = image.rgb.astype(np.float64)
    for _ in range(halving):
        wanted = halved(wanted)
    np.testing.assert_array_equal(found.rgb[0], wanted.transpose(2, 0, 1))


@pytest.mark.parametrize("angle", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("scale", [0.3, 0.5, 1.0, 1.7, 2.0, 4.0])
def test_image_and_labels_lie_at_the_same_place(
    scale: float, mirrored: bool, angle: float
) -> None:
    size, middle = 200, (97.0, 104.0)
    y, x = np.mgrid[:size, :size] + 0.5
    disc = np.hypot(y - middle[0], x - middle[1]) < 24
    rgb = np.repeat((200 * disc)[..., None], 3, axis=2).astype(np.uint8)
    image = LabelledImage("disc", "set", rgb, disc[None].astype(np.int32))
    # All places of the window's pixels beside the disc's, evenly.
    phases = (np.mgrid[:8, :8].reshape(2, -1).T + 0.5) / 8
    centres = np.array(middle) + phases / scale
    side = int(16 * np.ceil((60 * max(scale, 1) + 30) / 16))
    found = ImagePool([image]).windows(
        place_of(
            [(float(cy), float(cx)) for cy, cx in centres], scale, angle, mirrored
        ),
        side,
    )
    steps = torch.arange(side) + 0.5 - side / 2

    def centroids(planes: torch.Tensor) -> np.ndarray:
        weight = planes.double()
        total = weight.sum((1, 2))
        down = (weight.sum(2) * steps).sum(1) / total
        across = (weight.sum(1) * steps).sum(1) / total
        return torch.stack([down, across], dim=1).numpy()

    shown = centroids(found.rgb[:, 0])
    labelled = centroids(found.labels[:, 0] > 0)
    # Labels of the nearest pixel scatter about the place where they should be.
    assert np.abs((shown - labelled).mean(axis=0)).max() < 0.05
    dy, dx = scale * (np.array(middle) - centres).T
    wanted = np.stack(
        [
            np.cos(angle) * dy + np.sin(angle) * dx,
            (np.cos(angle) * dx - np.sin(angle) * dy) * (-1 if mirrored else 1),
        ],
        axis=1,
    )
    assert np.abs(shown - wanted).max() < 0.05
    assert np.abs((labelled - wanted).mean(axis=0)).max() < 0.05


# ------------------------------------------------------------------ what there can be


def test_beyond_the_image_its_border_goes_on_and_nothing_is_labelled() -> None:
    image = image_of(20, 30)
    image.labels[:] = 1
    found = ImagePool([image]).windows(place_of((0, 0)), 16)
    assert found.inside[0, 8:, 8:].all()
    assert found.inside.sum() == 64
    beyond = ~found.inside[0]
    assert (found.labels[0, 0][beyond] == 0).all()
    assert (found.centre_distance[0][beyond] == 1).all()
    assert (found.boundary_distance[0][beyond] == 0).all()
    rgb = torch.from_numpy(image.rgb).permute(2, 0, 1).float()
    assert (found.rgb[0, :, :8, :8] == rgb[:, :1, :1]).all()
    assert (found.rgb[0, :, :8, 8:] == rgb[:, :1, :8]).all()


def test_a_second_layer_is_of_those_images_that_have_one() -> None:
    one, two = image_of(16, 16, seed=1), image_of(16, 16, layers=2, seed=2)
    pool = ImagePool([one, two])
    assert pool.layers == 2
    found = pool.windows(place_of([(8, 8)] * 3, image=[1, 0, 1]), 16)
    assert (found.labels[1, 1] == 0).all()
    np.testing.assert_array_equal(found.labels[1, 0], one.labels[0])
    for row in (0, 2):
        np.testing.assert_array_equal(found.labels[row], two.labels)


def test_as_many_objects_as_16_bits_count_and_no_more() -> None:
    most = np.arange(256 * 256, dtype=np.int32).reshape(1, 256, 256)
    rgb = np.zeros((256, 256, 3), np.uint8)
    image = LabelledImage("crowd", "set", rgb, most)
    found = ImagePool([image]).windows(place_of((128, 128)), 256)
    np.testing.assert_array_equal(found.labels[0], most)
    more = LabelledImage("crowd", "set", rgb, most + 1)
    with pytest.raises(DataError, match=r"crowd: .*more than 65,535 objects"):
        ImagePool([more])


def test_no_images_are_a_sentence() -> None:
    with pytest.raises(DataError, match="no images"):
        ImagePool([])


def test_what_is_known_of_an_image() -> None:
    gray, colour = image_of(12, 14, gray=True), image_of(12, 14)
    dark = LabelledImage("d", "other", gray.rgb // 4, gray.labels, complete=False)
    pool = ImagePool([gray, colour, dark])
    assert len(pool) == 3
    assert [image.gray for image in pool.images] == [True, False, True]
    assert [image.complete for image in pool.images] == [True, True, False]
    assert [image.dataset for image in pool.images] == ["set", "set", "other"]
    assert len({image.look for image in pool.images}) == 3
    for known, image in zip(pool.images, (gray, colour, dark), strict=True):
        assert known.size == (12, 14)
        assert known.mean == pytest.approx(image.rgb.mean() / 255)
        np.testing.assert_array_equal(known.boxes, image.boxes)


def test_images_are_not_kept() -> None:
    seen: list[weakref.ref[LabelledImage]] = []

    def read() -> LabelledImage:
        image = image_of(20, 20)
        seen.append(weakref.ref(image))
        return image

    store = ImageStore([ImageEntry("a", "b", True, read, "0")] * 3)
    pool = ImagePool(store.read_once())
    gc.collect()
    assert len(pool) == len(seen) == 3
    assert all(image() is None for image in seen)
    kept = store[0]
    assert next(store.read_once()) is kept  # nor read again where it is at hand


@pytest.mark.gpu
def test_windows_are_the_same_on_a_gpu() -> None:
    images = [image_of(90, 70, seed=1), image_of(40, 50, layers=2, seed=2)]
    place = place_of(
        [(30, 40), (20, 20), (45, 10)], [0.4, 1.3, 3], [0.5, 2, -1], True, [0, 1, 0]
    )
    there = ImagePool(images, "cuda").windows(place, 64)
    assert there.rgb.is_cuda
    check(images, place, 64, PoolWindows(*(tensor.cpu() for tensor in there)))


# ------------------------------------------------------------------------------- bends


def test_no_displacement_is_no_bend() -> None:
    pool = ImagePool([image_of(60, 80)])
    plain = place_of([(30.0, 40.0), (20.0, 30.0)], 1.3, 0.4)
    bent = plain._replace(bend=np.zeros((2, 2, 4, 4)))
    for one, other in zip(pool.windows(plain, 48), pool.windows(bent, 48), strict=True):
        torch.testing.assert_close(one, other)


def test_an_even_displacement_moves_the_window() -> None:
    """In the window's own pixels: turned and scaled with it."""
    pool = ImagePool([image_of(120, 140)])
    bend = np.zeros((1, 2, 4, 4))
    bend[:, 0], bend[:, 1] = 6.0, -4.0
    bent = place_of((60.0, 70.0), 2.0)._replace(bend=bend)
    moved = place_of((63.0, 68.0), 2.0)
    for one, other in zip(pool.windows(bent, 32), pool.windows(moved, 32), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-2)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_image_and_labels_are_bent_alike(seed: int) -> None:
    """Objects painted with their own numbers show where each pixel of the labels comes from."""
    labels = np.repeat(np.arange(1, 25, dtype=np.int32), 4)[None].repeat(96, axis=0)
    painted = (labels * 10).astype(np.uint8)
    image = LabelledImage.from_arrays("stripes", "set", painted, labels[None])
    rng = np.random.default_rng(seed)
    bend = rng.uniform(-2, 2, (1, 2, 4, 4))
    found = ImagePool([image]).windows(place_of((48.0, 48.0))._replace(bend=bend), 64)
    # What is shown in place of each label; images are stretched to all intensities.
    tones = torch.from_numpy(image.rgb[0, ::4, 0].astype(np.float32))
    inside = found.inside[0]
    wanted = tones[found.labels[0, 0][inside].long() - 1]
    away = (found.rgb[0, 0][inside] - wanted).abs()
    # Bilinear between two stripes, nearest for labels.
    assert float(away.max()) <= float(tones.diff().max())
    assert float((away < 0.1).float().mean()) > 0.5
