"""Random changes of intensities, for batches of windows on any device.

An `Augmentation` sets the changes, their probabilities and ranges. Every choice comes from a numpy
generator, one row of numbers per window; the noise itself comes from a torch generator on the
device, seeded by the former. So the same kind of device always makes the same batch, which exact
resuming needs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from tinysam_training.recipe import Augmentation

#: Mean intensity below which an image is assumed to have a dark background.
_DARK = 0.35

#: Straight parts of a curve of tones.
_TONES = 5


def change_intensities(
    values: Tensor,
    settings: Augmentation,
    rng: np.random.Generator,
    *,
    gray: npt.NDArray[np.bool_],
    mean: npt.NDArray[np.floating[Any]],
    scale: npt.NDArray[np.floating[Any]],
) -> Tensor:
    """Change the intensities of windows at random, in the order of image formation.

    Colours first, then optics (illumination, blur, texture), the camera (noise), and last the
    user's display settings (gamma, tone, contrast, inversion). A gray image stays gray, except for
    a tint.

    Parameters
    ----------
    values : Tensor of float32, (B, 3, S, S)
        0–1.
    settings : Augmentation
    rng : numpy Generator
        The number of draws depends on B and the settings alone.
    gray : ndarray of bool, (B,)
        Windows of gray images.
    mean : ndarray of float, (B,)
        Mean intensity of their images, 0–1.
    scale : ndarray of float, (B,)
        Pixels of the window per pixel of the image: noise is enlarged with the image.

    Returns
    -------
    Tensor
        (B, 3, S, S), 0–1.
    """
    draw = _Draw(rng, len(values))
    seed = int(rng.integers(1 << 62))
    values = _colours(values, settings, draw, gray, mean)
    values = _optics(values, settings, draw)
    values = _texture(values, settings, draw)
    generator = torch.Generator(values.device).manual_seed(seed)
    values = _noise(values, settings, draw, gray, scale, generator)
    return _display(values, settings, draw)


class _Draw:
    """Random numbers for B windows."""

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        self.rng, self.count = rng, count

    def chance(self, probability: float) -> npt.NDArray[np.bool_]:
        return self.rng.random(self.count) < probability

    def uniform(self, low: float, high: float, *more: int) -> npt.NDArray[np.float64]:
        return self.rng.uniform(low, high, (self.count, *more))

    def factor(
        self, bounds: tuple[float, float], *more: int
    ) -> npt.NDArray[np.float64]:
        """Log-uniform."""
        low, high = np.log(bounds[0]), np.log(bounds[1])
        return np.exp(self.rng.uniform(low, high, (self.count, *more)))


def _column(numbers: npt.NDArray[Any], like: Tensor) -> Tensor:
    """Reshape (B,) or (B, C) numbers to (B, C or 1, 1, 1)."""
    found = torch.from_numpy(np.ascontiguousarray(numbers, np.float32)).to(like.device)
    return found.view(len(numbers), -1, 1, 1)


def _colours(
    values: Tensor,
    settings: Augmentation,
    draw: _Draw,
    gray: npt.NDArray[np.bool_],
    mean: npt.NDArray[np.floating[Any]],
) -> Tensor:
    """Gain, permutation and mixture of channels, and tints: one 3 × 3 matrix per window."""
    count, rng = draw.count, draw.rng
    matrix = np.broadcast_to(np.eye(3), (count, 3, 3)).copy()
    gain = draw.factor(settings.colour_gain, 3)
    gained = draw.chance(settings.colour_gain_probability) & ~gray
    matrix[gained] *= gain[gained][:, :, None]
    orders = rng.random((count, 3)).argsort(axis=1)
    permuted = draw.chance(settings.permutation_probability) & ~gray
    matrix[permuted] = np.take_along_axis(matrix, orders[:, :, None], axis=1)[permuted]
    weights = rng.dirichlet([1.0, 1.0, 1.0], count)
    mixed = draw.chance(settings.gray_probability) & ~gray
    matrix[mixed] = (weights[:, None, :] @ matrix)[mixed]
    colour = draw.uniform(0, 1, 3) ** 2
    colour /= colour.max(axis=1, keepdims=True)
    tinted = draw.chance(settings.tint_probability) & (gray | mixed) & (mean < _DARK)
    matrix[tinted] *= colour[tinted][:, :, None]
    changed = np.flatnonzero((matrix != np.eye(3)).any(axis=(1, 2)))
    if not changed.size:
        return values
    rows = torch.from_numpy(changed).to(values.device)
    change = torch.from_numpy(matrix[changed].astype(np.float32)).to(values.device)
    found = torch.einsum("bij,bjyx->biyx", change, values[rows]).clamp_(0, 1)
    return values.index_copy(0, rows, found)


def _optics(values: Tensor, settings: Augmentation, draw: _Draw) -> Tensor:
    """Uneven illumination, Gaussian blur, defocus."""
    fields = draw.uniform(-1, 1, 3, 3)
    largest = np.log(draw.factor(settings.illumination))
    lit = np.flatnonzero(draw.chance(settings.illumination_probability))
    if lit.size:
        rows = torch.from_numpy(lit).to(values.device)
        coarse = fields[lit].astype(np.float32)[:, None]
        field = F.interpolate(
            torch.from_numpy(coarse).to(values.device),
            size=values.shape[-2:],
            mode="bicubic",
            align_corners=False,
        )
        field = field / field.abs().amax((2, 3), keepdim=True)
        field = (field * _column(largest[lit], values)).exp()
        values = values.index_copy(0, rows, (values[rows] * field).clamp(0, 1))

    reach = _reach(settings)
    steps = np.arange(-reach, reach + 1)
    away = np.hypot(steps[:, None], steps[None])
    sigma = draw.factor(settings.blur)[:, None, None]
    radius = draw.uniform(*settings.defocus)[:, None, None]
    gaussian = np.exp(-0.5 * (away / sigma) ** 2)
    disc = np.clip(radius + 0.5 - away, 0, 1)
    blurred = draw.chance(settings.blur_probability)
    defocused = draw.chance(settings.defocus_probability)
    kernels = np.where(defocused[:, None, None], disc, gaussian)
    kernels /= kernels.sum(axis=(1, 2), keepdims=True)
    chosen = np.flatnonzero(blurred | defocused)
    if not chosen.size:
        return values
    rows = torch.from_numpy(chosen).to(values.device)
    part = F.pad(values[rows], [reach] * 4, mode="replicate")
    weight = torch.from_numpy(kernels[chosen].astype(np.float32)).to(values.device)
    weight = weight[:, None].repeat_interleave(3, dim=0)  # (3 n, 1, k, k)
    found = F.conv2d(part.flatten(0, 1)[None], weight, groups=len(weight))
    return values.index_copy(0, rows, found.view(len(chosen), *values.shape[1:]))


def _texture(values: Tensor, settings: Augmentation, draw: _Draw) -> Tensor:
    """Add a random filter of the image to it; mean and contrast stay."""
    strength = draw.factor(settings.texture)[:, None, None]
    kernels = draw.rng.standard_normal((draw.count, 3, 3))
    chosen = np.flatnonzero(draw.chance(settings.texture_probability))
    if not chosen.size:
        return values
    # Without a mean the filter leaves even places as they are.
    kernels -= kernels.mean(axis=(1, 2), keepdims=True)
    kernels *= strength / np.linalg.norm(kernels, axis=(1, 2), keepdims=True)
    rows = torch.from_numpy(chosen).to(values.device)
    before = values[rows]
    part = F.pad(before, [1] * 4, mode="replicate")
    weight = torch.from_numpy(kernels[chosen].astype(np.float32)).to(values.device)
    weight = weight[:, None].repeat_interleave(3, dim=0)  # (3 n, 1, 3, 3)
    filtered = F.conv2d(part.flatten(0, 1)[None], weight, groups=len(weight))
    found = before + filtered.view_as(before)
    mean = before.mean((1, 2, 3), keepdim=True)
    contrast = before.std((1, 2, 3), keepdim=True)
    ratio = contrast / found.std((1, 2, 3), keepdim=True).clamp(min=1e-6)
    found = (found - mean) * ratio + mean
    return values.index_copy(0, rows, found.clamp(0, 1))


def _reach(settings: Augmentation) -> int:
    """Largest radius of blurs in pixels, r; their kernels have 2r + 1 pixels a side."""
    reaches = [0.0]
    if settings.blur_probability:
        reaches.append(2.5 * settings.blur[1])
    if settings.defocus_probability:
        reaches.append(settings.defocus[1] + 0.5)
    return math.ceil(max(reaches))


def _noise(
    values: Tensor,
    settings: Augmentation,
    draw: _Draw,
    gray: npt.NDArray[np.bool_],
    scale: npt.NDArray[np.floating[Any]],
    generator: torch.Generator,
) -> Tensor:
    """Photon noise, which grows with the root of the intensity, and camera noise."""
    photons = draw.factor(settings.poisson) * draw.chance(settings.poisson_probability)
    camera = draw.factor(settings.gaussian) * draw.chance(settings.gaussian_probability)
    alike = gray | draw.chance(0.5)  # the same in all channels
    noisy = np.flatnonzero((photons > 0) | (camera > 0))
    if not noisy.size:
        return values
    side = values.shape[-1]
    coarser = np.round(np.log2(np.maximum(scale, 1))).astype(np.int64).clip(0, 2)
    parts = []
    for row in noisy:
        small = side >> coarser[row]
        channels = 1 if alike[row] else 3
        field = torch.randn(
            (1, channels, small, small), generator=generator, device=values.device
        )
        if small != side:
            field = F.interpolate(
                field, size=(side, side), mode="bilinear", align_corners=False
            )
        parts.append(field.expand(1, 3, side, side))
    rows = torch.from_numpy(noisy).to(values.device)
    part = values[rows]
    # In proportion to the contrast, for dim and bright images.
    contrast = (4 * part.std((1, 2, 3), keepdim=True)).clamp(0.02, 1)
    level = part.mean((1, 2, 3), keepdim=True).clamp(min=1e-3)
    variance = _column(camera[noisy] ** 2, values) + _column(
        photons[noisy] ** 2, values
    ) * (part / level)
    part = (part + torch.cat(parts) * variance.sqrt() * contrast).clamp(0, 1)
    return values.index_copy(0, rows, part)


def _display(values: Tensor, settings: Augmentation, draw: _Draw) -> Tensor:
    """Gamma, tone, contrast, brightness, inversion."""

    def where(chosen: npt.NDArray[np.bool_], number: Any, otherwise: float) -> Tensor:
        return _column(np.where(chosen, number, otherwise), values)

    gamma = where(
        draw.chance(settings.gamma_probability), draw.factor(settings.gamma), 1
    )
    gain = where(draw.chance(settings.gain_probability), draw.factor(settings.gain), 1)
    share = where(
        draw.chance(settings.offset_probability), draw.uniform(*settings.offset), 0
    )
    inverted = where(draw.chance(settings.inversion_probability), 1, 0)
    # Clamped first: a negative value with an exponent would give NaN.
    values = _toned(values.clamp(0, 1) ** gamma, settings, draw)
    mean = values.mean((1, 2, 3), keepdim=True)
    room = torch.where(share > 0, 1 - mean, mean)
    values = (values - mean) * gain + mean + share * room
    values = values.clamp(0, 1)
    return values + inverted * (1 - 2 * values)


def _toned(values: Tensor, settings: Augmentation, draw: _Draw) -> Tensor:
    """Map intensities by random increasing curves that keep the darkest and the brightest."""
    slopes = draw.factor(settings.tone, _TONES)
    chosen = np.flatnonzero(draw.chance(settings.tone_probability))
    if not chosen.size:
        return values
    rows = torch.from_numpy(chosen).to(values.device)
    part = values[rows]
    low = part.amin((1, 2, 3), keepdim=True)
    span = (part.amax((1, 2, 3), keepdim=True) - low).clamp(min=1e-6)
    heights = slopes[chosen] / slopes[chosen].sum(axis=1, keepdims=True)
    place = (part - low) / span * _TONES  # 0 … _TONES
    found = torch.zeros_like(part)
    for number in range(_TONES):
        height = _column(heights[:, number], values)
        found += height * (place - number).clamp(0, 1)
    return values.index_copy(0, rows, low + span * found)
