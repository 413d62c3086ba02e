"""Each change does what it says, all of them stay in range, and one generator decides."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tinysam_training.data.augmentation import (
    Augmentation,
    augment_intensities,
    log_uniform,
    turn_and_mirror,
)

NONE = Augmentation.none()


def noise_image(height: int = 40, width: int = 30, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(20, 230, (height, width, 3)).astype(np.float32)


def gray_image(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(values, np.float32)[..., None], 3, axis=2)


def two_levels(size: int = 200) -> np.ndarray:
    """A gray image, its left half 51 (0.2), its right half 204 (0.8)."""
    values = np.full((size, size), 51.0)
    values[:, size // 2 :] = 204
    return gray_image(values)


def changed(rgb: np.ndarray, seed: int = 0, **changes: object) -> np.ndarray:
    """The image under the given changes alone."""
    augmentation = replace(NONE, **changes)  # type: ignore[arg-type]
    return augment_intensities(rgb, augmentation, np.random.default_rng(seed))


# ------------------------------------------------------------------------ settings


def test_settings_go_through_yaml() -> None:
    settings_of = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(Augmentation.light()).items()
    }
    text = yaml.safe_dump(settings_of)
    assert Augmentation(**yaml.safe_load(text)) == Augmentation.light()


@pytest.mark.parametrize(
    "setting",
    [
        {"zoom": (2.0, 1.0)},
        {"zoom": (0.0, 1.0)},
        {"gamma": 1.0},
        {"gain": (1.0, 2.0, 3.0)},
        {"offset": (-2.0, 0.0)},
        {"blur_probability": 1.5},
        {"extent": (-8, 400)},
    ],
)
def test_settings_that_cannot_be_drawn_from_are_refused(setting: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        Augmentation(**setting)


def test_levels_have_names() -> None:
    assert Augmentation.from_level("none") == NONE
    assert Augmentation.from_level("light") == Augmentation.light()
    assert Augmentation.from_level("full") == Augmentation.full() == Augmentation()
    with pytest.raises(ValueError, match="strong"):
        Augmentation.from_level("strong")  # type: ignore[arg-type]


def test_which_levels_change_intensities() -> None:
    assert not NONE.changes_intensities
    assert not replace(
        NONE, turn_probability=1.0, mirror_probability=1.0
    ).changes_intensities
    assert Augmentation.light().changes_intensities
    assert replace(NONE, inversion_probability=0.1).changes_intensities


# ---------------------------------------------------------------------- all together


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    low=st.floats(-50, 300),
    high=st.floats(-50, 300),
    gray=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_any_image_stays_in_range(
    height: int, width: int, low: float, high: float, gray: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shape = (height, width, 1 if gray else 3)
    values = rng.uniform(min(low, high), max(low, high), shape).astype(np.float32)
    rgb = np.repeat(values, 3, axis=2) if gray else values
    before = rgb.copy()
    everything = Augmentation(
        **{key: 1.0 for key in asdict(NONE) if key.endswith("_probability")}
    )
    for augmentation in (everything, Augmentation.full()):
        result = augment_intensities(rgb, augmentation, rng)
        assert result.shape == rgb.shape
        assert result.dtype == np.float32
        assert np.isfinite(result).all()
        assert result.min() >= 0
        assert result.max() <= 255
    np.testing.assert_array_equal(rgb, before)


@pytest.mark.parametrize("rgb", [noise_image(), gray_image(noise_image()[..., 0])])
def test_the_generator_decides_and_nothing_else(rgb: np.ndarray) -> None:
    state = torch.get_rng_state()
    results = []
    for torch_seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed)
            rng = np.random.default_rng(5)
            results.append(
                [augment_intensities(rgb, Augmentation(), rng) for _ in range(8)]
            )
    np.testing.assert_array_equal(results[0], results[1])
    assert len({result.tobytes() for result in results[0]}) > 4
    assert torch.equal(state, torch.get_rng_state())


def test_nothing_is_changed_without_changes() -> None:
    rgb = noise_image()
    np.testing.assert_allclose(changed(rgb), rgb, atol=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_gray_images_stay_gray(seed: int) -> None:
    rgb = gray_image(noise_image()[..., 0])
    everything = {key: 1.0 for key in asdict(NONE) if key.endswith("_probability")}
    result = changed(rgb, seed, **{**everything, "tint_probability": 0.0})
    np.testing.assert_array_equal(result, result[..., :1].repeat(3, axis=2))
    assert not np.allclose(result, rgb, atol=1)


# ------------------------------------------------------------------------- one by one


def test_inversion() -> None:
    rgb = noise_image()
    np.testing.assert_allclose(
        changed(rgb, inversion_probability=1), 255 - rgb, atol=1e-3
    )


def test_gamma() -> None:
    rgb = noise_image()
    np.testing.assert_allclose(
        changed(rgb, gamma_probability=1, gamma=(2, 2)), rgb**2 / 255, rtol=1e-4
    )


def test_gain_stretches_about_the_mean() -> None:
    rgb = noise_image()
    result = changed(rgb, gain_probability=1, gain=(0.5, 0.5))
    np.testing.assert_allclose(result, (rgb + rgb.mean()) / 2, atol=1e-2)


@pytest.mark.parametrize(("share", "sign"), [(0.5, 1), (-0.5, -1)])
def test_offset_takes_a_share_of_the_room(share: float, sign: int) -> None:
    rgb = 100 + 0.2 * noise_image()
    room = 255 - rgb.mean() if sign > 0 else rgb.mean()
    result = changed(rgb, offset_probability=1, offset=(share, share))
    np.testing.assert_allclose(result, rgb + sign * 0.5 * room, atol=1e-2)


def test_permutation_exchanges_channels() -> None:
    rgb = noise_image()
    orders = set()
    for seed in range(20):
        result = changed(rgb, seed, permutation_probability=1)
        order = [
            int(np.abs(rgb - result[..., [c]]).max(axis=(0, 1)).argmin())
            for c in range(3)
        ]
        np.testing.assert_allclose(result, rgb[..., order], atol=1e-3)
        orders.add(tuple(order))
    assert {tuple(sorted(order)) for order in orders} == {(0, 1, 2)}
    assert len(orders) > 3


def test_colour_gain_is_one_factor_a_channel() -> None:
    rgb = 0.5 * noise_image()
    factors = changed(rgb, colour_gain_probability=1, colour_gain=(0.6, 1.6)) / rgb
    assert np.ptp(factors, axis=(0, 1)).max() < 1e-4
    means = factors.mean(axis=(0, 1))
    assert len(set(means.round(3))) == 3
    assert means.min() >= 0.599
    assert means.max() <= 1.601


def test_gray_is_a_mixture_of_channels_that_show_something() -> None:
    rgb = np.zeros((20, 20, 3), np.float32)
    rgb[..., 0] = noise_image(20, 20)[..., 0]  # the other channels are empty
    for seed in range(20):
        result = changed(rgb, seed, gray_probability=1)
        np.testing.assert_array_equal(result, result[..., :1].repeat(3, axis=2))
        share = result[..., 0] / rgb[..., 0]
        assert 0.01 < share.mean() <= 1.0001
        assert np.ptp(share) < 1e-4


def test_tint_colours_dark_gray_images_only() -> None:
    dark = gray_image(0.3 * noise_image()[..., 0])
    result = changed(dark, tint_probability=1)
    factors = (result / dark).mean(axis=(0, 1))
    assert factors.max() == pytest.approx(1, abs=1e-4)
    assert factors.min() < 0.9
    for other in (255 - dark, noise_image()):
        np.testing.assert_allclose(changed(other, tint_probability=1), other, atol=1e-3)


def test_blur_has_the_width_asked_for() -> None:
    values = np.zeros((41, 41))
    values[20, 20] = 255
    result = changed(gray_image(values), blur_probability=1, blur=(1.5, 1.5))[..., 0]
    share = result / result.sum()
    yy, xx = np.mgrid[:41, :41] - 20
    assert result.sum() == pytest.approx(255, rel=1e-3)
    assert (share * yy**2).sum() == pytest.approx(1.5**2, rel=0.03)
    assert (share * xx**2).sum() == pytest.approx(1.5**2, rel=0.03)
    assert (share * xx * yy).sum() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("radius", [1.0, 2.3, 4.0])
def test_defocus_makes_discs_of_points(radius: float) -> None:
    values = np.zeros((21, 21))
    values[10, 10] = 255
    result = changed(
        gray_image(values), defocus_probability=1, defocus=(radius, radius)
    )
    shown = result[..., 0]
    assert shown.sum() == pytest.approx(255, rel=1e-3)
    # Even but for its edge: the area is what the height says.
    assert 255 / shown.max() == pytest.approx(np.pi * radius**2, rel=0.15)
    yy, xx = np.mgrid[:21, :21] - 10
    assert (shown[np.hypot(yy, xx) >= radius + 0.5] == 0).all()


def test_illumination_is_smooth_and_bounded() -> None:
    rgb = gray_image(np.full((60, 80), 100.0))
    for seed in range(5):
        factors = (
            changed(rgb, seed, illumination_probability=1, illumination=(1.5, 1.5))
            / 100
        )[..., 0]
        largest = max(factors.max(), 1 / factors.min())
        assert largest == pytest.approx(1.5, rel=1e-3)
        steps = [np.abs(np.diff(np.log(factors), axis=axis)).max() for axis in (0, 1)]
        assert 0 < max(steps) < 0.06


def test_gaussian_noise_is_a_share_of_the_contrast() -> None:
    rgb = two_levels()
    noise = changed(rgb, gaussian_probability=1, gaussian=(0.05, 0.05)) - rgb
    contrast = min(4 * rgb.std(), 255)
    for half in (noise[:, :100, 0], noise[:, 100:, 0]):
        assert half.std() == pytest.approx(0.05 * contrast, rel=0.05)
        assert half.mean() == pytest.approx(0, abs=0.5)
    np.testing.assert_array_equal(noise[..., 0], noise[..., 1])
    assert np.corrcoef(noise[:, :-1, 0].ravel(), noise[:, 1:, 0].ravel())[
        0, 1
    ] == pytest.approx(0, abs=0.03)


def test_poisson_noise_grows_with_the_root_of_the_intensity() -> None:
    rgb = two_levels()
    noise = (changed(rgb, poisson_probability=1, poisson=(0.05, 0.05)) - rgb)[..., 0]
    dark, bright = noise[:, :100], noise[:, 100:]
    assert dark.mean() == pytest.approx(0, abs=0.5)
    assert bright.mean() == pytest.approx(0, abs=0.5)
    assert bright.std() / dark.std() == pytest.approx(2, rel=0.1)  # √(0.8 / 0.2)
    at_mean = np.sqrt((dark.var() + bright.var()) / 2)
    assert at_mean == pytest.approx(0.05 * min(4 * rgb.std(), 255), rel=0.05)


# -------------------------------------------------------------------------- geometry


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
@pytest.mark.parametrize("mirror", [False, True])
def test_image_and_masks_turn_together(quarter_turns: int, mirror: bool) -> None:
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2**30, (4, 5, 7)).astype(np.int32)
    image = masks[:3].astype(np.float32)
    turned_image, turned_masks = turn_and_mirror(
        torch.from_numpy(image), torch.from_numpy(masks), quarter_turns, mirror
    )
    expected = np.rot90(masks, quarter_turns, axes=(1, 2))
    if mirror:
        expected = expected[..., ::-1]
    np.testing.assert_array_equal(turned_masks, expected)
    np.testing.assert_array_equal(turned_image, expected[:3].astype(np.float32))


def test_log_uniform_is_even_in_the_logarithm() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([log_uniform(rng, (0.25, 4.0)) for _ in range(4000)])
    assert drawn.min() >= 0.25
    assert drawn.max() <= 4
    assert np.mean(drawn < 1) == pytest.approx(0.5, abs=0.04)
    assert np.mean(drawn < 0.5) == pytest.approx(0.25, abs=0.04)
