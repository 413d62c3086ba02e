"""Random models of this project's own architecture, for tests."""

from __future__ import annotations

import torch
from torch import nn

from napari_tinysam.model import Architecture, DetailedMaskDecoder, SegmentAnything


def efficient_model(
    side: int = 256,
    *,
    architecture: Architecture = "efficientnet_lite0",
    head: bool = True,
    dense: bool = True,
) -> SegmentAnything:
    """Random weights, with norms and biases as training leaves them, and details that count."""
    torch.manual_seed(0)
    model = SegmentAnything(architecture, side, object_head=head)
    model.dense_prompts = dense
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.7, 1.5)
                module.bias.normal_(std=0.2)
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
        for part in (model.prompt_encoder, model.mask_decoder):
            for parameter in part.parameters():
                if parameter.ndim == 1:
                    parameter += 0.2 * torch.randn_like(parameter)
        assert isinstance(model.mask_decoder, DetailedMaskDecoder)
        for layer in model.mask_decoder.details:
            layer.weight.normal_(std=0.3)
        model.mask_decoder.refiner.last.weight.normal_(std=0.3)
    return model.eval()


def in_half_precision(model: SegmentAnything) -> SegmentAnything:
    """Round all weights to what 16 bits hold, as those of a bundled file; in place."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
    return model
