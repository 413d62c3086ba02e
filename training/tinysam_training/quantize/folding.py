"""Norms folded into the layers behind or before them: the same model, fewer numbers to round.

A BatchNorm scales the output channels of the convolution before it. Output channels have their own
quantization scales, which can absorb the norm's; the search then sees the real computation. The
LayerNorm before a projection scales its inputs. With that folded into the weights, all channels of
the norm's output have a similar range, which suits a single scale.
"""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, Any

import torch
from timm.models.tiny_vit import Attention, NormMlp
from torch import nn

from napari_tinysam.model.encoders.efficientnet import EfficientNetEncoder

if TYPE_CHECKING:
    from napari_tinysam.model import SegmentAnything


@torch.no_grad()
def folded(model: SegmentAnything) -> SegmentAnything:
    """Copy a model, with the norms of its encoder folded; its answers stay the same.

    Parameters
    ----------
    model : SegmentAnything
        With a TinyViT or EfficientNet encoder.

    Returns
    -------
    SegmentAnything
        In eval mode. Its BatchNorms only add, its LayerNorms before projections only normalise.
        Names and shapes do not change.
    """
    copied = copy.deepcopy(model).eval()
    copied.quantization = None
    encoder, head = copied.image_encoder, copied.object_head
    for part in (encoder, head):
        if part is not None:
            _fold_neighbours(part)
    if isinstance(encoder, EfficientNetEncoder):
        _fold_sums(encoder)
    for module in encoder.modules():
        if isinstance(module, Attention):
            _fold_layer_norm(module.norm, module.qkv)
        elif isinstance(module, NormMlp):
            assert isinstance(module.norm, nn.LayerNorm)
            _fold_layer_norm(module.norm, module.fc1)
    return copied


def _fold_sums(encoder: EfficientNetEncoder) -> None:
    """Fold the norms behind sums of two convolutions.

    Doubling an image's sides is linear and keeps constants, so a norm behind it may come before it.
    """
    sums: list[tuple[Any, Any, Any]] = [
        (encoder.neck[0], encoder.from_32, encoder.from_16)
    ]
    for level in encoder.pyramid:
        known: Any = level
        sums.append((known.layers[0], known.from_coarse, known.from_fine))
    for norm, *convs in sums:
        _fold_batch_norm(norm, *convs)


def _fold_neighbours(part: nn.Module) -> None:
    """Fold every BatchNorm that directly follows a convolution."""
    for parent in part.modules():
        for layer, norm in itertools.pairwise(parent.children()):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _fold_batch_norm(norm, layer)


def _fold_batch_norm(norm: nn.BatchNorm2d, *convs: nn.Conv2d) -> None:
    """Fold a norm into the convolutions before it; their sum is its input."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    gain = norm.weight / (var + norm.eps).sqrt()
    for conv in convs:
        conv.weight.mul_(gain.view(-1, 1, 1, 1))
        if conv.bias is not None:
            conv.bias.mul_(gain)
    norm.bias.sub_(mean * gain)
    norm.weight.fill_(1.0)
    mean.zero_()
    var.fill_(1.0 - norm.eps)


def _fold_layer_norm(norm: nn.LayerNorm, layer: nn.Linear) -> None:
    layer.bias.add_(layer.weight @ norm.bias)
    layer.weight.mul_(norm.weight)
    norm.weight.fill_(1.0)
    norm.bias.zero_()
