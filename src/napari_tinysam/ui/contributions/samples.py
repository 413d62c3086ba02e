"""Sample data: microscopy images of scikit-image, and synthetic nuclei with known labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    LayerData = tuple[npt.NDArray[Any], dict[str, Any], str]

# (frames, planes, rows, columns) of the synthetic stack, and the size of its voxels in µm.
SHAPE = (4, 24, 256, 256)
VOXEL_SIZE_UM = (1.0, 0.4, 0.4)
_NUMBER_OF_NUCLEI = 60
# Background and brightest nucleus in photons; standard deviation of the camera's noise.
_BACKGROUND, _BRIGHTEST, _READ_NOISE = 100.0, 900.0, 8.0
# Standard deviation of the microscope's blur; it is worse along the optical axis.
_BLUR_UM = (1.2, 0.4, 0.4)


def nuclei() -> list[LayerData]:
    """Open nuclei of human cells in culture, some dividing (512 × 512, uint8).

    Raises
    ------
    RuntimeError
        If the image is not on this computer and cannot be downloaded.
    """
    from skimage import data

    image = _downloaded(data.human_mitosis)
    return [(image, {"name": "nuclei"}, "image")]


def tissue() -> list[LayerData]:
    """Open a section of colon, immunohistochemistry (512 × 512, RGB). Works offline."""
    from skimage import data

    image = data.immunohistochemistry()
    return [(image, {"name": "tissue", "rgb": True}, "image")]


def cell() -> list[LayerData]:
    """Open one cell, quantitative phase (660 × 550, uint8). Works offline."""
    from skimage import data

    return [(data.cell(), {"name": "cell"}, "image")]


def nuclei_stack() -> list[LayerData]:
    """Open a confocal stack of nuclei (60 × 256 × 256, uint16; 0.29 × 0.26 × 0.26 µm).

    Raises
    ------
    RuntimeError
        If the image is not on this computer and cannot be downloaded.
    """
    from skimage import data

    image = _downloaded(data.cells3d)[:, 1]  # (Z, C, Y, X): membranes, nuclei
    attributes = {
        "name": "nuclei stack",
        "scale": (0.29, 0.26, 0.26),
        "units": ("um", "um", "um"),
        "axis_labels": ("z", "y", "x"),
    }
    return [(image, attributes, "image")]


def synthetic() -> list[LayerData]:
    """Make nuclei that drift over time, and their true labels. Works offline.

    Always the same: an image (T, Z, Y, X) uint16 and labels of the same shape, where a
    nucleus keeps its label over time.
    """
    image, labels = synthetic_nuclei()
    space: dict[str, Any] = {
        "scale": (1.0, *VOXEL_SIZE_UM),
        "units": ("min", "um", "um", "um"),
        "axis_labels": ("t", "z", "y", "x"),
    }
    hidden = {"name": "true labels", "visible": False}
    return [
        (image, {"name": "synthetic nuclei", **space}, "image"),
        (labels, {**hidden, **space}, "labels"),
    ]


def synthetic_nuclei(
    shape: tuple[int, int, int, int] = SHAPE,
    count: int = _NUMBER_OF_NUCLEI,
    seed: int = 0,
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Make a time-lapse of nuclei with known labels, as a microscope would see it.

    Draws textured ellipsoids that do not overlap, blurs them (Gaussian, more along Z), and adds
    photon noise and camera noise.

    Parameters
    ----------
    shape : (int, int, int, int)
        Frames, planes, rows, columns.
    count : int
        Nuclei to place; fewer if they do not fit.
    seed : int
        The same seed gives the same arrays.

    Returns
    -------
    image : numpy.ndarray
        `shape`, uint16.
    labels : numpy.ndarray
        `shape`, uint16: 0 is background; a nucleus has the same label in all frames.
    """
    from scipy import ndimage as ndi

    rng = np.random.default_rng(seed)
    placed = _place_nuclei(rng, shape, count)
    sigma = np.divide(_BLUR_UM, VOXEL_SIZE_UM)
    image = np.empty(shape, np.uint16)
    labels = np.zeros(shape, np.uint16)
    for t in range(shape[0]):
        light = np.zeros(shape[1:], np.float32)
        for label, nucleus in enumerate(placed, start=1):
            window, inside = nucleus.voxels(t, shape[1:])
            inside &= labels[t][window] == 0
            labels[t][window][inside] = label
            light[window][inside] = nucleus.brightness
        # Chromatin: a smooth texture of ± 25 %.
        texture = ndi.gaussian_filter(rng.standard_normal(shape[1:]), sigma * 2)
        light *= 1 + 0.25 * np.clip(texture / texture.std(), -2, 2) / 2
        light = ndi.gaussian_filter(light, sigma)
        photons = rng.poisson(_BACKGROUND + light)
        noise = rng.normal(0, _READ_NOISE, photons.shape)
        image[t] = np.clip(np.rint(photons + noise), 0, None)
    return image, labels


