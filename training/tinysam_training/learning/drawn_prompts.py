"""Dense prompts in training: every prompt drawn into the mask prompt, for most objects.

They are drawn as in inference (`napari_tinysam.dense_prompts`): clicks become objects that the
student's own object head finds at that moment.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from napari_tinysam.dense_prompts import draw_prompts, first_guess
from napari_tinysam.objects.finding import object_regions
from tinysam_training.learning.region_sampling import chance
from tinysam_training.processes import side_by_side

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from napari_tinysam.model import ImageFeatures, SegmentAnything
    from tinysam_training.learning.decoding import Decoded
    from tinysam_training.learning.prompt_batch import PromptBatch


#: Logits that a process works on at once.
_PART = 4 * 64 * 64


@torch.no_grad()
def regions_of(
    model: SegmentAnything, features: ImageFeatures, valid: Tensor
) -> Tensor:
    """Find the object head's objects in windows.

    Parameters
    ----------
    model : SegmentAnything
        Without an object head there are none.
    features : ImageFeatures
        `SegmentAnything.features` of B windows.
    valid : Tensor
        (B, 1, 4g, 4g), 0 in the padding.

    Returns
    -------
    Tensor
        (B, 4g, 4g) int32, in each window 1…n, 0 where there is no object.
    """
    device = features.embedding.device
    if model.object_head is None:
        return torch.zeros(valid[:, 0].shape, dtype=torch.int32, device=device)
    found = model.object_maps(features).float().sigmoid()
    found = nn.functional.avg_pool2d(found, found.shape[-1] // valid.shape[-1])
    maps = found.cpu().numpy()
    inside = (valid[:, 0] > 0).cpu().numpy()
    windows = list(zip(maps, inside, strict=True))
    count = max(_PART // maps[0, 0].size, 1)
    parts = [windows[start : start + count] for start in range(0, len(windows), count)]
    labels = [one for part in side_by_side(_regions, parts, device) for one in part]
    return torch.from_numpy(np.stack(labels)).to(device)


def _regions(
    windows: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]],
) -> list[npt.NDArray[np.int32]]:
    return [object_regions(*each) for each in windows]


class DrawnPrompts:
    """Draws the prompts of N objects, again after each correction.

    Parameters
    ----------
    regions : Tensor
        (B, h, w) int32, from `regions_of`.
    window : Tensor
        (N,) int64, the window of each object.
    dense, seen : float
        Share of the objects that are drawn, and share of those with clicks drawn as regions.
    rng : torch.Generator, optional
        On the CPU; chooses the objects. Not needed where both shares are 1.
    """

    def __init__(
        self,
        regions: Tensor,
        window: Tensor,
        dense: float = 1.0,
        seen: float = 1.0,
        rng: torch.Generator | None = None,
    ) -> None:
        count = len(window)
        self._regions, self._window = regions, window
        if rng is None:
            rng = torch.Generator().manual_seed(0)
        self._dense = chance(count, dense, rng).to(window.device)
        self._seen = chance(count, seen, rng).to(window.device)

    @torch.no_grad()
    def __call__(
        self, prompts: PromptBatch, masks: Tensor | None, rows: Tensor | None = None
    ) -> Tensor:
        """Draw prompts.

        Parameters
        ----------
        prompts : PromptBatch
            Of n objects.
        masks : Tensor, optional
            (n, 1, h, w) logits of an earlier answer; NaN in rows without one.
        rows : Tensor, optional
            (n,) int64, which of the N objects these are; all if left out.

        Returns
        -------
        Tensor
            (n, 1, h, w) logits; NaN in rows that have neither an earlier answer nor are drawn.
        """
        dense, seen, window = self._dense, self._seen, self._window
        if rows is not None:
            dense, seen, window = dense[rows], seen[rows], window[rows]
        shape = (int(self._regions.shape[1]), int(self._regions.shape[2]))
        drawn = draw_prompts(
            torch,
            shape,
            points=prompts.points,
            labels=prompts.labels,
            boxes=prompts.boxes,
            masks=None if masks is None else masks[:, 0],
            objects=self._regions[window] * seen[:, None, None],
        )[:, None]
        given = torch.full_like(drawn, torch.nan) if masks is None else masks
        return torch.where(dense[:, None, None, None], drawn, given)

    def added(
        self, decoded: Decoded, masks: Tensor, rows: Tensor | None = None
    ) -> Decoded:
        """Add the first guess to the decoder's logits.

        Parameters
        ----------
        decoded : Decoded
            Of n objects.
        masks : Tensor
            (n, 1, h, w), from calling this object.
        rows : Tensor, optional
            (n,) int64, which of the N objects these are; all if left out.
        """
        dense = self._dense if rows is None else self._dense[rows]
        guess = first_guess(torch, masks[:, 0].nan_to_num())
        return replace(
            decoded, logits=decoded.logits + guess * dense[:, None, None, None]
        )
