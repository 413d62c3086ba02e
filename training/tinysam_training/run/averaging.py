"""The average of a model's weights over its training, which is judged and exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from napari_tinysam.model import SegmentAnything


@torch.no_grad()
def update_average(
    average: SegmentAnything, model: SegmentAnything, decay: float
) -> None:
    """Exponential moving average of parameters and of batch-norm statistics."""
    current = model.state_dict()
    old: list[torch.Tensor] = []
    new: list[torch.Tensor] = []
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            old.append(value)
            new.append(current[name])
        else:
            value.copy_(current[name])
    # All at once: a GPU would wait for hundreds of small operations.
    torch._foreach_lerp_(old, new, 1 - decay)
