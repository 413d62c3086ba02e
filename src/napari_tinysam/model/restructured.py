"""Segment Anything's mask decoder, computed in another order: the same answers, sooner.

The two-way transformer lets a handful of prompt tokens (T, about 7) and the image's g² = 4096
tokens attend to each other, twice, and projects all image tokens to queries, keys and values each
time. Three identities avoid most of that work; none of them approximates anything.

1. Before the first layer the image's tokens are x = e + d, embedding plus dense prompt. Their
   projections W x = W e + W d need W e once an image. And d = M h + c is the 1 × 1 convolution at
   the end of the mask prompt's path: (W M) h reads 16 channels instead of 256.
2. Later, scores q · (W x) = (Wᵀ q) · x, and Σ a (W x) = W (Σ a x): it is cheaper to bring 8 T
   token vectors (one for each head) to the image's 256 channels than 4096 image tokens to 128
   channels, as long as 8 T < 128. Biases of keys add the same to all scores of a query, which
   softmax ignores.
3. Positional encodings p enter as W (x + p) = W x + W p, and W p is the same for all images.

Masks are upscaled in a step of its own, for those answers that are wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segment_anything.modeling.transformer import Attention

    from napari_tinysam.model.sam import SegmentAnything

#: The decoder's own tokens: predicted IoU, and SAM's single mask and three masks.
_OWN = 5


class ImageSide(NamedTuple):
    """What of the decoder depends on the image alone, P = g² places.

    Attributes
    ----------
    embedding : Tensor
        (P, 256).
    keys, values, queries : Tensor
        (P, 128) each, projections in the first layer: of the tokens' attention to the image, and of
        the image's to the tokens.
    """

    embedding: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor


class Answers(NamedTuple):
    """N objects, before their masks are upscaled.

    Attributes
    ----------
    scores : Tensor
        (N, 3) predicted IoU.
    kernels : Tensor
        (N, 3, 32): a mask's logits are their product with the upscaled image.
    image : Tensor
        (N, P, 256), the image's tokens as each object has left them.
    """

    scores: Tensor
    kernels: Tensor
    image: Tensor


class RestructuredDecoder(nn.Module):
    """Prompt encoder and mask decoder of a model, for one image at a time.

    Parameters
    ----------
    model : SegmentAnything
        Its modules are used, not copied: what it learns, this answers with.
    """

    def __init__(self, model: SegmentAnything) -> None:
        super().__init__()
        self.prompt_encoder: Any = model.prompt_encoder
        self.mask_decoder: Any = model.mask_decoder

    def prepare(self, embedding: Tensor) -> ImageSide:
        """Compute once what all prompts on an image share.

        Parameters
        ----------
        embedding : Tensor
            (1, 256, g, g). A smaller one than the whole frame's is its part at the top left.
        """
        image = embedding[0].flatten(1).T  # (P, 256)
        positions = self.positions(embedding.shape[-2:])
        layer = self.mask_decoder.transformer.layers[0]
        placed = image + positions
        return ImageSide(
            image,
            layer.cross_attn_token_to_image.k_proj(placed),
            layer.cross_attn_token_to_image.v_proj(image),
            layer.cross_attn_image_to_token.q_proj(placed),
        )

    def answer(
        self,
        side: ImageSide,
        *,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        shape: tuple[int, int],
    ) -> Answers:
        """Let prompts and image attend to each other.

        Parameters
        ----------
        side : ImageSide
        points, labels, boxes, masks
            As in `SegmentAnything.decode`.
        shape : (int, int)
            Height and width of the embedding.
        """
        points_and_labels = None if points is None else (points, labels)
        sparse, _ = self.prompt_encoder(points_and_labels, boxes, None)
        if points is None and boxes is None:  # it takes one row for granted then
            assert masks is not None
            sparse = sparse.expand(len(masks), -1, -1)
        return self.attend(side, sparse, masks, self.positions(shape))

    def attend(
        self,
        side: ImageSide,
        sparse: Tensor,
        masks: Tensor | None,
        positions: Tensor,
    ) -> Answers:
        """Do the same with prompts that are tokens already.

        Parameters
        ----------
        side : ImageSide
        sparse : Tensor
            (N, T − 5, 256), tokens of points and boxes.
        masks : Tensor or None
            (N, 1, 4g, 4g), logits.
        positions : Tensor
            (P, 256), positional encoding.
        """
        decoder = self.mask_decoder
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([own.expand(sparse.shape[0], -1, -1), sparse], dim=1)
        first, second = decoder.transformer.layers
        queries, image = self._first_layer(first, side, tokens, masks)
        queries, image = self._second_layer(second, queries, tokens, image, positions)
        last = decoder.transformer.final_attn_token_to_image
        queries = queries + _to_image(last, queries + tokens, image, positions)
        hidden = decoder.transformer.norm_final_attn(queries)
        # Token 1 is SAM's single mask, which nobody asks for.
        kernels = [
            mlp(hidden[:, 1 + i])
            for i, mlp in enumerate(decoder.output_hypernetworks_mlps)
            if i > 0
        ]
        scores = decoder.iou_prediction_head(hidden[:, 0])[:, 1:]
        return Answers(scores, torch.stack(kernels, dim=1), image)

    def upscale(self, image: Tensor, kernels: Tensor, shape: tuple[int, int]) -> Tensor:
        """Draw masks.

        Parameters
        ----------
        image : Tensor
            (N, P, 256), of `Answers`.
        kernels : Tensor
            (N, M, 32), those of `Answers` or some of them.
        shape : (int, int)
            Height and width of the embedding.

        Returns
        -------
        Tensor
            (N, M, 4 · height, 4 · width) logits.
        """
        height, width = shape
        # (N, P, 256) → (N, 256, g, g) → (N, 32, 4g, 4g)
        pixels = image.transpose(1, 2).reshape(-1, image.shape[-1], height, width)
        pixels = self.mask_decoder.output_upscaling(pixels)
        logits: Tensor = kernels @ pixels.flatten(2)
        return logits.view(*kernels.shape[:2], 4 * height, 4 * width)

    def positions(self, shape: Sequence[int]) -> Tensor:
        """Positional encoding of the frame's part at the top left.

        Parameters
        ----------
        shape : (int, int)
            Height and width of the embedding.

        Returns
        -------
        Tensor
            (P, 256).
        """
        frame = self.prompt_encoder.get_dense_pe()[0]  # (256, g, g)
        part: Tensor = frame[:, : shape[0], : shape[1]].flatten(1).T
        return part

    def _first_layer(
        self, layer: Any, side: ImageSide, tokens: Tensor, masks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(N, T, 256) tokens and (N, P, 256) image after the first layer."""
        queries = layer.norm1(layer.self_attn(tokens, tokens, tokens))
        to_image = layer.cross_attn_token_to_image
        from_tokens = layer.cross_attn_image_to_token
        dense = _DensePrompt(self.prompt_encoder, masks)
        keys = dense.projected(side.keys, to_image.k_proj.weight)
        values = dense.projected(side.values, to_image.v_proj.weight)
        found = _attend(
            _heads(to_image.q_proj(queries + tokens), to_image),
            _heads(keys, to_image),
            _heads(values, to_image),
        )
        queries = layer.norm2(queries + to_image.out_proj(_joined(found)))
        queries = layer.norm3(queries + layer.mlp(queries))
        # Queries of the image, and (N, 8, P, T) scores.
        asked = dense.projected(side.queries, from_tokens.q_proj.weight)
        offered = _heads(from_tokens.k_proj(queries + tokens), from_tokens)
        scores = _heads(asked, from_tokens) @ offered.transpose(-1, -2)
        image = dense.added(side.embedding)
        image = layer.norm4(image + _from_tokens(from_tokens, scores, queries))
        return queries, image

    def _second_layer(
        self,
        layer: Any,
        queries: Tensor,
        tokens: Tensor,
        image: Tensor,
        positions: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """(N, T, 256) tokens and (N, P, 256) image after the second layer."""
        q = queries + tokens
        queries = layer.norm1(queries + layer.self_attn(q, q, queries))
        to_image = layer.cross_attn_token_to_image
        queries = layer.norm2(
            queries + _to_image(to_image, queries + tokens, image, positions)
        )
        queries = layer.norm3(queries + layer.mlp(queries))
        from_tokens = layer.cross_attn_image_to_token
        offered = _heads(from_tokens.k_proj(queries + tokens), from_tokens)
        # Identity 2: (Wᵀ k) · x, with W's rows of each head: (N, 8, T, 256)
        weight = _by_head(from_tokens.q_proj.weight, from_tokens)
        reading = offered @ weight
        placed = _by_head_columns(positions @ from_tokens.q_proj.weight.T, from_tokens)
        bias = from_tokens.q_proj.bias.view(from_tokens.num_heads, 1, -1)
        scores = image[:, None] @ reading.transpose(-1, -2)  # (N, 8, P, T)
        scores = scores + (placed + bias) @ offered.transpose(-1, -2)
        return queries, layer.norm4(image + _from_tokens(from_tokens, scores, queries))


class _DensePrompt:
    """The dense prompts d of N objects, without being computed whole.

    Parameters
    ----------
    encoder : PromptEncoder
    masks : Tensor or None
        (N, 1, 4g, 4g) logits; None: no object has a mask prompt.
    """

    def __init__(self, encoder: Any, masks: Tensor | None) -> None:
        self._constant: Tensor
        self._inner: tuple[Tensor, Tensor] | None = None
        if masks is None:
            self._constant = encoder.no_mask_embed.weight[0]  # (256,)
            return
        # (N, 1, 4g, 4g) → (N, 16, g, g) → (N, P, 16)
        inner = encoder.mask_downscaling[:-1](masks).flatten(2).transpose(1, 2)
        last = encoder.mask_downscaling[-1]  # 1 × 1
        self._constant = last.bias
        self._inner = inner, last.weight[:, :, 0, 0]

    def added(self, embedding: Tensor) -> Tensor:
        """E (P, 256) to e + d: (N, P, 256), or (1, P, 256) without masks."""
        found = (embedding + self._constant)[None]
        if self._inner is None:
            return found
        inner, last = self._inner
        return found + inner @ last.T

    def projected(self, known: Tensor, weight: Tensor) -> Tensor:
        """W e (P, c) to W (e + d): (N, P, c), or (1, P, c) without masks; W is (c, 256)."""
        found = (known + weight @ self._constant)[None]
        if self._inner is None:
            return found
        inner, last = self._inner
        return found + inner @ (weight @ last).T


def _heads(x: Tensor, attention: Attention) -> Tensor:
    """(N, n, c) → (N, heads, n, c / heads)."""
    width = x.shape[-1] // attention.num_heads
    return x.view(x.shape[0], -1, attention.num_heads, width).transpose(1, 2)


def _by_head(weight: Tensor, attention: Attention) -> Tensor:
    """Rows of a projection's weight, (c, 256) → (heads, c / heads, 256)."""
    return weight.view(attention.num_heads, -1, weight.shape[-1])


def _by_head_columns(projected: Tensor, attention: Attention) -> Tensor:
    """(P, c) → (heads, P, c / heads)."""
    return projected.view(projected.shape[0], attention.num_heads, -1).transpose(0, 1)


def _joined(x: Tensor) -> Tensor:
    """(N, heads, n, c) → (N, n, heads · c)."""
    return x.transpose(1, 2).flatten(2)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of (N, heads, T, c) queries to (N or 1, heads, P, c) keys and values."""
    scores = (q / q.shape[-1] ** 0.5) @ k.transpose(-1, -2)
    return F.softmax(scores, dim=-1) @ v


def _to_image(
    attention: Attention, tokens: Tensor, image: Tensor, positions: Tensor
) -> Tensor:
    """`Attention.forward` of tokens to the image's places, (N, T, 256), by identities 2 and 3."""
    heads, count = attention.num_heads, tokens.shape[1]
    q = _heads(attention.q_proj(tokens), attention)  # (N, 8, T, 16)
    q = q / q.shape[-1] ** 0.5
    reading = (q @ _by_head(attention.k_proj.weight, attention)).flatten(1, 2)
    placed = _by_head_columns(positions @ attention.k_proj.weight.T, attention)
    scores = reading @ image.transpose(-1, -2)  # (N, 8 T, P)
    scores = scores + (q @ placed.transpose(-1, -2)).flatten(1, 2)
    mean = F.softmax(scores, dim=-1) @ image  # (N, 8 T, 256)
    mean = mean.view(-1, heads, count, mean.shape[-1])
    found = mean @ _by_head(attention.v_proj.weight, attention).transpose(-1, -2)
    # The weights of a mean add up to 1, so the bias comes through whole.
    joined = _joined(found) + attention.v_proj.bias
    out: Tensor = attention.out_proj(joined)
    return out


def _from_tokens(attention: Attention, scores: Tensor, tokens: Tensor) -> Tensor:
    """Output of the image's attention to tokens: (N, P, 256) of (N, 8, P, T) scores."""
    values = _heads(attention.v_proj(tokens), attention)  # (N, 8, T, 16)
    # Identity 2 for the output: (N, 8, T, 256), columns of out_proj's weight by head
    weight = attention.out_proj.weight.T.reshape(attention.num_heads, -1, 256)
    offered = (values @ weight).flatten(1, 2)  # (N, 8 T, 256)
    shares = F.softmax(scores / values.shape[-1] ** 0.5, dim=-1)
    shares = shares.transpose(1, 2).flatten(2)  # (N, P, 8 T)
    found: Tensor = shares @ offered + attention.out_proj.bias
    return found
