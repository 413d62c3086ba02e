"""The two-way transformer's attention between tokens and image, by the identities of `decoder`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from segment_anything.modeling.transformer import Attention


class Normed(NamedTuple):
    """The image's tokens after a norm: places · gain + shift, never computed whole.

    Attributes
    ----------
    places : Tensor
        (N, P, 256), of mean 0 and variance 1.
    gain, shift : Tensor
        (256,), the norm's weight and bias.
    """

    places: Tensor
    gain: Tensor
    shift: Tensor

    @classmethod
    def of(cls, norm: Any, image: Tensor) -> Normed:
        """Normalise (N, P, 256) tokens."""
        places = F.layer_norm(image, norm.weight.shape, eps=norm.eps)
        return cls(places, norm.weight, norm.bias)


def projected(projection: Any, image: Tensor) -> Tensor:
    """Project (B, P, 256) tokens to (B, c, P), without a transposed copy."""
    found: Tensor = projection.weight @ image.transpose(1, 2)
    found = found + projection.bias[:, None]
    return found


def _heads(x: Tensor, attention: Attention) -> Tensor:
    """(N, n, c) → (N, heads, n, c / heads)."""
    width = x.shape[-1] // attention.num_heads
    return x.view(x.shape[0], -1, attention.num_heads, width).transpose(1, 2)


def scaled(attention: Attention, projected: Tensor) -> Tensor:
    """(N, T, c) → (N, heads, T, c / heads), divided for scores."""
    found = _heads(projected, attention)
    return found / float(found.shape[-1] ** 0.5)


def by_head(weight: Tensor, heads: int) -> Tensor:
    """Rows of a projection's weight, (c, n) → (heads, c / heads, n)."""
    return weight.view(heads, -1, weight.shape[-1])


def channels_by_head(projected: Tensor, attention: Attention) -> Tensor:
    """(B, c, P) → (B, heads, c / heads, P)."""
    heads = attention.num_heads
    width = projected.shape[1] // heads
    return projected.view(projected.shape[0], heads, width, -1)


def joined(x: Tensor) -> Tensor:
    """(N, heads, n, c) → (N, n, heads · c)."""
    return x.transpose(1, 2).flatten(2)


def read_scores(
    projection: Any, tokens: Tensor, image: Normed, placed: Tensor
) -> Tensor:
    """Scores t · W (x + p) by identities 2, 3 and 5, without the part that all places share.

    Parameters
    ----------
    projection : Linear
        Of W, (c, 256).
    tokens : Tensor
        (N, heads, T, c / heads).
    image : Normed
    placed : Tensor
        (B, heads, c / heads, P), W p; B is 1 or N.

    Returns
    -------
    Tensor
        (N, heads, T, P).
    """
    heads = tokens.shape[1]
    weight = projection.weight * image.gain
    reading = (tokens @ by_head(weight, heads)).flatten(1, 2)
    scores = reading @ image.places.transpose(-1, -2)  # (N, 8 T, P)
    return scores.view(*tokens.shape[:3], -1) + tokens @ placed


def to_image_attention(
    attention: Attention, tokens: Tensor, image: Normed, placed: Tensor
) -> Tensor:
    """`Attention.forward` of tokens to the image's places, (N, T, 256), by 2, 3 and 5.

    `placed` is (B, c, P), W p of the keys.
    """
    heads, count = attention.num_heads, tokens.shape[1]
    placed = channels_by_head(placed, attention)
    q = scaled(attention, attention.q_proj(tokens))  # (N, 8, T, 16)
    shares = F.softmax(read_scores(attention.k_proj, q, image, placed), dim=-1)
    mean = shares.flatten(1, 2) @ image.places  # (N, 8 T, 256)
    mean = mean.view(-1, heads, count, mean.shape[-1])
    projection = attention.v_proj
    weight = projection.weight * image.gain
    found = mean @ by_head(weight, heads).transpose(-1, -2)
    # The weights of a mean add up to 1, so it keeps what all places have in common.
    found = joined(found) + (projection.bias + projection.weight @ image.shift)
    out: Tensor = attention.out_proj(found)
    return out


def shares_and_values(
    attention: Attention, scores: Tensor, tokens: Tensor, constant: Tensor
) -> tuple[Tensor, Tensor]:
    """Factor what the image takes from tokens, including the output's bias and a constant.

    Parameters
    ----------
    attention : Attention
    scores : Tensor
        (N, 8, T, P).
    tokens : Tensor
        (N, T, 256).
    constant : Tensor
        (256,), what every place gets in addition.

    Returns
    -------
    shares : Tensor
        (N, 8 T, P), the share of each value that a place takes.
    values : Tensor
        (N, 8 T, 256).
    """
    values = _heads(attention.v_proj(tokens), attention)  # (N, 8, T, 16)
    # Identity 2 for the output: (N, 8, T, 256), columns of out_proj's weight by head
    weight = attention.out_proj.weight.T.reshape(attention.num_heads, -1, 256)
    # A place's shares of each head add up to 1.
    alike = (attention.out_proj.bias + constant) / attention.num_heads
    values = (values @ weight).flatten(1, 2) + alike
    return F.softmax(scores, dim=2).flatten(1, 2), values
