"""Random points in regions, where people would click.

All draws come from one `torch.Generator` on the CPU, and their number depends on the number of
regions alone, so a GPU and a CPU draw the same samples. Regions are at the resolution of the mask
logits (4 pixels), points in pixels of the window; the centre of its first pixel is (0, 0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from napari_tinysam.frame import LOGIT

if TYPE_CHECKING:
    from torch import Tensor


def sample_in(
    region: Tensor,
    fallback: Tensor,
    rng: torch.Generator,
    *,
    covered: Tensor | None = None,
    centred: float = 0.0,
) -> Tensor:
    """Draw a point of each region; all its logits are equally likely.

    Parameters
    ----------
    region : Tensor
        (N, h, w) bool.
    fallback : Tensor
        (N, h, w) bool, used where the region is empty.
    rng : torch.Generator
        On the CPU.
    covered : Tensor, optional
        (N, h, w) bool, logits in which all 4 × 4 pixels may be hit. There the point is anywhere in
        the logit; elsewhere, and if left out, at the logit's centre.
    centred : float
        Probability of drawing only from the deeper half of a region.

    Returns
    -------
    Tensor
        (N, 2) float32, x and y in pixels of the window; NaN where the fallback is empty too.
    """
    count, _, width = region.shape
    centred_rows = chance(count, centred, rng).nonzero()[:, 0]
    draw = torch.randint(1 << 62, (count,), generator=rng)
    jitter = (torch.rand((count, 2), generator=rng) - 0.5) * LOGIT
    if count == 0:
        return region.new_zeros((0, 2), dtype=torch.float32)

    region = torch.where(region.any(2).any(1)[:, None, None], region, fallback)
    if len(centred_rows):
        rows = centred_rows.to(region.device)
        region = region.index_copy(0, rows, _deep_part(region[rows]))

    flat = region.flatten(1)  # (N, h·w)
    ranks = flat.cumsum(1)
    total = ranks[:, -1]
    # Whole numbers throughout: the CPU and a GPU pick the same logit.
    wanted = draw.to(total.device) % total.clamp(min=1) + 1
    place = torch.searchsorted(ranks, wanted[:, None]).clamp(max=flat.shape[1] - 1)
    x, y = place % width, place.div(width, rounding_mode="floor")  # (N, 1)
    points = LOGIT * torch.cat([x, y], dim=1).float() + (LOGIT - 1) / 2
    if covered is not None:
        free = covered.flatten(1).gather(1, place)  # (N, 1)
        points = points + jitter.to(points.device) * free
    return points.masked_fill((total == 0)[:, None], torch.nan)


def _deep_part(region: Tensor) -> Tensor:
    """Logits (N, h, w) of a region that are more than half as deep as its deepest.

    Depth is the chessboard distance to the outside; beyond the window counts as outside.
    """
    # Erosions add up, so each region's deepest logit is found bit by bit: in a few dozen steps,
    # where single erosions would take up to half the window's side.
    steps = [1 << k for k in range((min(region.shape[1:]) // 2).bit_length())]
    left, radius = region, region.new_zeros(len(region), dtype=torch.long)
    for step in reversed(steps):
        trial = _eroded(left, step)
        survives = trial.any(2).any(1)
        left = torch.where(survives[:, None, None], trial, left)
        radius = radius + step * survives
    deep, half = region, (radius + 1) // 2
    for step in steps:
        wanted = (half & step) > 0
        deep = torch.where(wanted[:, None, None], _eroded(deep, step), deep)
    return deep


def _eroded(region: Tensor, radius: int) -> Tensor:
    """Erosion of (N, h, w) bool by a square of side 2 · radius + 1."""
    length = 2 * radius + 1
    if region.device.type == "cuda":  # there, few operations count, not their cost
        outside = F.pad(~region, (radius,) * 4, value=True).to(torch.float16)
        near = F.max_pool2d(outside, (length, 1), stride=1)
        return F.max_pool2d(near, (1, length), stride=1) == 0
    region = F.pad(region, (radius,) * 4)
    for axis in (1, 2):
        have = 1  # each value: whether `have` in a row, starting there, are all set
        while have < length:
            shift = min(have, length - have)
            count = region.shape[axis] - shift
            region = region.narrow(axis, 0, count) & region.narrow(axis, shift, count)
            have += shift
    return region


def chance(count: int, probability: float, rng: torch.Generator) -> Tensor:
    """Return (count,) bool on the CPU, True with a probability."""
    return torch.rand(count, generator=rng) < probability
