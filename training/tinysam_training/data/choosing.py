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
    labels: Tensor, most: int, rng: np.random.Generator
) -> ChosenObjects:
    """Choose objects of windows at random, as `choose_objects` does in each of them.

    Parameters
    ----------
    labels : Tensor of int32, (B, L, S, S)
        The windows' labels.
    most : int
        The most objects of a window.
    rng : numpy Generator

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
    masks = labels[window, layer] == number[:, None, None]  # (N, S, S)
    return ChosenObjects(
        window.contiguous(), F.avg_pool2d(masks.float(), LOGIT), _boxes(masks)
    )


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
