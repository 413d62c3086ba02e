"""Converts a trained model for saving: plain layers, on the CPU, with the official names."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from tinysam_training.learning.lora import merge_low_rank

if TYPE_CHECKING:
    from napari_tinysam.model import SegmentAnything


def whole_model(model: SegmentAnything) -> SegmentAnything:
    """Copy a model to the CPU, with low-rank additions merged into its layers.

    Parameters
    ----------
    model : SegmentAnything
        The model in training, perhaps with low-rank additions. Not changed.

    Returns
    -------
    SegmentAnything
        In eval mode; `napari_tinysam.checkpoints.save` writes it.
    """
    plain = copy.deepcopy(model).cpu()
    merge_low_rank(plain)
    return plain.eval()
