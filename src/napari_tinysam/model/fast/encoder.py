"""TinyViT encoder and object head, laid out for compilers of graphs: the same answers, sooner.

Convolutions want (B, C, H, W) with channels last in memory, products of matrices want (B, H W, C)
tokens. A compiler makes the change free if it is one permutation with one reader, directly to or
from tokens. timm's TinyViT goes through other shapes, and compilers copy the image's features a
hundred times. So here sums are made in the layout of convolutions, and every permutation has one
reader.

Two more changes, also exact: the weights of the norm before an attention go into the projections,
so that the padding beyond the image is zeros; and queries, keys and values are three products
instead of one that is split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_tinysam.model.encoders.kind import ImageFeatures
from napari_tinysam.model.encoders.tiny_vit import TinyVitEncoder
from napari_tinysam.model.integers import QuantizedLayer
from napari_tinysam.model.object_head import ObjectHead

if TYPE_CHECKING:
    from napari_tinysam.model.sam import SegmentAnything


class GraphEncoder(nn.Module):
    """The encoder and the object head of a model, laid out for compilers of graphs.

    Parameters
    ----------
    model : SegmentAnything
        With an encoder that has a graph (`EncoderKind`). Its modules are used, not copied.
    """

    def __init__(self, model: SegmentAnything) -> None:
        super().__init__()
        encoder, self.head = model.image_encoder, model.object_head
        # Encoders of convolutions alone need no other layout.
        self.encoder: Any = encoder
        if isinstance(encoder, TinyVitEncoder):
            assert self.head is None or isinstance(self.head, ObjectHead)
            self.encoder = RestructuredEncoder(encoder, self.head)

    def forward(self, frame: Tensor) -> tuple[ImageFeatures, Tensor | None]:
        """Embed frames and predict where objects are.

        Parameters
        ----------
        frame : Tensor
            (B, 3, S, S), normalised and padded.

        Returns
        -------
        features : ImageFeatures
            With details only of an encoder with a pyramid.
        maps : Tensor or None
            Logits of the object head; None without one.
        """
        if isinstance(self.encoder, RestructuredEncoder):
            embedding, maps = self.encoder(frame)
            return ImageFeatures(embedding), maps
        features = self.encoder.with_details(frame)
        if self.head is None:
            return features, None
        return features, self.head(features.embedding, features.details)


class RestructuredEncoder(nn.Module):
    """A TinyViT encoder and the object head that reads it.

    Parameters
    ----------
    encoder : TinyVitEncoder
        Its modules are used, not copied.
    head : ObjectHead or None
    """

    def __init__(self, encoder: TinyVitEncoder, head: ObjectHead | None) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.head = head

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embed frames and predict where objects are.

        Parameters
        ----------
        frame : Tensor
            (B, 3, S, S), normalised and padded; S a multiple of 16.

        Returns
        -------
        embedding : Tensor
            (B, 256, S / 16, S / 16), of `TinyVitEncoder.forward`.
        maps : Tensor or None
            (B, 3, S / 4, S / 4) logits of the object head; None without one.
        """
        body, neck = self.encoder.body, self.encoder.neck
        features = body.stages[0](body.patch_embed(frame))  # convolutions alone
        stages = [features]
        for stage in body.stages[1:]:
            features = stage.downsample(features)
            for block in stage.blocks:
                features = _block(block, features)
            stages.append(features)
        embedding = _norm(neck[3], neck[2](_norm(neck[1], neck[0](features))))
        if self.head is None:
            return embedding, None
        return embedding, self.head(embedding, (stages[1], stages[0]))


def _sizes(x: Tensor) -> tuple[int, ...]:
    """Shape as plain numbers, constants for a tracer: a graph has one size of frame."""
    return tuple(int(size) for size in x.shape)


def _tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) → (B, H W, C)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _places(x: Tensor) -> Tensor:
    """(B, H, W, C) → (B, C, H, W)."""
    return x.permute(0, 3, 1, 2)


def _norm(norm: Any, x: Tensor) -> Tensor:
    """SAM's LayerNorm2d of (B, C, H, W), as one operation instead of seven."""
    shape = norm.weight.shape
    normed = F.layer_norm(_tokens(x), shape, norm.weight, norm.bias, norm.eps)
    batch, _, height, width = _sizes(x)
    return _places(normed.view(batch, height, width, -1))


def _block(block: Any, x: Tensor) -> Tensor:
    """`TinyVitBlock` of timm; of (B, C, H, W) here, not (B, H, W, C)."""
    batch, channels, height, width = _sizes(x)
    side = block.window_size
    rows, columns = -(-height // side), -(-width // side)
    beyond = (0, 0, 0, columns * side - width, 0, rows * side - height)
    # Without the norm's weights and biases, which `_attention` applies, so the padding stays 0.
    normed = F.layer_norm(_tokens(x), (channels,), eps=block.attn.norm.eps)
    windows = F.pad(normed.view(batch, height, width, channels), beyond)
    # (B, rows side, columns side, C) → (B rows columns, side side, C)
    windows = windows.view(batch, rows, side, columns, side, channels)
    windows = windows.transpose(2, 3).reshape(-1, side * side, channels)
    found = _attention(block.attn, windows)
    found = found.view(batch, rows, columns, side, side, channels).transpose(2, 3)
    found = found.reshape(batch, rows * side, columns * side, channels)
    x = block.local_conv(x + _places(found[:, :height, :width]))
    mlp = block.mlp
    found = mlp.fc2(mlp.act(mlp.fc1(mlp.norm(_tokens(x)))))
    return x + _places(found.view(batch, height, width, channels))


def _attention(attention: Any, x: Tensor) -> Tensor:
    """`Attention` of timm, of (windows, tokens, C) after the norm's division."""
    count, tokens, _ = _sizes(x)
    heads, width = attention.num_heads, attention.key_dim
    norm, qkv = attention.norm, attention.qkv
    # Rows of the projection: by head, its queries, keys and values.
    rows = torch.arange(3 * heads * width).view(heads, 3, width)
    of_each = [rows[:, part].flatten() for part in range(3)]
    if isinstance(qkv, QuantizedLayer):  # the norm's weights are in it already
        rounded = qkv.given.rounded(x)
        products = [qkv.linear_rows(rounded, some) for some in of_each]
    else:
        weight = qkv.weight * norm.weight
        bias = qkv.weight @ norm.bias + qkv.bias
        products = [F.linear(x, weight[some], bias[some]) for some in of_each]
    q, k, v = (
        product.view(count, tokens, heads, width).transpose(1, 2)
        for product in products
    )
    biases = attention.get_attention_biases(x.device)
    found = F.scaled_dot_product_attention(q, k, v, attn_mask=biases)
    projected: Tensor = attention.proj(found.transpose(1, 2).flatten(2))
    return projected
