"""Random changes of training windows: as a microscope, a camera or a user could cause them.

Geometry (zoom, turns, mirroring) is the same for image and labels and is drawn by
`tinysam_training.data.window_batches.WindowBatches`; intensities change in the image alone, in
`tinysam_training.data.intensities`.
"""

from __future__ import annotations

from dataclasses import fields, replace

from pydantic.dataclasses import dataclass

from tinysam_training.recipe.values import STRICT, NotNegative, Part, Range, SignedRange


@dataclass(frozen=True, config=STRICT)
class Augmentation:
    """Probabilities and ranges of random changes.

    Probabilities are between 0 and 1; a probability of 0 switches a change off. Intensities are on
    a scale from 0 (black) to 1 (white).

    Parameters
    ----------
    zoom : (float, float)
        Scale of a window relative to inference (where an image's longer side has 1024 pixels),
        log-uniform. An image larger than 1024 pixels is also shown up to `zoom` times its own
        resolution, as inference in tiles shows it.
    extent : (float, float), optional
        Least and greatest length of the window's object, on its longer side, in pixels of the
        frame; the zoom is adjusted to it.
    fit_probability : float
        Probability of zooming out, within `zoom`, if an object is too large for the window.
    mirror_probability, turn_probability, free_turn_probability : float
        Swap left and right; turn by 0°, 90°, 180° or 270°; instead turn by any angle.
    bend_probability, bend
        Bend image and labels by a field as smooth as a 4 × 4 grid: its largest displacement, as
        share of the window's side, log-uniform. Above 0.06 objects could fold.
    outline_probability, outline
        Move the borders of a window's prompted objects out or in, all by as much: at most by this
        many pixels of the image, uniform. Annotators draw wide or tight, and a box says which; the
        targets of the object head stay as they are.
    colour_gain_probability, colour_gain
        Gain of each channel, log-uniform. Only in colour images.
    permutation_probability
        Permute the channels, which turns the hue. Only in colour images.
    gray_probability
        Mix the channels at random to a gray image. Only in colour images.
    tint_probability
        Show a gray image in one colour, like many stains. Only where most of it is dark.
    illumination_probability, illumination
        Uneven illumination: largest factor, up or down, of a field as smooth as a 3 × 3 grid.
    blur_probability, blur
        Gaussian blur, σ in pixels, log-uniform.
    defocus_probability, defocus
        Blur by a disc, radius in pixels, uniform.
    texture_probability, texture
        A random filter of 3 × 3 pixels, which changes textures and edges but not what is where
        (Xu et al., "Robust and Generalizable Visual Representation Learning via Random
        Convolutions", ICLR 2021): its strength, 0 for none, log-uniform.
    poisson_probability, poisson
        Photon noise: its standard deviation at the mean intensity, as share of the image's contrast
        (four standard deviations of its intensities), log-uniform.
    gaussian_probability, gaussian
        Noise of the camera: its standard deviation as share of the image's contrast, log-uniform.
    gamma_probability, gamma
        Exponent, log-uniform.
    tone_probability, tone
        A random increasing curve of five straight parts between the window's darkest and brightest
        value: slopes of the parts relative to each other, log-uniform.
    gain_probability, gain
        Contrast about the mean intensity, log-uniform.
    offset_probability, offset
        Shift of the mean intensity, as share of the distance to white (up) or black (down).
    inversion_probability
        Swap dark and bright.

    Raises
    ------
    ValueError
        If a probability is not between 0 and 1 or a range is invalid.
    """

    zoom: Range = (0.5, 2.0)
    extent: Range | None = (8.0, 400.0)
    fit_probability: Part = 0.75
    mirror_probability: Part = 0.5
    turn_probability: Part = 1.0
    free_turn_probability: Part = 0.5
    bend_probability: Part = 0.3
    bend: Range = (0.005, 0.05)
    outline_probability: Part = 0.0
    outline: NotNegative = 1.0

    colour_gain_probability: Part = 0.3
    colour_gain: Range = (0.7, 1.3)
    permutation_probability: Part = 0.15
    gray_probability: Part = 0.25
    tint_probability: Part = 0.1

    illumination_probability: Part = 0.2
    illumination: Range = (1.1, 1.6)
    blur_probability: Part = 0.15
    blur: Range = (0.4, 1.6)
    defocus_probability: Part = 0.1
    defocus: Range = (1.0, 3.0)
    texture_probability: Part = 0.15
    texture: Range = (0.1, 0.6)
    poisson_probability: Part = 0.15
    poisson: Range = (0.02, 0.12)
    gaussian_probability: Part = 0.2
    gaussian: Range = (0.01, 0.1)

    gamma_probability: Part = 0.4
    gamma: Range = (0.6, 1.7)
    tone_probability: Part = 0.25
    tone: Range = (0.4, 2.5)
    gain_probability: Part = 0.4
    gain: Range = (0.6, 1.5)
    offset_probability: Part = 0.3
    offset: SignedRange = (-0.3, 0.3)
    inversion_probability: Part = 0.12

    @property
    def changes_intensities(self) -> bool:
        """Whether `change_intensities` has anything to do."""
        geometry = {"fit", "mirror", "turn", "free_turn", "bend", "outline"}
        return any(
            getattr(self, field.name) > 0
            for field in fields(self)
            if field.name.endswith("_probability")
            and field.name.removesuffix("_probability") not in geometry
        )

    @classmethod
    def none(cls) -> Augmentation:
        """Return settings for windows as at inference, only cut at random places."""
        off = {
            field.name: 0.0
            for field in fields(cls)
            if field.name.endswith("_probability")
        }
        return cls(zoom=(1.0, 1.0), extent=None, **off)  # type: ignore[arg-type]

    @classmethod
    def light(cls) -> Augmentation:
        """Return settings for fine-tuning on a few images that resemble those to segment."""
        return cls(
            zoom=(0.7, 1.4),
            bend_probability=0.0,
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
            texture_probability=0.0,
            poisson_probability=0.05,
            poisson=(0.02, 0.06),
            gaussian_probability=0.1,
            gaussian=(0.01, 0.05),
            gamma_probability=0.3,
            gamma=(0.8, 1.25),
            tone_probability=0.0,
            gain_probability=0.3,
            gain=(0.8, 1.25),
            offset_probability=0.2,
            offset=(-0.15, 0.15),
            inversion_probability=0.0,
        )

    @classmethod
    def single(cls) -> Augmentation:
        """Return settings for fine-tuning on one image: others differ more in their intensities."""
        return replace(
            cls.full(),
            zoom=(0.7, 1.4),
            bend_probability=0.0,
            permutation_probability=0.0,
            tint_probability=0.0,
            inversion_probability=0.0,
        )

    @classmethod
    def full(cls) -> Augmentation:
        """Return the defaults, for models that should work on all kinds of images."""
        return cls()
