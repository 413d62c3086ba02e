"""Random changes of training windows: what a microscope, a camera or a user could change.

Geometry (zoom, flips, quarter turns) is the same for image and labels and is drawn by
`tinysam_training.data.windows.sample_window`; intensities change in the image alone and are here.
Every random number comes from a numpy generator that is passed in, none from torch's own: the same
generator state gives the same window, on which exact resuming rests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

Range = tuple[float, float]
Level = Literal["none", "light", "full"]

#: Mean intensity below which an image is taken for one with a dark background.
_DARK = 0.35


@dataclass(frozen=True)
class Augmentation:
    """What is changed at random, how often and how far.

    Probabilities are between 0 and 1; a probability of 0 switches a change off. Intensities are
    meant on a scale from 0 (black) to 1 (white). Lists of two numbers, as YAML gives them, become
    tuples.

    Parameters
    ----------
    zoom : (float, float)
        Scale of a window relative to inference (where an image's longer side has 1024 pixels),
        log-uniform. An image larger than 1024 pixels is also shown up to `zoom` times its own
        resolution, as inference in tiles shows it.
    extent : (float, float), optional
        The zoom is changed so that the longer side of the object in question has at least and at
        most so many pixels of the frame.
    fit_probability : float
        How often a window is zoomed out, within `zoom`, for an object that is too large for it.
    padding_probability : float
        How often a window shows the image's right or lower border with padding behind, where it
        would not have to.
    mirror_probability, turn_probability, free_turn_probability : float
        Left and right exchanged; a turn by 0°, 90°, 180° or 270°; instead a turn by any angle.
    colour_gain_probability, colour_gain
        Gain of each channel, log-uniform. Only in colour images.
    permutation_probability
        The channels exchanged, which turns the hue. Only in colour images.
    gray_probability
        One channel (the more contrast it has the likelier) or a mixture of them as gray image.
    tint_probability
        A gray image shown in one colour, as stains often are. Only where most of it is dark.
    illumination_probability, illumination
        Uneven illumination: largest factor, up or down, of a field as smooth as a 3 × 3 grid.
    blur_probability, blur
        Gaussian blur, σ in pixels, log-uniform.
    defocus_probability, defocus
        Blur by a disc, radius in pixels, uniform.
    poisson_probability, poisson
        Photon noise: its standard deviation at the mean intensity, as share of the image's contrast
        (four standard deviations of its intensities), log-uniform.
    gaussian_probability, gaussian
        Noise of the camera: its standard deviation as share of the image's contrast, log-uniform.
    gamma_probability, gamma
        Exponent, log-uniform.
    gain_probability, gain
        Contrast about the mean intensity, log-uniform.
    offset_probability, offset
        Move of the mean intensity, as share of the room there is to white (up) or black (down).
    inversion_probability
        Dark for bright.

    Raises
    ------
    ValueError
        If a probability is not between 0 and 1 or a range is not one.
    """

    zoom: Range = (0.5, 2.0)
    extent: Range | None = (8.0, 400.0)
    fit_probability: float = 0.75
    padding_probability: float = 0.15
    mirror_probability: float = 0.5
    turn_probability: float = 1.0
    free_turn_probability: float = 0.5

    colour_gain_probability: float = 0.3
    colour_gain: Range = (0.7, 1.3)
    permutation_probability: float = 0.15
    gray_probability: float = 0.25
    tint_probability: float = 0.1

    illumination_probability: float = 0.2
    illumination: Range = (1.1, 1.6)
    blur_probability: float = 0.15
    blur: Range = (0.4, 1.6)
    defocus_probability: float = 0.1
    defocus: Range = (1.0, 3.0)
    poisson_probability: float = 0.15
    poisson: Range = (0.02, 0.12)
    gaussian_probability: float = 0.2
    gaussian: Range = (0.01, 0.1)

    gamma_probability: float = 0.4
    gamma: Range = (0.6, 1.7)
    gain_probability: float = 0.4
    gain: Range = (0.6, 1.5)
    offset_probability: float = 0.3
    offset: Range = (-0.3, 0.3)
    inversion_probability: float = 0.12

    def __post_init__(self) -> None:
        """Make tuples of lists and refuse what cannot be drawn from."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_probability"):
                if not 0 <= value <= 1:
                    raise ValueError(
                        f"{field.name} is between 0 and 1; {value} was given."
                    )
                continue
            if value is None and field.name == "extent":
                continue
            if not isinstance(value, Sequence) or len(value) != 2:
                raise ValueError(
                    f"{field.name} has two numbers, the least and the largest; {value} was given."
                )
            low, high = float(value[0]), float(value[1])
            least = -1.0 if field.name == "offset" else 0.0
            if not least <= low <= high or (field.name != "offset" and low == 0.0):
                raise ValueError(
                    f"{field.name} has the least number first, above {least:g}; "
                    f"{value} was given."
                )
            object.__setattr__(self, field.name, (low, high))

    @property
    def changes_intensities(self) -> bool:
        """Whether `augment_intensities` has anything to do."""
        geometry = {"fit", "mirror", "turn", "free_turn"}
        return any(
            getattr(self, field.name) > 0
            for field in fields(self)
            if field.name.endswith("_probability")
            and field.name.removesuffix("_probability") not in geometry
        )

    @classmethod
    def none(cls) -> Augmentation:
        """Windows as at inference, only cut at random places."""
        off = {
            field.name: 0.0
            for field in fields(cls)
            if field.name.endswith("_probability")
        }
        return cls(zoom=(1.0, 1.0), extent=None, **off)  # type: ignore[arg-type]

    @classmethod
    def light(cls) -> Augmentation:
        """For fine-tuning on a few images that resemble those to be segmented."""
        return cls(
            zoom=(0.7, 1.4),
            padding_probability=0.1,
            colour_gain_probability=0.2,
            colour_gain=(0.85, 1.15),
            permutation_probability=0.0,
            gray_probability=0.05,
            tint_probability=0.0,
            illumination_probability=0.1,
            illumination=(1.1, 1.3),
            blur_probability=0.1,
            blur=(0.4, 1.0),
            defocus_probability=0.0,
            poisson_probability=0.05,
            poisson=(0.02, 0.06),
            gaussian_probability=0.1,
            gaussian=(0.01, 0.05),
            gamma_probability=0.3,
            gamma=(0.8, 1.25),
            gain_probability=0.3,
            gain=(0.8, 1.25),
            offset_probability=0.2,
            offset=(-0.15, 0.15),
            inversion_probability=0.0,
        )

    @classmethod
    def full(cls) -> Augmentation:
        """For models that are to work on all kinds of images: the defaults."""
        return cls()

    @classmethod
    def from_level(cls, level: Level) -> Augmentation:
        """One of `none`, `light` and `full` by its name.

        Raises
        ------
        ValueError
            If there is no such level.
        """
        levels = {"none": cls.none, "light": cls.light, "full": cls.full}
        if level not in levels:
            raise ValueError(
                f"The levels of augmentation are none, light and full; {level!r} is not one."
            )
        return levels[level]()


