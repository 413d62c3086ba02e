"""Refines masks with the drawn prompt and the encoder's fine features.

Segment Anything's decoder reads a mask prompt at stride 16, and its masks are products of kernels
with features that saw the prompt at that stride: it can tell objects apart, but not move a border
by a pixel. The refiner combines masks, drawn prompt and details at strides 8 and 4 in a few local
convolutions, and predicts what to add to the logits. This is the refinement of interactive
segmentation (Sofiiuk et al., "Reviving Iterative Training with Mask Guidance", 2022, where prompts
are maps for a convolutional network), after a transformer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_tinysam.dense_prompts import CLICKED, SURE, first_guess

#: Channels at stride 8; half as many at stride 4.
_WIDTH = 48

#: Side of the neighbourhoods that are mixed at stride 8.
_REACH = 7


class MaskRefiner(nn.Module):
    """Predicts what to add to the masks of drawn prompts.

    With new weights it adds nothing.

    Parameters
    ----------
    detail_channels : sequence of int
        Channels of the details at strides 8 and 4; finer ones are not read.
    masks : int
        Number of masks of an object.
    """

    def __init__(self, detail_channels: Sequence[int], masks: int = 3) -> None:
        super().__init__()
        half, whole = _WIDTH, _WIDTH // 2
        told = masks + 2
        self.details = nn.ModuleList(
            nn.Conv2d(source, width, 1)
            for source, width in zip(detail_channels[:2], (half, whole), strict=True)
        )
        self.told_half = nn.Conv2d(told, half, 3, stride=2, padding=1)
        self.told_whole = nn.Conv2d(told, whole, 3, padding=1)
        self.blocks = nn.Sequential(_Block(half), _Block(half))
        self.to_whole = nn.ConvTranspose2d(half, whole, 2, stride=2)
        self.last = nn.Conv2d(whole, masks, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    @property
    def is_blank(self) -> bool:
        """Whether all weights are 0, as after loading a file without a refiner: it cannot learn."""
        return not any(bool(each.any()) for each in self.parameters())

    def projected(self, details: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Project an image's details, once for all prompts.

        Parameters
        ----------
        details : sequence of Tensor
            (B, …, 2 g, 2 g) and (B, …, 4 g, 4 g), of `ImageFeatures`.

        Returns
        -------
        tuple of Tensor
            (B, 48, 2 g, 2 g) and (B, 24, 4 g, 4 g).
        """
        half, whole = self.details
        return half(details[0]), whole(details[1])

    def forward(
        self, logits: Tensor, drawn: Tensor, boxes: Tensor, details: Sequence[Tensor]
    ) -> Tensor:
        """Predict what to add.

        Parameters
        ----------
        logits : Tensor
            (N, 3, 4 g, 4 g), of the decoder, before the first guess is added.
        drawn : Tensor
            (N, 4 g, 4 g), of `napari_tinysam.dense_prompts.draw_prompts`.
        boxes : Tensor
            (N, 4 g, 4 g), of `napari_tinysam.dense_prompts.draw_boxes`.
        details : sequence of Tensor
            Two, from `projected`, of N images or of the one image of all objects.

        Returns
        -------
        Tensor
            (N, 3, 4 g, 4 g).
        """
        guessed = (logits + first_guess(torch, drawn)).clamp(-2 * CLICKED, 2 * CLICKED)
        planes = torch.stack([drawn.clamp(-CLICKED, CLICKED), boxes], dim=1)
        told = torch.cat([guessed, planes], dim=1) / SURE
        half = F.relu(self.told_half(told) + details[0])
        whole = self.to_whole(self.blocks(half)) + self.told_whole(told) + details[1]
        found: Tensor = self.last(F.relu(whole))
        return found


class _Block(nn.Module):
    """A residual block: a depthwise convolution, then all channels mixed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.around = nn.Conv2d(width, width, _REACH, padding=_REACH // 2, groups=width)
        self.first = nn.Conv2d(width, 2 * width, 1)
        self.second = nn.Conv2d(2 * width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = self.second(F.relu(self.first(self.around(features))))
        return features + changed
