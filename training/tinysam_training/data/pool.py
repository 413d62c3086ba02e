"""All training images on the training device, with batched cutting of windows.

Images and labels lie one after the other in flat tensors, four bytes per pixel. So a few operations
read a batch of windows from many images, at any place, scale and angle: on a GPU without waiting
for the CPU, on a CPU by the same code without worker processes.

Coordinates are continuous: pixel (0, 0) covers [0, 1) in both directions, in images and in windows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from napari_tinysam.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from tinysam_training.labelled_image import LabelledImage

#: Images are kept at full size and halved up to this many times, for windows at smaller scales.
HALVINGS = 2

#: Labels have 16 bits; the two distances use the others.
_MOST_OBJECTS = 65_535


class Place(NamedTuple):
    """Places of B windows.

    Attributes
    ----------
    image : ndarray of int, (B,)
        Number in the pool.
    centre : ndarray of float, (B, 2)
        y and x of the window's middle, in pixels of the image.
    scale : ndarray of float, (B,)
        Pixels of the window per pixel of the image.
    angle : ndarray of float, (B,)
        Radians; rotation of the window against the image.
    mirrored : ndarray of bool, (B,)
        Whether left and right are swapped in the window.
    bend : ndarray of float, (B, 2, g, g), optional
        Displacements in y and x at the points of a coarse grid over the window, in its pixels:
        where a pixel is read instead, bicubic in between.
    """

    image: npt.NDArray[np.int64]
    centre: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    angle: npt.NDArray[np.float64]
    mirrored: npt.NDArray[np.bool_]
    bend: npt.NDArray[np.float64] | None = None


class PoolWindows(NamedTuple):
    """B windows of S × S pixels, from `ImagePool.windows`.

    Attributes
    ----------
    rgb : Tensor of float32, (B, 3, S, S)
        0–255, bilinear; pixels beyond the image repeat its border.
    labels : Tensor of int32, (B, L, S, S)
        Of the nearest pixel, with gaps in the numbers; 0 beyond the image.
    centre_distance, boundary_distance : Tensor of float32, (B, S, S)
        0–1, of the whole objects of layer 0, even where the window cuts them; 1 and 0 beyond the
        image.
    inside : Tensor of bool, (B, S, S)
        Whether the pixel shows the image.
    """

    rgb: Tensor
    labels: Tensor
    centre_distance: Tensor
    boundary_distance: Tensor
    inside: Tensor


@dataclass(frozen=True, eq=False)
class PooledImage:
    """The properties of an image, without its pixels.

    Attributes
    ----------
    dataset : str
        The set it belongs to.
    size : (int, int)
        Height and width.
    boxes : ndarray of int, (N, 5)
        As in `LabelledImage.boxes`.
    complete : bool
    gray : bool
        Whether its channels are equal.
    mean : float
        Mean intensity, 0–1.
    """

    dataset: str
    size: tuple[int, int]
    boxes: npt.NDArray[np.int64]
    complete: bool
    gray: bool
    mean: float

    @property
    def look(self) -> tuple[bool, bool]:
        """Coarse kind of image: gray or coloured, dark or bright."""
        return self.gray, self.mean < 0.4


class ImagePool:
    """Labelled images, ready for cutting windows.

    Parameters
    ----------
    images : iterable of LabelledImage
        Read one at a time; at least one.
    device : torch.device or str
        Holds the images: 9.3 bytes per pixel, and 4 more with a second layer of labels.

    Raises
    ------
    DataError
        If there are no images, or one has more than 65,535 objects in a layer.
    """

    def __init__(
        self, images: Iterable[LabelledImage], device: torch.device | str = "cpu"
    ) -> None:
        self.images: list[PooledImage] = []
        pixels, targets = _Row(), _Row()
        # By image: the start of each halving and each layer, and the halvings' sizes.
        self._levels: list[list[tuple[int, int, int]]] = []
        self._layers: list[list[int]] = []
        for image in images:
            if image.labels.max(initial=0) > _MOST_OBJECTS:
                raise DataError(
                    f"{image.name}: a layer has more than {_MOST_OBJECTS:,} objects."
                )
            rgb, levels = image.rgb, []
            for halving in range(HALVINGS + 1):
                rgb = _halved(rgb) if halving else rgb
                start = pixels.add(_packed_pixels(rgb))
                levels.append((start, rgb.shape[0], rgb.shape[1]))
            layers = []
            for number, labels in enumerate(image.labels):
                distances = None
                if number == 0:
                    distances = (image.centre_distance, image.boundary_distance)
                layers.append(targets.add(_packed_targets(labels, distances)))
            self._levels.append(levels)
            self._layers.append(layers)
            first, second, third = (image.rgb[..., channel] for channel in range(3))
            self.images.append(
                PooledImage(
                    image.dataset,
                    (image.rgb.shape[0], image.rgb.shape[1]),
                    image.boxes,
                    image.complete,
                    bool((first == second).all() and (second == third).all()),
                    float(image.rgb.mean() / 255),
                )
            )
        if not self.images:
            raise DataError("There are no images to train on.")
        self.device = torch.device(device)
        self._pixels = pixels.tensor().to(self.device)
        self._targets = targets.tensor().to(self.device)
        self.layers = max(map(len, self._layers))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def windows(self, place: Place, side: int) -> PoolWindows:
        """Cut windows.

        Parameters
        ----------
        place : Place
            Of B windows.
        side : int
            S, in pixels.

        Returns
        -------
        PoolWindows
            On the pool's device.
        """
        y, x = self._coordinates(place, side)  # (B, S, S) each
        size = self._rows([self.images[i].size for i in place.image])
        height, width = size[:, 0, None, None], size[:, 1, None, None]
        inside = (y >= 0) & (x >= 0) & (y < height) & (x < width)
        row = y.floor().long().clamp_(min=0).minimum(height - 1)
        column = x.floor().long().clamp_(min=0).minimum(width - 1)
        nearest = row * width + column
        layers, centre, boundary = [], None, None
        for layer in range(self.layers):
            starts = [(*self._layers[i], *[-1] * layer)[layer] for i in place.image]
            start = self._rows(starts)[:, None, None]
            here = inside & (start >= 0)
            packed = self._targets[(nearest + start).clamp_(min=0)]
            layers.append(((packed >> 16) & 0xFFFF) * here)
            if layer == 0:
                centre = ((packed >> 8) & 0xFF).float() / 255
                boundary = (packed & 0xFF).float() / 255
        assert centre is not None
        assert boundary is not None
        return PoolWindows(
            self._bilinear(place, y, x),
            torch.stack(layers, dim=1).int(),
            torch.where(inside, centre, 1.0),
            torch.where(inside, boundary, 0.0),
            inside,
        )

    def _coordinates(self, place: Place, side: int) -> tuple[Tensor, Tensor]:
        """(B, S, S) y and x in pixels of the image, of the windows' pixels."""
        steps = torch.arange(side, device=self.device) + (0.5 - side / 2)
        cosine, sine = (
            np.cos(place.angle) / place.scale,
            np.sin(place.angle) / place.scale,
        )
        flip = np.where(place.mirrored, -1.0, 1.0)
        numbers = np.stack(
            [*place.centre.T, cosine, -sine * flip, sine, cosine * flip], axis=1
        )
        cy, cx, yy, yx, xy, xx = (
            torch.from_numpy(numbers.astype(np.float32))
            .to(self.device)
            .T[..., None, None]
        )
        down, across = steps[:, None], steps[None]
        if place.bend is not None:
            coarse = torch.from_numpy(place.bend.astype(np.float32)).to(self.device)
            field = F.interpolate(coarse, (side, side), mode="bicubic")
            down, across = down + field[:, 0], across + field[:, 1]  # (B, S, S)
        return cy + yy * down + yx * across, cx + xy * down + xx * across

    def _bilinear(self, place: Place, y: Tensor, x: Tensor) -> Tensor:
        halving = np.floor(np.log2(1 / place.scale) + 0.5).astype(np.int64)
        halving = halving.clip(0, HALVINGS)
        level = self._rows(
            [self._levels[i][h] for i, h in zip(place.image, halving, strict=True)]
        )
        start, height, width = level.T[..., None, None]  # (B, 1, 1) each
        factor = self._rows(2.0**-halving)[:, None, None].float()
        (row, below, down), (column, beside, across) = (
            _taps(where * factor, length) for where, length in ((y, height), (x, width))
        )
        row, below = row * width + start, below * width + start
        upper = torch.lerp(self._tap(row + column), self._tap(row + beside), across)
        lower = torch.lerp(self._tap(below + column), self._tap(below + beside), across)
        # (B, S, S, 4) → (B, 3, S, S), channels last in memory
        return torch.lerp(upper, lower, down).permute(0, 3, 1, 2)[:, :3]

    def _tap(self, index: Tensor) -> Tensor:
        """(B, S, S) places to (B, S, S, 4) float: red, green, blue, nothing."""
        packed = self._pixels[index]
        return packed.view(torch.uint8).view(*index.shape, 4).float()

    def _rows(self, values: object) -> Tensor:
        return torch.from_numpy(np.asarray(values)).to(self.device)