def augment_intensities(
    rgb: npt.NDArray[np.float32], augmentation: Augmentation, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Change the intensities of an image at random, in the order in which an image comes about.

    Colours first, then optics (illumination, blur), the camera (noise), and last what users do for
    display (gamma, contrast, inversion, tint). A gray image stays gray but for the tint.

    Parameters
    ----------
    rgb : ndarray of float32, (H, W, 3)
        0–255.
    augmentation : Augmentation
        Its settings of geometry are not used.
    rng : numpy Generator

    Returns
    -------
    ndarray of float32, (H, W, 3)
        0–255; a new array.
    """
    planes = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
    changed = augment_planes(
        planes[:1] if is_gray(planes) else planes, augmentation, rng
    )
    full = changed.expand(3, *changed.shape[1:]).numpy()
    # An own value for each channel, also of a gray image: the caller may write to it.
    return np.ascontiguousarray(full.transpose(1, 2, 0))


def augment_planes(
    planes: Tensor, augmentation: Augmentation, rng: np.random.Generator
) -> Tensor:
    """Change intensities as `augment_intensities` does, with a gray image as one plane.

    Gray images are common and take a third of the time so.

    Parameters
    ----------
    planes : Tensor of float32, (3, H, W) or (1, H, W)
        0–255.
    augmentation : Augmentation
    rng : numpy Generator

    Returns
    -------
    Tensor of float32, (3, H, W) or (1, H, W)
        0–255. A colour image may have become gray, or the other way round.
    """
    values = planes.div(255).clamp_(0, 1)
    if len(values) == 3:
        values = _change_colours(values, augmentation, rng)
    values = _change_optics(values, augmentation, rng)
    values = _add_noise(values, augmentation, rng)
    values = _change_display(values, augmentation, rng)
    tinted = rng.random() < augmentation.tint_probability
    if tinted and len(values) == 1 and values.mean() < _DARK:
        values = values * _tint(rng)
    return values.mul(255)


def is_gray(planes: Tensor) -> bool:
    """Whether three planes, (3, H, W), show the same."""
    red, green, blue = planes
    return torch.equal(red, green) and torch.equal(red, blue)


def turn_and_mirror(
    image: Tensor, masks: Tensor, quarter_turns: int, mirror: bool
) -> tuple[Tensor, Tensor]:
    """Turn counter-clockwise, then exchange left and right, an image and all that belongs to it.

    Parameters
    ----------
    image : Tensor, (C, H, W)
    masks : Tensor, (M, H, W)
        Labels, distances: whatever is not to be interpolated.
    quarter_turns : int
    mirror : bool

    Returns
    -------
    image, masks : Tensor
        (…, W, H) after an odd number of quarter turns.
    """
    # torchvision only exchanges axes for these angles; nothing is interpolated.
    angle = 90.0 * (quarter_turns % 4)
    changed: list[Tensor] = []
    for item in (tv_tensors.Image(image), tv_tensors.Mask(masks)):
        if angle:
            item = tv.rotate(item, angle, expand=True)
        if mirror:
            item = tv.horizontal_flip(item)
        changed.append(item.as_subclass(torch.Tensor))
    return changed[0], changed[1]


def log_uniform(rng: np.random.Generator, limits: Range) -> float:
    """Draw a number whose logarithm is evenly distributed between those of `limits`."""
    return math.exp(rng.uniform(math.log(limits[0]), math.log(limits[1])))


def _change_colours(
    values: Tensor, augmentation: Augmentation, rng: np.random.Generator
) -> Tensor:
    """(3, H, W) → (3, H, W), or (1, H, W) where it becomes gray."""
    if rng.random() < augmentation.gray_probability:
        weights = _gray_weights(values, rng)[:, None, None]
        return (weights * values).sum(dim=0, keepdim=True)
    if rng.random() < augmentation.colour_gain_probability:
        gains = [log_uniform(rng, augmentation.colour_gain) for _ in range(3)]
        values = values * torch.tensor(gains)[:, None, None]
    if rng.random() < augmentation.permutation_probability:
        values = tv.permute_channels(values, rng.permutation(3).tolist())
    return values.clamp(0, 1)


def _gray_weights(values: Tensor, rng: np.random.Generator) -> Tensor:
    """(3,) shares of the channels in a gray image, with sum 1."""
    if rng.random() < 0.5:
        return torch.from_numpy(rng.dirichlet([2.0, 2.0, 2.0])).float()
    # A channel without contrast would show none of the objects.
    contrast = values.std(dim=(1, 2), correction=0).double().numpy() + 1e-9
    channel = int(rng.choice(3, p=contrast / contrast.sum()))
    return torch.eye(3)[channel]


def _change_optics(
    values: Tensor, augmentation: Augmentation, rng: np.random.Generator
) -> Tensor:
    height, width = values.shape[1:]
    if rng.random() < augmentation.blur_probability:
        sigma = log_uniform(rng, augmentation.blur)
        radius = math.ceil(3 * sigma)
        # Reflection at the border needs as many pixels as the kernel reaches over it.
        reach_y, reach_x = min(radius, height - 1), min(radius, width - 1)
        for size in ((1, 2 * reach_y + 1), (2 * reach_x + 1, 1)):
            values = tv.gaussian_blur(values, list(size), [sigma, sigma])
    if rng.random() < augmentation.defocus_probability:
        kernel = _disc(rng.uniform(*augmentation.defocus))
        reach = kernel.shape[-1] // 2
        if reach < min(height, width):
            padded = tv.pad(values, [reach], padding_mode="reflect")
            values = torch.nn.functional.conv2d(padded[:, None], kernel)[:, 0]
    if rng.random() < augmentation.illumination_probability:
        field = tv.resize(
            torch.from_numpy(rng.uniform(-1, 1, (1, 3, 3)).astype(np.float32)),
            [height, width],
            interpolation=InterpolationMode.BICUBIC,
            antialias=False,
        )
        largest = math.log(log_uniform(rng, augmentation.illumination))
        values = values * (field * (largest / field.abs().max())).exp()
    return values.clamp(0, 1)


def _disc(radius: float) -> Tensor:
    """(1, 1, k, k) kernel of sum 1; pixels that the edge crosses count by about their share."""
    reach = math.ceil(radius + 0.5) - 1 if radius > 0.5 else 0
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    distance = torch.hypot(offsets[:, None], offsets[None, :])
    kernel = (radius + 0.5 - distance).clamp(0, 1)
    return (kernel / kernel.sum())[None, None]


def _add_noise(
    values: Tensor, augmentation: Augmentation, rng: np.random.Generator
) -> Tensor:
    """Noise in proportion to the contrast: a dim image is not drowned, a bright one not spared."""
    if rng.random() < augmentation.poisson_probability:
        deviation = log_uniform(rng, augmentation.poisson) * _contrast(values)
        # photons at white, so that their noise at the mean intensity is `deviation`
        photons = max(float(values.mean()), 1e-3) / deviation**2
        # Normal noise on the square root (Bartlett 1936) has Poisson's mean λ and, but for 1/8, its
        # variance λ, at a sixth of the time.
        root = (values * photons).sqrt_().add_(_normal(values, rng), alpha=0.5)
        values = root.square_().sub_(0.25).div_(photons).clamp_(0, 1)
    if rng.random() < augmentation.gaussian_probability:
        deviation = log_uniform(rng, augmentation.gaussian) * _contrast(values)
        values = values.add(_normal(values, rng), alpha=deviation).clamp_(0, 1)
    return values


def _contrast(values: Tensor) -> float:
    """Range of the intensities, but for outliers: four standard deviations, 0.02–1."""
    return min(max(4 * float(values.std(correction=0)), 0.02), 1.0)


def _normal(values: Tensor, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal(values.shape, dtype=np.float32))


def _change_display(
    values: Tensor, augmentation: Augmentation, rng: np.random.Generator
) -> Tensor:
    if rng.random() < augmentation.gamma_probability:
        # `values` are clamped before: a negative one under an exponent would be NaN.
        values = tv.adjust_gamma(values, log_uniform(rng, augmentation.gamma))
    if rng.random() < augmentation.gain_probability:
        mean = values.mean()
        values = (values - mean) * log_uniform(rng, augmentation.gain) + mean
    if rng.random() < augmentation.offset_probability:
        share, mean = rng.uniform(*augmentation.offset), values.mean()
        values = values + share * (1 - mean if share > 0 else mean)
    if rng.random() < augmentation.inversion_probability:
        values = 1 - values
    return values.clamp(0, 1)


def _tint(rng: np.random.Generator) -> Tensor:
    """(3, 1, 1) colour of full brightness; one to two channels are dark or nearly so."""
    colour = rng.uniform(0, 1, 3) ** 2
    return torch.from_numpy((colour / colour.max()).astype(np.float32))[:, None, None]