class _Nucleus(NamedTuple):
    """An ellipsoid that moves in a straight line; (z, y, x) in µm."""

    centre: npt.NDArray[np.float64]
    radii: npt.NDArray[np.float64]
    drift: npt.NDArray[np.float64]  # µm a frame
    angle: float  # of its axes in the plane, radians
    brightness: float  # photons

    def voxels(
        self, t: int, shape: tuple[int, ...]
    ) -> tuple[tuple[slice, ...], npt.NDArray[np.bool_]]:
        """Return the window around it at frame `t`, and which voxels of it are inside."""
        size = np.array(VOXEL_SIZE_UM)
        centre = self.centre + t * self.drift
        reach = np.array([self.radii[0], self.radii[1:].max(), self.radii[1:].max()])
        start = np.clip(np.floor((centre - reach) / size), 0, shape).astype(int)
        stop = np.clip(np.ceil((centre + reach) / size) + 1, 0, shape).astype(int)
        window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        z, y, x = (
            np.arange(a, b) * step - middle
            for a, b, step, middle in zip(start, stop, size, centre, strict=True)
        )
        z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        distance = (
            (z / self.radii[0]) ** 2
            + ((cos * y + sin * x) / self.radii[1]) ** 2
            + ((cos * x - sin * y) / self.radii[2]) ** 2
        )
        return window, distance <= 1


def _place_nuclei(
    rng: np.random.Generator, shape: tuple[int, int, int, int], count: int
) -> list[_Nucleus]:
    """Place nuclei at random, clear of one another."""
    frames = np.arange(shape[0])
    placed: list[_Nucleus] = []
    for nucleus in _random_nuclei(rng, shape[1:], attempts=40 * count):
        if len(placed) == count:
            break
        if not any(_may_touch(nucleus, other, frames) for other in placed):
            placed.append(nucleus)
    return placed


def _random_nuclei(
    rng: np.random.Generator, shape: tuple[int, ...], attempts: int
) -> Iterator[_Nucleus]:
    extent = np.array(shape) * VOXEL_SIZE_UM
    for _ in range(attempts):
        yield _Nucleus(
            centre=rng.uniform(0.1, 0.9, 3) * extent,
            radii=rng.uniform((3.0, 3.5, 4.5), (4.5, 5.5, 7.5)),
            drift=rng.normal(0, (0.1, 0.4, 0.4)),
            angle=rng.uniform(0, np.pi),
            brightness=rng.uniform(0.3, 1.0) * _BRIGHTEST,
        )


def _may_touch(a: _Nucleus, b: _Nucleus, frames: npt.NDArray[np.int_]) -> bool:
    """Whether two nuclei come closer, in any frame, than their mean radii."""
    apart = a.centre - b.centre + frames[:, None] * (a.drift - b.drift)  # (T, 3) µm
    nearest = float(np.linalg.norm(apart, axis=1).min())
    return nearest < 1.05 * float(a.radii.mean() + b.radii.mean())


def _downloaded(sample: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Call a function of `skimage.data` that may have to download its image first."""
    try:
        return sample()
    except (OSError, ValueError) as error:  # no network, refused, or a broken file
        raise RuntimeError(
            f'The sample "{sample.__name__}" could not be downloaded from scikit-image. Check '
            "the network connection and try again, or open a TinySAM sample that works offline."
        ) from error
