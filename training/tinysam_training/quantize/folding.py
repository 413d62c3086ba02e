"""Norms folded into the layers behind or before them: the same model, fewer numbers to round.

A BatchNorm scales the output channels of the convolution before it. As output channels have scales
of their own, they can have the norm's as well; and what is searched for is then what is computed.
The LayerNorm before a projection scales its inputs; folded into the weights, the norm's output is
alike in all channels, which one scale serves better.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from timm.models.tiny_vit import Attention, ConvNorm, NormMlp
from torch import nn

if TYPE_CHECKING:
    from napari_tinysam.model import SegmentAnything


@torch.no_grad()
def folded(model: SegmentAnything) -> SegmentAnything:
    """Make a copy of a model with the norms of its encoder folded, which answers the same.

    Parameters
    ----------
    model : SegmentAnything
        With a TinyViT encoder.

    Returns
    -------
    SegmentAnything
        In eval mode. BatchNorms only add now, LayerNorms before projections only normalise; names
        and shapes are as before.
    """
    copied = copy.deepcopy(model).eval()
    copied.quantization = None
    for module in copied.image_encoder.modules():
        if isinstance(module, ConvNorm):
            _fold_batch_norm(module.conv, module.bn)
        elif isinstance(module, Attention):
            _fold_layer_norm(module.norm, module.qkv)
        elif isinstance(module, NormMlp):
            assert isinstance(module.norm, nn.LayerNorm)
            _fold_layer_norm(module.norm, module.fc1)
    return copied


def _fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    assert conv.bias is None
    gain = norm.weight / (var + norm.eps).sqrt()
    conv.weight.mul_(gain.view(-1, 1, 1, 1))
    norm.bias.sub_(mean * gain)
    norm.weight.fill_(1.0)
    mean.zero_()
    var.fill_(1.0 - norm.eps)


def _fold_layer_norm(norm: nn.LayerNorm, layer: nn.Linear) -> None:
    layer.bias.add_(layer.weight @ norm.bias)
    layer.weight.mul_(norm.weight)
    norm.weight.fill_(1.0)
    norm.bias.zero_()
