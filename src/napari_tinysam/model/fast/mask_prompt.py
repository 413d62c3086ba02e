"""Mask prompts as the fast decoder reads them: with 16 channels instead of 256."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from napari_tinysam.model.fast.attention import by_head


class DensePrompt:
    """The dense prompts d = M h + c of N objects, factored: d itself is never computed.

    Parameters
    ----------
    constant : Tensor
        (256,), c.
    inner : Tensor, optional
        (N, n, P), h. None: d is the same at all places.
    last : Tensor, optional
        (256, n), M.
    """

    def __init__(
        self,
        constant: Tensor,
        inner: Tensor | None = None,
        last: Tensor | None = None,
    ) -> None:
        self.constant = constant
        self._inner: tuple[Tensor, Tensor] | None = None  # h and M
        if inner is not None and last is not None:
            self._inner = inner, last

    def added(self, embedding: Tensor, shares: Tensor, values: Tensor) -> Tensor:
        """E (B, P, 256) to e + d − c + sharesᵀ values: (N, P, 256)."""
        if self._inner is not None:
            inner, last = self._inner
            # One product for both: a sum of two would be read and written once more.
            shares = torch.cat([shares, inner], dim=1)
            rows = last.T.expand(values.shape[0], -1, -1)
            values = torch.cat([values, rows], dim=1)
        return embedding + shares.transpose(1, 2) @ values

    def scored(
        self, scores: Tensor, tokens: Tensor, projection: Any, *, constant: bool = False
    ) -> Tensor:
        """Add t · (W d) to (N, 8, T, P) scores t · (W e) of (N, 8, T, 16) tokens.

        Without `constant`, the part that all places share is left out.
        """
        weight: Tensor = projection.weight
        heads = tokens.shape[1]
        if constant:
            scores = scores + tokens @ (weight @ self.constant).view(heads, -1, 1)
        if self._inner is None:
            return scores
        inner, last = self._inner
        reading = (tokens @ by_head(weight @ last, heads)).flatten(1, 2)
        return scores + (reading @ inner).view(*tokens.shape[:3], -1)

    def mean(self, shares: Tensor, projection: Any, heads: int) -> Tensor:
        """Σ a (W d) over places of (N, 8, T, P) shares a: (N, 8, T, 16)."""
        weight: Tensor = projection.weight
        # Shares add up to 1, so the mean of the constant is the constant.
        found = (weight @ self.constant).view(heads, 1, -1)
        if self._inner is None:
            return found
        inner, last = self._inner
        mean: Tensor = shares.flatten(1, 2) @ inner.transpose(1, 2)  # (N, 8 T, 16)
        mean = mean.view(*shares.shape[:3], -1)
        return found + mean @ by_head(weight @ last, heads).transpose(-1, -2)


def mask_channels(layers: Any, masks: Tensor) -> Tensor:
    """Embed mask prompts as Segment Anything's prompt encoder does, up to the last convolution.

    Both convolutions take squares of 2 × 2 pixels. When pixels are sorted by their places in a
    square of 4 × 4, everything is a product of a small matrix and 16 rows.

    Parameters
    ----------
    layers : Sequential
        Convolution, norm, activation, twice.
    masks : Tensor
        (N, 1, 4g, 4g) logits.

    Returns
    -------
    Tensor
        (N, 16, P).
    """
    first, norm, act, second, second_norm, second_act = layers
    count, rows, columns = masks.shape[0], masks.shape[2] // 4, masks.shape[3] // 4
    # Row and column of the outer square of four (or, oc), and of the pixel in it (ir, ic):
    # (N, g, or, ir, g, oc, ic) → (N, or, oc, ir, ic, g, g) → (N, 16, P)
    pixels = masks.reshape(count, rows, 2, 2, columns, 2, 2)
    pixels = pixels.permute(0, 2, 5, 3, 6, 1, 4).reshape(count, 16, rows * columns)
    # The same weights for each of the four outer places: (4 · channels, 4 · pixels)
    weight = _centred(first.weight).flatten(1)
    weight = (_identity(4, weight) * weight[:, None]).reshape(-1, 16)
    found = weight @ pixels + _centred(first.bias).repeat(4)[:, None]
    found = act(_divided(norm, found, 4))  # (N, [or, oc, channel], P)
    weight = _centred(second.weight).permute(0, 2, 3, 1).flatten(1)
    found = weight @ found + _centred(second.bias)[:, None]
    inner: Tensor = second_act(_divided(second_norm, found, 1))
    return inner


def _centred(weight: Tensor) -> Tensor:
    """Weights or biases of output channels, minus their mean over the channels."""
    return weight - weight.mean(dim=0, keepdim=True)


def _divided(norm: Any, x: Tensor, times: int) -> Tensor:
    """SAM's LayerNorm2d of (N, times · C, P), of C channels each, whose means are 0.

    The mean of squares comes from a product, once for each channel: reductions and broadcasts over
    a few rows take longer.
    """
    channels = norm.weight.shape[0]
    one = norm.weight.new_full((channels, 1, channels), 1 / channels)
    blocks = _identity(times, norm.weight) * one
    squares = blocks.reshape(times * channels, -1) @ (x * x)
    gain, shift = (each.repeat(times)[:, None] for each in (norm.weight, norm.bias))
    found: Tensor = x * gain / (squares + norm.eps).sqrt() + shift
    return found


def _identity(size: int, like: Tensor) -> Tensor:
    """(size, 1, size, 1): blocks along the diagonal, by a product with (a, 1, b)."""
    found = torch.eye(size, dtype=like.dtype, device=like.device)
    return found[:, None, :, None]
