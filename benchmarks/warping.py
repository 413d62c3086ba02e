"""Real images made into movies by smooth deformation: their truth is known in every frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import imageio.v3 as iio
import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from napari_tinysam.image import to_eight_bits
from tinysam_training.synthetic.volumes import SyntheticStack

if TYPE_CHECKING:
    import numpy.typing as npt

#: Pixels over which neighbouring pixels move alike, as a share of the image's side.
_SMOOTH = 0.08


def warped(
    image: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int32],
    rng: np.random.Generator,
    frames: int,
    step: float,
) -> SyntheticStack:
    """Deform an image more and more.

    Parameters
    ----------
    image : ndarray of uint8, (H, W) or (H, W, 3)
    labels : ndarray of int32, (H, W)
    rng : numpy.random.Generator
    frames : int
        The first shows the image as it is.
    step : float
        Mean movement from frame to frame, in pixels.
    """
    shape = labels.shape
    places = np.stack(np.mgrid[: shape[0], : shape[1]]).astype(np.float64)
    moved = np.zeros_like(places)
    images, truths = [image], [labels]
    field = _field(rng, shape, step)
    for _ in range(frames - 1):
        # Movements change slowly, as those of living cells.
        field = 0.7 * field + 0.3 * _field(rng, shape, step)
        moved += field
        at = places + moved
        channels = [
            map_coordinates(channel, at, order=1, mode="nearest")
            for channel in np.atleast_3d(image).transpose(2, 0, 1)
        ]
        images.append(np.stack(channels, axis=-1).reshape(image.shape))
        truths.append(map_coordinates(labels, at, order=0, mode="constant"))
    return SyntheticStack(np.stack(images), np.stack(truths), {})


def warped_images(
    data: Path, sets: list[str], most: int, frames: int, step: float
) -> Iterator[tuple[str, SyntheticStack]]:
    """Make movies of the first validation images of some sets, or of all."""
    for folder in sorted(data.iterdir()):
        if not (folder / "val").is_dir() or (sets and folder.name not in sets):
            continue
        paths = sorted((folder / "val").glob("*_label.png"))
        for number, path in enumerate(paths[:most]):
            raw = iio.imread(path.with_name(path.name.replace("_label", "")))
            _, labels = np.unique(iio.imread(path), return_inverse=True)
            labels = labels.reshape(raw.shape[:2]).astype(np.int32)
            rng = np.random.default_rng(number)
            movie = warped(to_eight_bits(raw), labels, rng, frames, step)
            yield folder.name, movie


def _field(
    rng: np.random.Generator, shape: tuple[int, int], step: float
) -> npt.NDArray[np.float64]:
    sigma = _SMOOTH * max(shape)
    field = np.stack([gaussian_filter(rng.normal(size=shape), sigma) for _ in range(2)])
    return field * step / np.hypot(*field).mean()