class _Row:
    """One long array that grows; unlike a list, it never needs the memory twice."""

    def __init__(self) -> None:
        self.size = 0
        self._values = np.empty(1 << 16, np.int32)

    def add(self, part: npt.NDArray[np.int32]) -> int:
        """Add an array; return its start."""
        start, self.size = self.size, self.size + part.size
        if self.size > self._values.size:
            self._resize(max(self.size, self._values.size + self._values.size // 4))
        self._values[start : self.size] = part
        return start

    def tensor(self) -> Tensor:
        """Return the whole array; nothing can be added afterwards."""
        self._resize(self.size)
        return torch.from_numpy(self._values)

    def _resize(self, size: int) -> None:
        # This does not copy large arrays; it maps their memory to another place.
        self._values.resize(size, refcheck=False)


def _taps(where: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two pixels around a place, and its distance from the first, along one axis."""
    place = where - 0.5
    first = place.floor()
    share = (place - first)[..., None]
    index = first.long()
    last = length - 1
    zero = torch.zeros_like(last)
    return index.clamp(zero, last), (index + 1).clamp(zero, last), share


def _halved(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Means of squares of four pixels; an odd side is padded with its border."""
    height, width = rgb.shape[:2]
    whole = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    planes = torch.from_numpy(whole).permute(2, 0, 1)[None].float()
    means = F.avg_pool2d(planes, 2)[0].permute(1, 2, 0).round()
    return means.to(torch.uint8).numpy()


def _packed_pixels(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    packed = np.zeros((*rgb.shape[:2], 4), np.uint8)
    packed[..., :3] = rgb
    return packed.view(np.int32).ravel()


def _packed_targets(
    labels: npt.NDArray[np.int32],
    distances: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] | None,
) -> npt.NDArray[np.int32]:
    packed = labels.astype(np.int64) << 16
    if distances is not None:
        centre, boundary = distances
        packed |= (centre.astype(np.int64) << 8) | boundary
    return packed.astype(np.uint32).view(np.int32).ravel()
