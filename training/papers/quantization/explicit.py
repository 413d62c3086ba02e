"""Products of two activations as operations that are rounded.

Linear layers and convolutions are modules anyway. Products of two activations, in attention and in
the last step of the mask decoder, become modules here (`MatMul`), so that they can be watched and
replaced like the others.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.transformer import Attention as TokenAttention
from timm.models.tiny_vit import Attention as WindowAttention
from torch import Tensor, nn

from napari_tinysam.model.encoders.tiny_vit import _UncachedAttention
from napari_tinysam.model.integers import QUANTIZABLE
from napari_tinysam.model.mask_decoder import DetailedMaskDecoder
from tinysam_training.quantize.products import Product, Watching

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tinysam.model import SegmentAnything

#: Rows, columns and matrices of a product of two activations that are kept of a call.
_ROWS, _COLUMNS, _MATRICES = 64, 256, 2


class MatMul(nn.Module):
    """A product of two activations."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Multiply (..., M, K) by (..., K, N)."""
        return a @ b


class _ExplicitWindowAttention(_UncachedAttention):
    """timm's attention in windows, with its two products as modules."""

    scores: MatMul
    mix: MatMul

    def forward(self, x: Tensor) -> Tensor:
        windows, tokens, _ = x.shape
        qkv = self.qkv(self.norm(x)).view(windows, tokens, self.num_heads, -1)
        widths = [self.key_dim, self.key_dim, self.val_dim]
        q, k, v = (part.transpose(1, 2) for part in qkv.split(widths, dim=3))
        scores = self.scores(q * self.scale, k.transpose(-1, -2))
        shares = (scores + self.get_attention_biases(x.device)).softmax(dim=-1)
        found = self.mix(shares, v).transpose(1, 2).reshape(windows, tokens, -1)
        out: Tensor = self.proj(found)
        return out


class _ExplicitTokenAttention(TokenAttention):  # type: ignore[misc]
    """Segment Anything's attention of tokens, with its two products as modules."""

    scores: MatMul
    mix: MatMul

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (
            self._separate_heads(projection(x), self.num_heads)
            for projection, x in (
                (self.q_proj, q),
                (self.k_proj, k),
                (self.v_proj, v),
            )
        )
        scores = self.scores(q, k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
        found = self.mix(torch.softmax(scores, dim=-1), v)
        out: Tensor = self.out_proj(self._recombine_heads(found))
        return out


class _ExplicitMaskDecoder(MaskDecoder):  # type: ignore[misc]
    """Segment Anything's mask decoder, with the product that draws masks as a module."""

    drawing: MatMul

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:
        count = len(sparse_prompt_embeddings)
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(count, -1, -1), sparse_prompt_embeddings], dim=1)
        source = image_embeddings.expand(count, -1, -1, -1) + dense_prompt_embeddings
        hidden, image = self.transformer(
            source, image_pe.expand(count, -1, -1, -1), tokens
        )
        pixels = self.output_upscaling(image.transpose(1, 2).view(source.shape))
        kernels = torch.stack(
            [
                mlp(hidden[:, 1 + i])
                for i, mlp in enumerate(self.output_hypernetworks_mlps)
            ],
            dim=1,
        )
        masks = self.drawing(kernels, pixels.flatten(2))
        shape = (count, -1, *pixels.shape[-2:])
        return masks.view(shape), self.iou_prediction_head(hidden[:, 0])


class _ExplicitDetailedDecoder(DetailedMaskDecoder):
    """A mask decoder with finer features, with that product as a module."""

    drawing: MatMul

    def drawn(self, kernels: Tensor, pixels: Tensor) -> Tensor:
        masks: Tensor = self.drawing(kernels, pixels)
        return masks


def with_products(model: SegmentAnything) -> SegmentAnything:
    """Copy a model, with products of activations as modules; its answers stay the same.

    Parameters
    ----------
    model : SegmentAnything
        With a TinyViT or EfficientNet encoder.
    """
    copied = copy.deepcopy(model)
    for module in list(copied.modules()):
        if isinstance(module, WindowAttention):
            module.__class__ = _ExplicitWindowAttention
        elif isinstance(module, TokenAttention):
            module.__class__ = _ExplicitTokenAttention
        elif isinstance(module, MaskDecoder):
            detailed = isinstance(module, DetailedMaskDecoder)
            module.__class__ = (
                _ExplicitDetailedDecoder if detailed else _ExplicitMaskDecoder
            )
            module.add_module("drawing", MatMul())
            continue
        else:
            continue
        module.add_module("scores", MatMul())
        module.add_module("mix", MatMul())
    return copied


class WatchingProducts(Watching):
    """Also keeps rows of products of two activations."""

    kinds = (*QUANTIZABLE, MatMul)

    def _sampled(
        self, module: Any, given: tuple[Tensor, ...], out: Tensor
    ) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        if not isinstance(module, MatMul):
            return super()._sampled(module, given, out)
        a, b = given

        def by_head(x: Tensor) -> Tensor:
            return x if x.ndim == 4 else x[:, None]

        first, second = by_head(a.detach()), by_head(b.detach())
        batch = self._some(len(first), _MATRICES)
        rows = self._some(first.shape[2], _ROWS)
        columns = self._some(second.shape[3], _COLUMNS)
        return (
            first[batch][:, :, rows].clone(),
            second[batch][..., columns].clone(),
            lambda g: by_head(g)[batch][:, :, rows][..., columns].clone(),
        )

    def _joined(self, products: list[Product]) -> list[Product]:
        """Join rows where the second operand is the same, else matrices of a shape."""
        second = products[0].second.data_ptr()
        if all(each.second.data_ptr() == second for each in products):
            return super()._joined(products)
        shapes: dict[Any, list[Product]] = defaultdict(list)
        for each in products:
            shapes[each.first.shape[2:], each.second.shape[2:]].append(each)
        return [
            Product(
                torch.cat([each.first for each in some]),
                torch.cat([each.second for each in some]),
                torch.cat([each.gradient for each in some]),
            )
            for some in shapes.values()
        ]
