"""From a scene to an image: contrast in transmitted light, defocus, illumination, camera."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy import ndimage as ndi

from tinysam_training.synthetic.draws import happens, log_uniform
from tinysam_training.synthetic.shapes import rod
from tinysam_training.synthetic.textures import enlarged, smooth_noise

FloatArray = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]


def blurred(image: FloatArray, sigma: float) -> FloatArray:
    """Blur with a Gaussian. Wide ones are computed on a coarse grid and look the same.

    Parameters
    ----------
    image : ndarray of float32, (H, W)
    sigma : float
        Pixels.

    Returns
    -------
    ndarray of float32, (H, W)
    """
    if sigma < 0.3:
        return image
    if sigma < 3.0:
        return np.asarray(ndi.gaussian_filter(image, sigma, mode="nearest", truncate=3))
    step = int(sigma / 1.5)
    height, width = image.shape
    border = 2 * step  # the spline needs a knot before the first pixel and two after
    padded = np.pad(
        image,
        (
            (border, border + step - height % step),
            (border, border + step - width % step),
        ),
        mode="edge",
    )
    coarse = padded.reshape(padded.shape[0] // step, step, -1).mean(axis=1)
    coarse = coarse.reshape(coarse.shape[0], -1, step).mean(axis=2)
    # Averaging over the step and the spline also blur: subtract both variances.
    rest = np.sqrt(max(0.01, sigma**2 - step**2 / 12 - step**2 / 3)) / step
    coarse = ndi.gaussian_filter(coarse, rest, mode="nearest", truncate=3)
    # The first pixel lies in block 2, whose middle is half a block after its start.
    start = border - (step - 1) / 2
    return enlarged(
        np.pad(coarse, 1, mode="edge"), (height, width), (step, step), start
    )


def phase_contrast(phase: FloatArray, halo: float, strength: float) -> FloatArray:
    """Show a thin object in positive phase contrast.

    The phase ring also passes low spatial frequencies of the object, so the image shows the phase
    minus its wide mean: dark objects with bright halos, large ones fading inside (shade-off).

    Parameters
    ----------
    phase : ndarray of float32, (H, W)
        Relative to the medium, about 0–1.
    halo : float
        Width of the halo in pixels.
    strength : float
        Share of the low frequencies that pass, about 0.7–1.

    Returns
    -------
    ndarray of float32, (H, W)
        Intensity relative to the empty field, which is 1.
    """
    wide = 0.65 * blurred(phase, halo) + 0.35 * blurred(phase, 3 * halo)
    contrast = np.float32(strength) * wide - phase
    return np.asarray(np.clip(1 + contrast, 0, None))


def bright_field(phase: FloatArray, defocus: float, absorption: float) -> FloatArray:
    """Show a transparent object in bright field, a little out of focus.

    To first order the intensity changes by the curvature of the phase (transport of intensity), so
    outlines appear as a dark and a bright line. Their order depends on the sign of the defocus.

    Parameters
    ----------
    phase : ndarray of float32, (H, W)
        Relative to the medium, about 0–1.
    defocus : float
        Signed; 1 gives full contrast.
    absorption : float
        Share of the light that phase 1 absorbs.

    Returns
    -------
    ndarray of float32, (H, W)
        Intensity relative to the empty field, which is 1.
    """
    width = 1.0 + abs(defocus)
    curvature = blurred(phase, 0.7 * width) - blurred(phase, 1.6 * width)
    seen = 1 - np.float32(1.8 * np.sign(defocus)) * curvature
    seen *= 1 - np.float32(absorption) * blurred(phase, 0.6)
    return np.asarray(np.clip(seen, 0, None))


def interference_contrast(
    phase: FloatArray, angle: float, shear: float, strength: float
) -> FloatArray:
    """Show a transparent object in DIC: a relief, lit from one side.

    Parameters
    ----------
    phase : ndarray of float32, (H, W)
    angle : float
        Direction of the shear to the rows, in radians.
    shear : float
        Pixels.
    strength : float
        Of the relief.

    Returns
    -------
    ndarray of float32, (H, W)
        Intensity relative to the empty field, which is 1.
    """
    smooth = blurred(phase, 0.8)
    # To first order the difference of the sheared images is the slope along the shear.
    step = max(1, round(shear / 2))
    wide = np.pad(smooth, step, mode="edge")
    down = wide[: -2 * step, step:-step] - wide[2 * step :, step:-step]
    across = wide[step:-step, : -2 * step] - wide[step:-step, 2 * step :]
    slope = np.float32(np.sin(angle)) * down + np.float32(np.cos(angle)) * across
    relief = np.float32(strength * shear / (2 * step)) * slope
    return np.asarray(np.clip(1 + relief, 0, None))


def illumination(
    rng: np.random.Generator, shape: tuple[int, int], unevenness: float
) -> FloatArray:
    """Draw uneven light: darker corners, a slope, and soft patches.

    Parameters
    ----------
    rng : numpy Generator
    shape : (int, int)
    unevenness : float
        0 none, 0.1 usual, 0.5 strong.

    Returns
    -------
    ndarray of float32, (H, W)
        About 1, always > 0.
    """
    # A field this smooth needs few points.
    steps = (shape[0] / 24, shape[1] / 24)
    y = np.linspace(-1, 1, 29, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, 29, dtype=np.float32)[None, :]
    cy, cx = rng.normal(0, 0.3, 2)
    light = 1 - np.float32(unevenness * rng.uniform(0, 0.6)) * (
        (y - np.float32(cy)) ** 2 + (x - np.float32(cx)) ** 2
    )
    slope_y, slope_x = rng.normal(0, 0.35 * unevenness, 2)
    light = light * (1 + np.float32(slope_y) * y + np.float32(slope_x) * x)
    if happens(rng, 0.4):
        patches = smooth_noise(rng, (29, 29), 24 / rng.uniform(2, 5))
        light = light * (1 + np.float32(0.12 * unevenness) * patches)
    light = np.asarray(np.clip(light, 0.15, None), np.float32)
    return enlarged(light, shape, steps)


def dust(
    rng: np.random.Generator,
    image: FloatArray,
    specks: int,
    rings: int,
    strength: float,
) -> None:
    """Add dirt as in transmitted light, in place: sharp dark specks, and rings out of focus.

    Parameters
    ----------
    rng : numpy Generator
    image : ndarray of float32, (H, W)
        Multiplied in place.
    specks, rings : int
    strength : float
        Share of the light that they absorb.
    """
    shape = (image.shape[0], image.shape[1])
    unit = max(shape) / 512
    for _ in range(specks):
        radius = log_uniform(rng, 0.5, 2.2) * unit
        patch = rod(
            shape,
            (rng.uniform(0, shape[0]), rng.uniform(0, shape[1])),
            2 * radius * rng.uniform(1, 2),
            2 * radius,
            rng.uniform(0, np.pi),
            margin=5 * radius,
        )
        if patch is not None:
            dark = np.exp(-(np.clip(patch.rho, 0, 3) ** 2))
            ring = np.exp(-(((patch.rho - 1.7) / 0.5) ** 2))
            amount = np.float32(strength * rng.uniform(0.4, 1.3))
            image[patch.rows, patch.cols] *= np.clip(
                1 - amount * (dark - np.float32(0.4) * ring), 0.1, None
            )
    for _ in range(rings):
        radius = log_uniform(rng, 6, 40) * unit
        centre = (rng.uniform(0, shape[0]), rng.uniform(0, shape[1]))
        patch = rod(shape, centre, 2 * radius, 2 * radius, 0.0, margin=radius)
        if patch is not None:
            order = rng.uniform(3, 8)
            wave = np.cos(order * patch.rho) * np.exp(-((patch.rho / 0.9) ** 2))
            amount = np.float32(strength * rng.uniform(0.08, 0.3))
            image[patch.rows, patch.cols] *= 1 + amount * wave


def noisy(
    rng: np.random.Generator, image: FloatArray, photons: float, read_noise: float
) -> FloatArray:
    """Add the noise of counted photons and of the amplifier.

    Parameters
    ----------
    rng : numpy Generator
    image : ndarray of float32
        Intensities, about 0–1.
    photons : float
        Counted at intensity 1.
    read_noise : float
        Standard deviation in units of `image`.

    Returns
    -------
    ndarray of float32
        In the units of `image`; Poisson below 40 photons and its normal limit above.
    """
    grain = rng.standard_normal(image.shape[:2], np.float32)
    if image.ndim == 3:
        # Far enough apart that the repeated noise does not show.
        grain = np.stack(
            [np.roll(grain, (c * 37, c * 61), (0, 1)) for c in range(image.shape[2])],
            axis=-1,
        )
    if photons < 40:
        counts = rng.poisson(np.clip(image, 0, None) * photons).astype(np.float32)
        return np.asarray(counts / np.float32(photons) + np.float32(read_noise) * grain)
    variance = np.clip(image, 0, None) * np.float32(1 / photons)
    variance += np.float32(read_noise**2)
    grain *= np.sqrt(variance)
    return np.asarray(image + grain)


def block_artefacts(image: FloatArray, quality: float) -> FloatArray:
    """Quantize the cosine transform of 8 × 8 blocks coarsely, as compression does.

    Parameters
    ----------
    image : ndarray of float32, (H, W)
        Values 0–255.
    quality : float
        0 poor, 1 good.

    Returns
    -------
    ndarray of float32, (H, W)
    """
    height, width = image.shape
    padded = np.pad(image, ((0, -height % 8), (0, -width % 8)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 8, 8, -1, 8)
    waves = fft.dctn(blocks, axes=(1, 3), norm="ortho")
    order = np.add.outer(np.arange(8), np.arange(8)).astype(np.float32)
    # Fine detail is quantized more coarsely.
    step = (4 + order**1.5) * np.float32(1 + 4 * (1 - quality))
    step = step[None, :, None, :]
    waves = np.rint(waves / step) * step
    back = fft.idctn(waves, axes=(1, 3), norm="ortho").reshape(padded.shape)
    return np.asarray(back[:height, :width], np.float32)


def _in_planes(
    change: Callable[[FloatArray], FloatArray], image: FloatArray
) -> FloatArray:
    """Apply a function of a plane to an image, or to each of its channels."""
    if image.ndim == 2:
        return change(image)
    return np.stack([change(image[..., c]) for c in range(image.shape[2])], axis=-1)


def photograph(
    rng: np.random.Generator,
    image: FloatArray,
    *,
    photons: tuple[float, float] = (60, 4000),
    read_noise: tuple[float, float] = (0.002, 0.02),
    blur: tuple[float, float] = (0.3, 1.0),
    invert: float = 0.0,
    deep: float = 0.3,
) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Take a picture: blur, noise, sometimes compression, 8 or 16 bits.

    Parameters
    ----------
    rng : numpy Generator
    image : ndarray of float32, (H, W) or (H, W, 3)
        Intensities ≥ 0, about 0–1. Colours become 8-bit without a change of their levels.
    photons, read_noise, blur : (float, float)
        Ranges: photons at intensity 1, noise in units of the intensity, σ in pixels.
    invert : float
        Probability of a negative.
    deep : float
        Probability of 16 bits, for gray images.

    Returns
    -------
    ndarray of uint8 or uint16, of the same shape
    """
    sigma = rng.uniform(*blur)
    image = _in_planes(lambda plane: blurred(plane, sigma), image)
    image = noisy(rng, image, log_uniform(rng, *photons), log_uniform(rng, *read_noise))
    if happens(rng, 0.15):  # a resampled image: its noise is smooth
        soft = rng.uniform(0.4, 0.9)
        image = _in_planes(lambda plane: blurred(plane, soft), image)
    if happens(rng, invert):
        image = np.float32(max(1.0, float(image[::4, ::4].max()))) - image
    if image.ndim == 3:
        levels = np.clip(image, 0, 1) * np.float32(255)
    elif happens(rng, deep):
        image = image + np.float32(log_uniform(rng, 0.01, 0.3))  # the camera's offset
        gain = log_uniform(rng, 400, 20000)
        return np.asarray(np.clip(image * np.float32(gain), 0, 65535), np.uint16)
    else:
        top = float(np.quantile(image[::5, ::5], 0.999))
        # Many 8-bit images use only a part of their levels.
        used = 255.0 if happens(rng, 0.6) else log_uniform(rng, 60, 255)
        levels = image * np.float32(used / max(top, 1e-3))
    if happens(rng, 0.15):
        quality = rng.uniform(0, 1)
        levels = _in_planes(lambda plane: block_artefacts(plane, quality), levels)
    return np.asarray(np.clip(np.rint(levels), 0, 255), np.uint8)
