"""Each change does what its name says, all of them stay in range, and one generator decides."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinysam_training.data.intensities import change_intensities
from tinysam_training.recipe import Augmentation

NONE = Augmentation.none()

#: Everything at once, always.
EVERYTHING = Augmentation(
    **{key: 1.0 for key in asdict(NONE) if key.endswith("_probability")}
)


def noise(count: int = 2, side: int = 48, seed: int = 0) -> torch.Tensor:
    """Coloured, 0.1–0.9."""
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(0.1, 0.9, (count, 3, side, side)).astype(np.float32)
    return torch.from_numpy(drawn)


def gray_noise(count: int = 2, side: int = 48, seed: int = 0) -> torch.Tensor:
    return noise(count, side, seed)[:, :1].repeat(1, 3, 1, 1)


def even(level: float, count: int = 1, side: int = 200) -> torch.Tensor:
    return torch.full((count, 3, side, side), level)


def two_levels(low: float, high: float, count: int = 1) -> torch.Tensor:
    """Gray; the left half low, the right half high."""
    values = even(low, count)
    values[..., 100:] = high
    return values


def changed(
    values: torch.Tensor,
    seed: int = 0,
    *,
    gray: bool = False,
    mean: float | None = None,
    scale: float = 1.0,
    **changes: Any,
) -> torch.Tensor:
    """Windows under the given changes alone."""
    count = len(values)
    before = values.clone()
    result = change_intensities(
        values,
        replace(NONE, **changes),
        np.random.default_rng(seed),
        gray=np.full(count, gray),
        mean=values.mean((1, 2, 3)).numpy() if mean is None else np.full(count, mean),
        scale=np.full(count, scale),
    )
    assert torch.equal(values, before)  # a new tensor, or the same one unchanged
    return result


# ---------------------------------------------------------------------- all together


@pytest.mark.parametrize("values", [noise(), gray_noise(), even(0.0), even(1.0)])
def test_nothing_is_changed_without_changes(values: torch.Tensor) -> None:
    torch.testing.assert_close(changed(values), values, rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    low=st.floats(0, 1),
    high=st.floats(0, 1),
    gray=st.booleans(),
    scale=st.floats(0.1, 40),
    seed=st.integers(0, 2**32),
)
@pytest.mark.parametrize("level", ["everything", "full"])
def test_any_window_stays_in_range(
    level: str, low: float, high: float, gray: bool, scale: float, seed: int
) -> None:
    drawn = (gray_noise if gray else noise)(3, 32, seed)
    values = torch.cat(
        [
            low + (high - low) * drawn,
            *(even(v, 1, 32) for v in (0.0, 1.0, low)),
        ]
    )
    result = change_intensities(
        values,
        EVERYTHING if level == "everything" else Augmentation.full(),
        np.random.default_rng(seed),
        gray=np.full(len(values), gray),
        mean=values.mean((1, 2, 3)).numpy(),
        scale=np.full(len(values), scale),
    )
    assert result.shape == values.shape
    assert result.dtype == torch.float32
    assert result.isfinite().all()
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize("seed", range(6))
def test_gray_stays_gray_but_for_a_tint(seed: int) -> None:
    values = gray_noise(4)
    everything = {key: 1.0 for key in asdict(NONE) if key.endswith("_probability")}
    result = changed(
        values, seed, gray=True, mean=0.1, **{**everything, "tint_probability": 0.0}
    )
    torch.testing.assert_close(result, result[:, :1].expand_as(result))
    assert not torch.allclose(result, values, atol=0.01)
    tinted = changed(values, seed, gray=True, mean=0.1, tint_probability=1)
    assert not torch.allclose(tinted, tinted[:, :1].expand_as(tinted), atol=0.01)


def test_the_generator_decides_and_nothing_else() -> None:
    values = noise(6)
    state = torch.get_rng_state()
    found = []
    for torch_seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed)
            found.append(changed(values, 5, **asdict(EVERYTHING)))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], changed(values, 6, **asdict(EVERYTHING)))
    assert torch.equal(state, torch.get_rng_state())


def test_each_window_is_changed_in_its_own_way() -> None:
    values = noise(1).repeat(40, 1, 1, 1)
    result = changed(values, inversion_probability=0.5)
    inverted = (result - (1 - values)).abs().amax((1, 2, 3)) < 1e-5
    as_before = (result - values).abs().amax((1, 2, 3)) < 1e-5
    assert (inverted ^ as_before).all()
    assert 8 <= inverted.sum() <= 32
    for change in (
        *("gamma", "tone", "gaussian", "blur", "texture", "illumination"),
        "colour_gain",
    ):
        result = changed(values[:12], **{f"{change}_probability": 1.0})
        assert len({window.numpy().tobytes() for window in result}) == 12, change


def test_what_one_window_gets_says_nothing_of_the_next() -> None:
    """A change that some of the windows get leaves the other ones' pixels alone."""
    values = noise(24)
    result = changed(
        values,
        blur_probability=0.3,
        gaussian_probability=0.3,
        illumination_probability=0.3,
    )
    alike = (result - values).abs().amax((1, 2, 3)) < 1e-6
    assert 2 <= alike.sum() <= 20


