"""Labelled microscopy in memory, and random windows of it as the model's input.

A folder of data holds one folder a set, each with ``train/`` and ``val/``: ``NAME.png``
(8-bit gray or RGB), ``NAME_label.png`` (uint16 instances, 0 = background) and sometimes
``NAME_label2.png`` (a second, nested labelling of the same image).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage as ndi

from napari_tinysam.image import to_rgb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UInt8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]

#: Long side of the model's input in pixels; scales are relative to it.
FRAME = 1024

#: Share of the training windows by set. Nuclei are what most users try first.
SET_SHARES = {
    "dsb2018": 0.68,
    "usiigaci_phc": 0.08,
    "emps_em_particles": 0.08,
    "axon_sem": 0.06,
    "yeast_phc": 0.05,
    "c2c12_phc": 0.03,
    "colicoords_ecoli_bf": 0.03,
}

#: Sets in which an unlabelled pixel is not surely background.
INCOMPLETE_SETS = frozenset({"colicoords_ecoli_bf", "emps_em_particles"})


@dataclass(frozen=True)
class LabelledImage:
    """One image with one labelling, and what is computed from the labels once.

    Attributes
    ----------
    dataset, name : str
        Folder and file stem.
    rgb : ndarray of uint8, (H, W, 3)
        As the model sees it.
    labels : ndarray of int32, (H, W)
        Instances 1…N without gaps; 0 is background.
    depth : ndarray of uint8, (H, W)
        Distance to the boundary of the own instance, 255 at its deepest pixel.
    boxes : ndarray of int, (N, 4)
        x0, y0, x1, y1 of each instance, the end exclusive.
    complete : bool
        Whether unlabelled pixels are background.
    nested : bool
        Whether this is the second labelling of an image (``_label2``).
    """

    dataset: str
    name: str
    rgb: UInt8Array
    labels: Int32Array
    depth: UInt8Array
    boxes: npt.NDArray[np.int64]
    complete: bool
    nested: bool


@dataclass(frozen=True)
class Window:
    """A window of the model's 1024² frame, with its labels.

    Attributes
    ----------
    rgb : ndarray of float32, (3, S, S)
        Values 0–255; zero outside `height` × `width`.
    labels : ndarray of int32, (S, S)
        Instances of the source image; 0 in the padding.
    depth : ndarray of float32, (S, S)
        Distance to the boundary, 0–1.
    height, width : int
        The part that shows the image. The rest is padding, to the right and at the
        bottom as in the model's own input.
    complete, nested : bool
        As in `LabelledImage`.
    """

    rgb: FloatArray
    labels: Int32Array
    depth: FloatArray
    height: int
    width: int
    complete: bool
    nested: bool


def depth_in_instances(labels: Int32Array) -> UInt8Array:
    """Distance of every pixel to the boundary of its instance, as share of the deepest.

    Parameters
    ----------
    labels : ndarray of int32, (H, W)

    Returns
    -------
    ndarray of uint8, (H, W)
        0 outside instances, 255 at the deepest pixel of each.
    """
    count = int(labels.max())
    if count == 0:
        return np.zeros(labels.shape, np.uint8)
    inside = labels > 0
    for axis in (0, 1):
        changes = np.diff(labels, axis=axis) != 0
        before = [(0, 1) if a == axis else (0, 0) for a in (0, 1)]
        after = [(1, 0) if a == axis else (0, 0) for a in (0, 1)]
        inside &= ~(np.pad(changes, before) | np.pad(changes, after))
    # + 1: the boundary pixels themselves belong to the instance.
    distance = (ndi.distance_transform_edt(inside) + 1.0) * (labels > 0)
    deepest = np.ones(count + 1)
    np.maximum.at(deepest, labels.ravel(), distance.ravel())
    depth: UInt8Array = np.round(255 * distance / deepest[labels]).astype(np.uint8)
    return depth


def labelled_image(
    dataset: str,
    name: str,
    image: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    *,
    complete: bool = True,
    nested: bool = False,
) -> LabelledImage:
    """Prepare one pair of image and labels.

    Parameters
    ----------
    dataset, name : str
        For the reports.
    image : ndarray of uint8, (H, W) or (H, W, 3)
    labels : ndarray of int, (H, W)
    complete, nested : bool
        As in `LabelledImage`.

    Returns
    -------
    LabelledImage
    """
    # Ids without gaps, by a table: sorting all pixels would take most of the loading
    # time.
    present = np.bincount(labels.ravel()) > 0
    present[0] = False
    dense = np.where(present, np.cumsum(present), 0).astype(np.int32)[labels]
    boxes = np.array(
        [(x.start, y.start, x.stop, y.stop) for y, x in ndi.find_objects(dense)],
        dtype=np.int64,
    ).reshape(-1, 4)
    return LabelledImage(
        dataset,
        name,
        to_rgb(image),
        dense,
        depth_in_instances(dense),
        boxes,
        complete,
        nested,
    )


def read_split(
    data: Path, split: str, sets: list[str] | None = None
) -> Iterator[LabelledImage]:
    """Read all labelled images of a split.

    Parameters
    ----------
    data : Path
        The folder with one folder a set.
    split : {"train", "val"}
    sets : list of str, optional
        Names of the sets, all by default.

    Yields
    ------
    LabelledImage
        Images without instances are left out. An image with two labellings comes twice.
    """
    names = sets or sorted(folder.name for folder in data.iterdir() if folder.is_dir())
    for dataset in names:
        for path in sorted((data / dataset / split).glob("*.png")):
            if path.stem.endswith(("_label", "_label2")):
                continue
            image = np.asarray(Image.open(path))
            for suffix in ("_label", "_label2"):
                label_path = path.with_name(f"{path.stem}{suffix}.png")
                if not label_path.exists():
                    continue
                item = labelled_image(
                    dataset,
                    path.stem + suffix.removeprefix("_label"),
                    image,
                    np.asarray(Image.open(label_path)),
                    complete=dataset not in INCOMPLETE_SETS,
                    nested=suffix == "_label2",
                )
                if len(item.boxes):
                    yield item


class WindowSampler:
    """Random windows of the training images, balanced by set.

    Parameters
    ----------
    images : list of LabelledImage
    shares : dict of str to float, optional
        Share of each set; sets without one get 0.05. All are normalised to 1.
    scale_range : (float, float)
        Random zoom relative to the scale at inference (long side = 1024), log-uniform.
    """

    def __init__(
        self,
        images: list[LabelledImage],
        shares: dict[str, float] | None = None,
        scale_range: tuple[float, float] = (0.5, 1.6),
    ) -> None:
        shares = SET_SHARES if shares is None else shares
        self.scale_range = scale_range
        self.by_set: dict[str, list[LabelledImage]] = {}
        for image in images:
            self.by_set.setdefault(image.dataset, []).append(image)
        self.sets = sorted(self.by_set)
        weights = np.array([shares.get(name, 0.05) for name in self.sets])
        self.probabilities = weights / weights.sum()

    def __call__(
        self, size: int, rng: np.random.Generator, augment: bool = True
    ) -> Window:
        """Draw one window of size × size pixels around a labelled instance."""
        dataset = self.sets[rng.choice(len(self.sets), p=self.probabilities)]
        images = self.by_set[dataset]
        image = images[rng.integers(len(images))]
        return sample_window(image, size, rng, self.scale_range, augment)


def sample_window(
    image: LabelledImage,
    size: int,
    rng: np.random.Generator,
    scale_range: tuple[float, float] = (0.5, 1.6),
    augment: bool = True,
) -> Window:
    """Cut a window around a random instance out of the image as scaled for the model.

    Parameters
    ----------
    image : LabelledImage
    size : int
        Side of the window in pixels of the 1024² frame.
    rng : numpy Generator
    scale_range : (float, float)
        As in `WindowSampler`.
    augment : bool
        Whether intensities are changed. Geometry is always random.

    Returns
    -------
    Window
    """
    height, width = image.labels.shape
    x0, y0, x1, y1 = image.boxes[rng.integers(len(image.boxes))]
    low, high = np.log(scale_range)
    scale = FRAME / max(height, width) * float(np.exp(rng.uniform(low, high)))
    extent = max(x1 - x0, y1 - y0)
    if extent * scale > 0.9 * size and rng.random() < 0.7:
        # Most objects should be seen whole; at inference they are.
        scale = max(0.9 * size / extent, 0.35 * FRAME / max(height, width))

    # Bottom and right borders of a frame are padding where the image is not square.
    shown = np.array([size, size])
    if rng.random() < 0.15:
        axis = rng.integers(2)
        shown[axis] = rng.integers(size // 3, size)
    # Before the turn: a quarter turn exchanges height and width.
    quarter_turns = int(rng.integers(4))
    if quarter_turns % 2:
        shown = shown[::-1]
    # An image that is smaller than the window at this scale is padded as well.
    shown_h = int(min(shown[0], max(16, np.floor(height * scale))))
    shown_w = int(min(shown[1], max(16, np.floor(width * scale))))
    source_h = min(shown_h / scale, height)
    source_w = min(shown_w / scale, width)
    top = _place(y0, y1, source_h, height, rng)
    left = _place(x0, x1, source_w, width, rng)

    box = (left, top, left + source_w, top + source_h)
    rgb = _resize_rgb(image.rgb, (shown_w, shown_h), box)
    rows = np.minimum(
        (top + (np.arange(shown_h) + 0.5) / scale).astype(int), height - 1
    )
    cols = np.minimum(
        (left + (np.arange(shown_w) + 0.5) / scale).astype(int), width - 1
    )
    labels = image.labels[np.ix_(rows, cols)]
    depth = image.depth[np.ix_(rows, cols)].astype(np.float32) / 255

    mirrored = slice(None, None, -1 if rng.random() < 0.5 else 1)
    rgb = np.rot90(rgb, quarter_turns)[:, mirrored]
    labels = np.rot90(labels, quarter_turns)[:, mirrored]
    depth = np.rot90(depth, quarter_turns)[:, mirrored]
    if augment:
        rgb = change_intensities(rgb, rng)

    h, w = labels.shape
    window_rgb = np.zeros((3, size, size), np.float32)
    window_rgb[:, :h, :w] = rgb.transpose(2, 0, 1)
    window_labels = np.zeros((size, size), np.int32)
    window_labels[:h, :w] = labels
    window_depth = np.zeros((size, size), np.float32)
    window_depth[:h, :w] = depth
    return Window(
        window_rgb, window_labels, window_depth, h, w, image.complete, image.nested
    )


def _place(
    start: int, stop: int, extent: float, limit: int, rng: np.random.Generator
) -> float:
    """First coordinate of an interval in [0, limit] that holds most of an object."""
    centre = (start + stop) / 2
    wanted = centre - extent * rng.uniform(0.2, 0.8)
    return float(np.clip(wanted, 0, limit - extent))


def _resize_rgb(
    rgb: UInt8Array, size: tuple[int, int], box: tuple[float, float, float, float]
) -> FloatArray:
    """Resample a box (x0, y0, x1, y1) of an image as inference does: PIL, bilinear."""
    # Cropping first spares PIL the conversion of the whole image.
    x0, y0 = (max(0, int(v) - 8) for v in box[:2])
    x1, y1 = (int(v) + 9 for v in box[2:])
    part = Image.fromarray(np.ascontiguousarray(rgb[y0:y1, x0:x1]))
    local = (
        box[0] - x0,
        box[1] - y0,
        min(box[2] - x0, part.width),
        min(box[3] - y0, part.height),
    )
    resized = part.resize(size, Image.Resampling.BILINEAR, box=local)
    return np.asarray(resized).astype(np.float32)


def change_intensities(rgb: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Randomly change gamma, gain, polarity, colour, sharpness and noise.

    Parameters
    ----------
    rgb : ndarray of float32, (H, W, 3)
        Values 0–255.
    rng : numpy Generator

    Returns
    -------
    ndarray of float32, (H, W, 3)
        Values 0–255.
    """
    values = np.clip(rgb / 255, 0, 1)  # a negative base under a gamma would be NaN
    gray = bool((np.ptp(values, axis=2) < 1e-3).all())
    if not gray:
        if rng.random() < 0.3:
            weights = rng.dirichlet([2.0, 2.0, 2.0])
            values = np.repeat((values @ weights)[..., None], 3, axis=2)
        else:
            values = values * rng.uniform(0.85, 1.15, 3)
            if rng.random() < 0.2:
                values = values[..., rng.permutation(3)]
    if rng.random() < 0.6:
        values = np.clip(values, 0, 1) ** np.exp(rng.uniform(-0.6, 0.6))
    if rng.random() < 0.6:
        gain = np.exp(rng.uniform(-0.5, 0.3))
        values = (values - 0.5) * gain + 0.5 + rng.uniform(-0.12, 0.12)
    if rng.random() < 0.15:
        values = 1 - values
    if rng.random() < 0.2:
        values = ndi.gaussian_filter(values, (s := rng.uniform(0.4, 1.6), s, 0))
    if rng.random() < 0.3:
        noise = rng.normal(0, rng.uniform(0.01, 0.06), values.shape[:2])
        values = values + noise[..., None]
    return (255 * np.clip(values, 0, 1)).astype(np.float32)
