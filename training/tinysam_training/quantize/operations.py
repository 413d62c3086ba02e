"""The operations of a model that are rounded: each a module with a name.

Linear layers and convolutions are modules anyway. Products of two activations, in attention and in
the last step of the mask decoder, become modules here (`MatMul`), so that they can be watched and
replaced like the others.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.transformer import Attention as TokenAttention
from timm.models.tiny_vit import Attention as WindowAttention
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from napari_tinysam.model.encoders.tiny_vit import _UncachedAttention
from napari_tinysam.model.integers import QUANTIZABLE
from napari_tinysam.model.mask_decoder import DetailedMaskDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_tinysam.model import SegmentAnything

#: The function that produced an operation's input.
Origin = Literal["softmax", "gelu", "relu", "other"]

_ORIGINS: dict[str, Origin] = {
    "softmax": "softmax",
    "gelu": "gelu",
    "relu": "relu",
    "hardtanh": "relu",  # torch's name of the function that ReLU6 calls
}

#: The classifier in official files is never computed.
_NEVER_COMPUTED = "image_encoder.head"


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


def operations(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """List all operations that can be rounded, with the names of their modules.

    Parameters
    ----------
    model : SegmentAnything
        Unchanged, or from `with_products`.
    """
    for name, module in model.named_modules():
        rounds = isinstance(module, (*QUANTIZABLE, MatMul))
        if rounds and name != _NEVER_COMPUTED:
            yield name, module


class Origins(TorchFunctionMode):
    """Records which function produced the first operand of each operation, while a model runs.

    Parameters
    ----------
    model : SegmentAnything

    Attributes
    ----------
    found : dict of str to {"softmax", "gelu", "relu", "other"}
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.found: dict[str, Origin] = {}
        # Kept alive, so that no other tensor gets their memory.
        self._outputs: dict[int, tuple[Origin, Tensor]] = {}
        self._hooks = [
            module.register_forward_pre_hook(self._noting(name))
            for name, module in operations(model)
        ]

    def _noting(self, name: str) -> Any:
        def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            origin = self._outputs.get(given[0].data_ptr(), ("other", None))[0]
            self.found[name] = origin

        return note

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        origin = _ORIGINS.get(getattr(func, "__name__", ""))
        if origin is not None:
            self._outputs[out.data_ptr()] = (origin, out)
        return out

    def __exit__(self, *reason: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        self._outputs.clear()
        super().__exit__(*reason)  # type: ignore[no-untyped-call]
