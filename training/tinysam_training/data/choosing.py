"""Chooses objects of windows to prompt, on the device that holds the windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from napari_tinysam.frame import LOGIT
from tinysam_training.data.targets import LEAST_PIXELS
from tinysam_training.data.windows import size_balanced

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor


class ChosenObjects(NamedTuple):
    """N objects of B windows; fields as in `tinysam_training.data.batches.Batch`."""

    window: Tensor
    targets: Tensor
    boxes: Tensor


def chosen_objects(
    labels: Tensor,
    most: int,
    rng: np.random.Generator,
    moved: npt.NDArray[np.int64] | None = None,
) -> ChosenObjects:
    """Choose objects of windows at random, as `choose_objects` does in each of them.

    Parameters
    ----------
    labels : Tensor of int32, (B, L, S, S)
        The windows' labels.
    most : int
        The most objects of a window.
    rng : numpy Generator
    moved : ndarray of int64, (B,), optional
        By how many pixels the borders of each window's objects are moved out, or in if negative.

    Returns
    -------
    ChosenObjects
        On the labels' device.
    """
    device, side = labels.device, labels.shape[-1]
    found, areas = _visible(labels) if most else (np.zeros((0, 3), np.int64), None)
    rows: list[npt.NDArray[np.intp]] = []
    for window in np.unique(found[:, 0]):
        here = np.flatnonzero(found[:, 0] == window)
        if len(here) > most:
            assert areas is not None
            chances = size_balanced(np.sqrt(areas[here]), found[here, 1])
            here = here[rng.choice(len(here), most, replace=False, p=chances)]
        rows.append(here)
    chosen = found[np.concatenate(rows)] if rows else found[:0]
    if not len(chosen):
        square = side // LOGIT
        return ChosenObjects(
            torch.zeros(0, dtype=torch.int64, device=device),
            torch.zeros((0, square, square), device=device),
            torch.zeros((0, 4), device=device),
        )
    window, layer, number = torch.from_numpy(chosen).to(device).T
    shown = labels[window, layer]  # (N, S, S)
    masks = shown == number[:, None, None]
    if moved is not None and moved.any():
        steps = torch.from_numpy(moved).to(device)[window]
        masks = with_moved_borders(masks, (shown > 0) & ~masks, steps)
    return ChosenObjects(
        window.contiguous(), F.avg_pool2d(masks.float(), LOGIT), _boxes(masks)
    )


def with_moved_borders(masks: Tensor, others: Tensor, steps: Tensor) -> Tensor:
    """Grow or shrink masks, as octagons do.

    Parameters
    ----------
    masks : Tensor of bool, (N, S, S)
    others : Tensor of bool, (N, S, S)
        Neighbours, into which no mask grows.
    steps : Tensor of int64, (N,)
        Pixels to grow by, or to shrink by if negative.

    Returns
    -------
    Tensor of bool, (N, S, S)
        Masks that would have too few pixels to be prompted stay as they are.
    """
    found = masks
    for step in range(1, int(steps.abs().max()) + 1):
        square = step % 2 == 0  # in turn with diamonds
        grown = _grown(found, square) & ~others
        shrunk = ~_grown(~found, square)  # at the window's edge objects go on
        active = (steps.abs() >= step)[:, None, None]
        changed = torch.where((steps > 0)[:, None, None], grown, shrunk)
        found = torch.where(active, changed, found)
    enough = found.sum((1, 2)) >= LEAST_PIXELS
    return torch.where(enough[:, None, None], found, masks)


def _grown(masks: Tensor, square: bool) -> Tensor:
    """Grow (N, S, S) masks by a pixel: to all eight neighbours, or to four of them."""
    values = masks[:, None].float()
    if square:
        return F.max_pool2d(values, 3, 1, 1)[:, 0] > 0
    along = F.max_pool2d(values, (1, 3), 1, (0, 1))
    across = F.max_pool2d(values, (3, 1), 1, (1, 0))
    return torch.maximum(along, across)[:, 0] > 0


def _visible(labels: Tensor) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Objects as rows of window, layer and label, and their areas in pixels."""
    windows, layers = labels.shape[:2]
    length = int(labels.max()) + 1
    first = torch.arange(windows * layers, device=labels.device) * length
    places = labels.view(windows * layers, -1) + first[:, None]
    areas = places.flatten().bincount(minlength=windows * layers * length)
    areas = areas.view(windows, layers, length)
    areas[..., 0] = 0
    seen = areas >= LEAST_PIXELS
    return seen.nonzero().cpu().numpy(), areas[seen].cpu().numpy()


def _boxes(masks: Tensor) -> Tensor:
    """(N, S, S) bool to (N, 4) float32: x0, y0, x1, y1, the last pixel inclusive."""
    last = masks.shape[-1] - 1
    lines = [masks.any(1).int(), masks.any(2).int()]  # along x, along y
    starts = [line.argmax(1) for line in lines]
    stops = [last - line.flip(1).argmax(1) for line in lines]
    return torch.stack([*starts, *stops], dim=1).float()
