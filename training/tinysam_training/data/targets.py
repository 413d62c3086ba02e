"""Targets of training: the objects of windows, their masks, boxes and object maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage as ndi

from napari_tinysam.frame import LOGIT

if TYPE_CHECKING:
    import numpy.typing as npt

    from tinysam_training.data.windows import Window

#: In a partly annotated image, this many pixels around the objects count as background.
KNOWN_AROUND = 4

#: Objects with fewer pixels in a window are not prompted there.
LEAST_PIXELS = 24


def valid(window: Window) -> npt.NDArray[np.bool_]:
    """Pixels that show the image, (S, S)."""
    shown = np.zeros((window.size, window.size), bool)
    shown[: window.height, : window.width] = True
    return shown


def known(window: Window, layers: int | None = None) -> npt.NDArray[np.bool_]:
    """Pixels with a known annotation, (S, S).

    All pixels that show the image; if it is partly annotated, those of objects and up to four
    pixels beside them.

    Parameters
    ----------
    window : Window
    layers : int, optional
        Number of layers of labels that count, all by default.
    """
    shown = valid(window)
    if window.complete:
        return shown
    labelled = (window.labels[:layers] > 0).any(axis=0)
    near = ndi.maximum_filter(labelled, 2 * KNOWN_AROUND + 1, mode="constant")
    return np.asarray(near & shown)


def valid_share(window: Window, stride: int = LOGIT) -> npt.NDArray[np.float32]:
    """Share of each square of `stride` pixels that shows the image, float32 (S/s, S/s)."""
    firsts = np.arange(0, window.size, stride, dtype=np.float32)
    rows = np.clip((window.height - firsts) / stride, 0, 1)
    columns = np.clip((window.width - firsts) / stride, 0, 1)
    return np.asarray(np.outer(rows, columns), np.float32)


def known_share(
    window: Window, layers: int | None = None, stride: int = LOGIT
) -> npt.NDArray[np.float32]:
    """Share of each square of `stride` pixels that is `known`, float32 (S/s, S/s)."""
    if window.complete:
        return valid_share(window, stride)
    share = means(known(window, layers)[None].astype(np.float32), stride)[0]
    return np.asarray(share, np.float32)


def visible_objects(
    layers: npt.NDArray[np.int32], min_pixels: int = LEAST_PIXELS
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Objects that a window shows.

    Parameters
    ----------
    layers : ndarray of int32, (L, S, S)
        The window's labels.
    min_pixels : int
        Objects with fewer pixels in the window are left out.

    Returns
    -------
    objects : ndarray of int64, (N, 2)
        Layer and label.
    areas : ndarray of int64, (N,)
        In pixels, of the part in the window.
    """
    objects, areas = [], []
    for layer, labels in enumerate(layers):
        counts = np.bincount(labels.ravel())
        counts[0] = 0
        numbers = np.flatnonzero(counts >= max(min_pixels, 1))
        objects.append(np.column_stack([np.full(len(numbers), layer), numbers]))
        areas.append(counts[numbers])
    return np.concatenate(objects), np.concatenate(areas)


def object_boxes(
    layers: npt.NDArray[np.int32], objects: npt.NDArray[np.integer]
) -> npt.NDArray[np.float32]:
    """Tight boxes of the parts of objects that a window shows.

    Parameters
    ----------
    layers : ndarray of int32, (L, S, S)
        The window's labels.
    objects : ndarray of int, (N, 2)
        Layer and label, from 1.

    Returns
    -------
    ndarray of float32, (N, 4)
        x0, y0, x1, y1 in pixels of the window, the last pixel inclusive.

    Raises
    ------
    ValueError
        If one of them is not in the window.
    """
    boxes = np.empty((len(objects), 4), np.float32)
    for layer in np.unique(objects[:, 0]):
        rows = np.flatnonzero(objects[:, 0] == layer)
        numbers = objects[rows, 1]
        found = ndi.find_objects(layers[layer], max_label=int(numbers.max()))
        for row, number in zip(rows, numbers, strict=True):
            if found[number - 1] is None:
                raise ValueError(f"Object {number} is not in the window.")
            y, x = found[number - 1]
            boxes[row] = x.start, y.start, x.stop - 1, y.stop - 1
    return boxes


def object_targets(
    layers: npt.NDArray[np.int32],
    objects: npt.NDArray[np.integer],
    boxes: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Share of each logit that each object covers.

    Parameters
    ----------
    layers : ndarray of int32, (L, S, S)
        The window's labels.
    objects : ndarray of int, (N, 2)
        Layer and label, from 1, of objects in the window.
    boxes : ndarray, (N, 4), optional
        Their `object_boxes`, if available.

    Returns
    -------
    ndarray of float32, (N, S/4, S/4)
        0–1.

    Raises
    ------
    ValueError
        If one of them is not in the window.
    """
    if boxes is None:
        boxes = object_boxes(layers, objects)
    side = layers.shape[-1] // LOGIT
    targets = np.zeros((len(objects), side, side), np.float32)
    # An object can only cover logits that its box touches.
    touched = boxes.astype(np.intp) // LOGIT
    for (layer, number), (x0, y0, last_x, last_y), target in zip(
        objects, touched, targets, strict=True
    ):
        x1, y1 = last_x + 1, last_y + 1
        inside = (
            layers[layer, LOGIT * y0 : LOGIT * y1, LOGIT * x0 : LOGIT * x1] == number
        )
        counts = inside.reshape(y1 - y0, LOGIT, x1 - x0, LOGIT).sum(axis=(1, 3))
        target[y0:y1, x0:x1] = counts / LOGIT**2
    return targets


def object_maps_targets(
    window: Window, stride: int = LOGIT
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Compute the targets of the object head, and their weights.

    Parameters
    ----------
    window : Window
    stride : int
        Side of one value of the maps in pixels, s.

    Returns
    -------
    maps : ndarray of float32, (3, S/s, S/s)
        Means over each value, of layer 0: foreground, centre distance, boundary distance
        (`napari_tinysam.model.object_head.OBJECT_MAPS`).
    weight : ndarray of float32, (1, S/s, S/s)
        Known share. In a partly annotated image layer 0 alone decides: an object of another layer
        is foreground that layer 0 lacks.
    """
    planes = (window.labels[0] > 0, window.centre_distance, window.boundary_distance)
    maps = means(np.stack(planes, dtype=np.float32), stride)
    return maps, known_share(window, layers=1, stride=stride)[None]


def means(
    planes: npt.NDArray[np.float32], stride: int = LOGIT
) -> npt.NDArray[np.float32]:
    """Means over squares of s × s pixels: (C, S, S) → (C, S/s, S/s)."""
    count, height, width = planes.shape
    # One axis after the other: three times as fast as both at once.
    rows = torch.from_numpy(planes).view(count, height // stride, stride, width).sum(2)
    sums = rows.view(count, height // stride, width // stride, stride).sum(3)
    return np.asarray(sums.div_(stride**2).numpy(), np.float32)