# ------------------------------------------------------------------------- one by one


def test_inversion() -> None:
    values = noise()
    result = changed(values, inversion_probability=1)
    torch.testing.assert_close(result, 1 - values, rtol=0, atol=1e-6)


def test_gamma() -> None:
    values = noise()
    result = changed(values, gamma_probability=1, gamma=(2, 2))
    torch.testing.assert_close(result, values**2, rtol=1e-5, atol=1e-6)


def test_tones_keep_their_order_and_the_ends() -> None:
    values = 0.2 + 0.6 * gray_noise(6)
    result = changed(values, tone_probability=1, tone=(0.2, 5.0))
    curves = set()
    for before, after in zip(values, result, strict=True):
        order = before.flatten().argsort()
        curve = after.flatten()[order]
        assert (curve.diff() >= -1e-6).all()
        ends = before.flatten()[order][[0, -1]]
        torch.testing.assert_close(curve[[0, -1]], ends, rtol=0, atol=1e-5)
        curves.add(round(float(curve[len(curve) // 2]), 3))
    assert len(curves) == 6
    torch.testing.assert_close(
        changed(values, tone_probability=1, tone=(2.0, 2.0)), values, rtol=0, atol=1e-5
    )


def test_gain_stretches_about_the_mean() -> None:
    values = noise()
    mean = values.mean((1, 2, 3), keepdim=True)
    result = changed(values, gain_probability=1, gain=(0.5, 0.5))
    torch.testing.assert_close(result, (values + mean) / 2, rtol=0, atol=1e-5)


@pytest.mark.parametrize("share", [0.5, -0.5])
def test_offset_takes_a_share_of_the_room(share: float) -> None:
    values = 0.4 + 0.2 * noise()
    mean = values.mean((1, 2, 3), keepdim=True)
    room = 1 - mean if share > 0 else mean
    result = changed(values, offset_probability=1, offset=(share, share))
    wanted = (values + share * room).clamp(0, 1)
    torch.testing.assert_close(result, wanted, rtol=0, atol=1e-5)


def test_permutation_exchanges_channels() -> None:
    values = noise(20)
    result = changed(values, permutation_probability=1)
    orders = set()
    for before, after in zip(values, result, strict=True):
        order = [int((before - plane).abs().amax((1, 2)).argmin()) for plane in after]
        torch.testing.assert_close(after, before[order], rtol=0, atol=1e-6)
        orders.add(tuple(order))
    assert {tuple(sorted(order)) for order in orders} == {(0, 1, 2)}
    assert len(orders) > 3


def test_colour_gain_is_one_factor_a_channel() -> None:
    values = 0.5 * noise(8)
    result = changed(values, colour_gain_probability=1, colour_gain=(0.6, 1.6))
    factors = result / values
    assert (factors.amax((2, 3)) - factors.amin((2, 3))).max() < 1e-4
    means = factors.mean((2, 3))
    assert len(set(means.flatten().numpy().round(3))) > 20
    assert means.min() >= 0.599
    assert means.max() <= 1.601


def test_gray_is_a_mixture_of_the_channels() -> None:
    values = noise(16)
    result = changed(values, gray_probability=1)
    torch.testing.assert_close(result, result[:, :1].expand_as(result))
    for before, after in zip(values, result, strict=True):
        shares = torch.linalg.lstsq(
            before.flatten(1).T.double(), after[:1].flatten(1).T.double()
        ).solution
        assert shares.min() > 0
        assert float(shares.sum()) == pytest.approx(1, abs=1e-4)
        mixed = (shares[..., None] * before).sum(0)
        torch.testing.assert_close(mixed.float(), after[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("change", ["colour_gain", "permutation", "gray"])
def test_colours_change_in_colour_images_only(change: str) -> None:
    values = gray_noise(8)
    result = changed(values, gray=True, **{f"{change}_probability": 1.0})
    torch.testing.assert_close(result, values, rtol=0, atol=1e-6)


def test_tint_colours_dark_gray_images_only() -> None:
    dark = 0.3 * gray_noise(12)
    factors = changed(dark, gray=True, tint_probability=1) / dark
    assert (factors.amax((2, 3)) - factors.amin((2, 3))).max() < 1e-4
    means = factors.mean((2, 3))
    torch.testing.assert_close(means.amax(1), torch.ones(12), rtol=0, atol=1e-4)
    assert means.amin(1).median() < 0.5
    for other, gray in ((1 - dark, True), (0.3 * noise(12), False)):
        result = changed(other, gray=gray, tint_probability=1)
        torch.testing.assert_close(result, other, rtol=0, atol=1e-6)


def point(side: int = 41) -> torch.Tensor:
    values = torch.zeros(1, 3, side, side)
    values[..., side // 2, side // 2] = 1
    return values


def test_blur_keeps_the_mean_and_lowers_the_variance() -> None:
    values = noise(4)
    result = changed(values, blur_probability=1, blur=(1.0, 1.0))
    torch.testing.assert_close(
        result.mean((2, 3)), values.mean((2, 3)), rtol=0.02, atol=0
    )
    assert (result.var((2, 3)) < 0.2 * values.var((2, 3))).all()
    torch.testing.assert_close(
        changed(even(0.3), blur_probability=1), even(0.3), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("sigma", [0.7, 1.5, 3.0])
def test_blur_has_the_width_asked_for(sigma: float) -> None:
    result = changed(point(), blur_probability=1, blur=(sigma, sigma))[0, 0].numpy()
    assert result.sum() == pytest.approx(1, rel=1e-4)
    yy, xx = np.mgrid[:41, :41] - 20
    for product, wanted in ((yy**2, sigma**2), (xx**2, sigma**2), (xx * yy, 0)):
        assert (result * product).sum() == pytest.approx(wanted, rel=0.1, abs=1e-3)


@pytest.mark.parametrize("radius", [1.0, 2.3, 3.0, 6.0])
def test_defocus_makes_discs_of_points(radius: float) -> None:
    result = changed(point(), defocus_probability=1, defocus=(radius, radius))[0, 0]
    assert float(result.sum()) == pytest.approx(1, rel=1e-4)
    # Even but for its edge: the area is what the height says.
    assert 1 / float(result.max()) == pytest.approx(np.pi * radius**2, rel=0.15)
    yy, xx = np.mgrid[:41, :41] - 20
    assert (result.numpy()[np.hypot(yy, xx) >= radius + 0.5] == 0).all()


def test_illumination_is_smooth_and_bounded() -> None:
    values = even(0.4, 6, 96)
    result = changed(values, illumination_probability=1, illumination=(1.5, 1.5))
    factors = (result / values)[:, 0]
    largest = torch.maximum(factors.amax((1, 2)), 1 / factors.amin((1, 2)))
    torch.testing.assert_close(largest, torch.full((6,), 1.5), rtol=1e-3, atol=0)
    for axis in (1, 2):
        steps = factors.log().diff(dim=axis).abs()
        assert 0 < steps.max() < 0.06


def test_texture_keeps_mean_contrast_and_what_is_even() -> None:
    values = 0.3 + 0.4 * noise(8)
    result = changed(values, texture_probability=1, texture=(0.5, 0.5))
    assert ((result - values).abs().amax((1, 2, 3)) > 0.02).all()
    for measure in (torch.mean, torch.std):
        torch.testing.assert_close(
            measure(result, (1, 2, 3)), measure(values, (1, 2, 3)), rtol=0.02, atol=0
        )
    torch.testing.assert_close(
        changed(even(0.3), texture_probability=1), even(0.3), rtol=0, atol=1e-5
    )


def test_texture_is_a_filter_of_the_strength_asked_for() -> None:
    """What a point becomes is the filter; its place and the rest stay."""
    filters = []
    for seed in range(8):
        found = changed(
            0.2 + 0.3 * point(), seed, texture_probability=1, texture=(0.3, 0.3)
        )[0, 0]
        level = float(found[0, 0])
        assert float((found - level)[:19].abs().max()) < 1e-6
        near = ((found - level) / (found - level).abs().max())[19:22, 19:22]
        filters.append(near.numpy().round(3).tobytes())
        assert int(found.flatten().argmax()) == 20 * 41 + 20
    assert len(set(filters)) == 8


def test_gaussian_noise_is_a_share_of_the_contrast() -> None:
    found = []
    for values in (two_levels(0.3, 0.7), two_levels(0.4, 0.6), two_levels(0.35, 0.75)):
        difference = (
            changed(values, gray=True, gaussian_probability=1, gaussian=(0.05, 0.05))
            - values
        )[0, 0]
        contrast = 4 * float(values.std())
        for half in (difference[:, :100], difference[:, 100:]):
            assert float(half.std()) == pytest.approx(0.05 * contrast, rel=0.05)
            assert float(half.mean()) == pytest.approx(0, abs=0.002)
        found.append(float(difference.std()))
    assert found[0] == pytest.approx(2 * found[1], rel=0.03)
    assert found[0] == pytest.approx(found[2], rel=0.03)  # however bright it is


def test_poisson_noise_grows_with_the_root_of_the_intensity() -> None:
    values = two_levels(0.2, 0.8)
    difference = (
        changed(values, gray=True, poisson_probability=1, poisson=(0.04, 0.04)) - values
    )[0, 0]
    dark, bright = difference[:, :100], difference[:, 100:]
    assert float(dark.mean()) == pytest.approx(0, abs=0.003)
    assert float(bright.mean()) == pytest.approx(0, abs=0.003)
    assert float(bright.std() / dark.std()) == pytest.approx(2, rel=0.1)  # √(0.8 / 0.2)
    at_mean = float(((dark.var() + bright.var()) / 2).sqrt())
    assert at_mean == pytest.approx(0.04 * min(4 * float(values.std()), 1), rel=0.07)


def neighbours(scale: float) -> float:
    """How much the noise of a pixel says of that of the next."""
    difference = (
        changed(
            even(0.5), gray=True, scale=scale, gaussian_probability=1, gaussian=(1, 1)
        )
        - 0.5
    )[0, 0].numpy()
    return float(
        np.corrcoef(difference[:, :-1].ravel(), difference[:, 1:].ravel())[0, 1]
    )


def test_noise_of_an_enlarged_window_is_enlarged_too() -> None:
    assert neighbours(0.5) == pytest.approx(0, abs=0.03)
    assert neighbours(1.0) == pytest.approx(0, abs=0.03)
    assert 0.4 < neighbours(2.0) < neighbours(4.0) < 1


def test_noise_of_colours_is_sometimes_the_same_in_all() -> None:
    values = even(0.5, 24, 32)
    difference = changed(values, gaussian_probability=1, gaussian=(1, 1)) - values
    alike = (difference - difference[:, :1]).abs().amax((1, 2, 3)) < 1e-6
    assert 4 <= alike.sum() <= 20
    of_gray = changed(values, gray=True, gaussian_probability=1, gaussian=(1, 1))
    torch.testing.assert_close(of_gray, of_gray[:, :1].expand_as(of_gray))


@pytest.mark.gpu
def test_on_a_gpu_too() -> None:
    values = noise(4).cuda()
    found = [
        change_intensities(
            values,
            EVERYTHING,
            np.random.default_rng(0),
            gray=np.zeros(4, bool),
            mean=np.full(4, 0.5),
            scale=np.full(4, 2.0),
        )
        for _ in range(2)
    ]
    assert found[0].is_cuda
    assert torch.equal(found[0], found[1])
