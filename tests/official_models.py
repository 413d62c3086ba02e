"""Models as the official code builds them, with random weights, made once a run.

Random weights keep activations near 1 and leave nothing at its neutral value: BatchNorm statistics,
attention biases and relative positions are all set.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from segment_anything.modeling import (
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import Tensor

from napari_tinysam.checkpoints import load
from tiny_vit_reference import TinyVitReference

if TYPE_CHECKING:
    from napari_tinysam.model import SegmentAnything


def random_values(state_dict: Mapping[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Return random tensors of the names and shapes of a state dict."""
    generator = torch.Generator().manual_seed(seed)

    def normal(shape: torch.Size, scale: float) -> Tensor:
        return torch.randn(shape, generator=generator) * scale

    values = {}
    for name, tensor in state_dict.items():
        shape = tensor.shape
        if name.endswith("num_batches_tracked"):
            values[name] = torch.tensor(1234)
        elif name.endswith("running_var"):
            values[name] = torch.rand(shape, generator=generator) + 0.5
        elif name.endswith("gaussian_matrix") or "attention_biases" in name:
            values[name] = normal(shape, 1.0)
        elif "embed" in name and not name.endswith(("0.weight", "c.weight")):
            values[name] = normal(shape, 0.3)  # tokens and positions
        elif "rel_pos" in name:
            values[name] = normal(shape, 0.2)
        elif "hypernetworks" in name and name.endswith("layers.2.weight"):
            values[name] = normal(shape, 0.5)  # logits as large as real ones
        elif tensor.ndim > 1:
            values[name] = normal(shape, shape[1:].numel() ** -0.5)
        elif name.endswith("weight"):  # of a normalisation
            values[name] = 1 + normal(shape, 0.2)
        else:
            values[name] = normal(shape, 0.1)
    return values


def build_official_tiny() -> Sam:
    """Build what the official code builds for TinySAM and MobileSAM."""
    return Sam(
        image_encoder=TinyVitReference(),
        prompt_encoder=PromptEncoder(
            embed_dim=256,
            image_embedding_size=(64, 64),
            input_image_size=(1024, 1024),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8
            ),
            transformer_dim=256,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
    ).eval()


@cache
def official_tiny_weights(seed: int = 0) -> Mapping[str, Tensor]:
    """Return a state dict as published TinySAM and MobileSAM files hold it; do not change it."""
    with torch.device("meta"):
        names = build_official_tiny().state_dict()
    return random_values(names, seed)


@cache
def official_tiny() -> Sam:
    """Return the official model; do not change it."""
    sam = build_official_tiny()
    sam.load_state_dict(official_tiny_weights(), strict=True)
    return sam


def save_official(path: Path, seed: int = 0) -> Path:
    """Write a file like the published ones."""
    torch.save(dict(official_tiny_weights(seed)), path)
    return path


def load_official(folder: Path, seed: int = 0) -> SegmentAnything:
    """Return this project's model with the official weights, through a file."""
    path = save_official(folder / f"official_{seed}.pth", seed)
    model = load(path).model
    path.unlink()
    return model
