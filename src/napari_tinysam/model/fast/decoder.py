"""Segment Anything's mask decoder, computed in another order: the same answers, sooner.

The two-way transformer lets a handful of prompt tokens (T, about 7) and the image's P = 4096 tokens
attend to each other, twice, and projects all image tokens to queries, keys and values each time.
A few identities avoid most of that work; none of them approximates anything.

1. Before the first layer the image's tokens are x = e + d, embedding plus dense prompt, and W e is
   needed once for each image. d = M h + c is the 1 × 1 convolution at the end of the mask prompt's
   path, so q · (W d) = (Mᵀ Wᵀ q) · h + q · (W c): 16 channels are read instead of 256, and the
   image is never projected for a prompt.
2. Later, scores q · (W x) = (Wᵀ q) · x, and Σ a (W x) = W (Σ a x): it is cheaper to bring 8 T
   token vectors (one for each head) to the image's 256 channels than 4096 image tokens to 128
   channels, as long as 8 T < 128. Softmax ignores what adds the same to all scores of a query, as
   biases of keys do.
3. Positional encodings p enter as W (x + p) = W x + W p, and W p is the same for all images.
4. Convolutions, plain and transposed, whose stride is the size of their kernel are products of
   matrices, place by place. Large tensors are never transposed.
5. Large tensors are read and written as rarely as possible. The weights and biases of norms of the
   image's tokens go into the layers that read them. Biases that all places get go into the tokens'
   values, whose shares add up to 1 for each head and place. A norm over few channels is centred by
   the weights of the convolution before it.

Upscaling masks is a separate step, for the answers that are wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_tinysam.model.fast.attention import (
    Normed,
    channels_by_head,
    joined,
    projected,
    read_scores,
    scaled,
    shares_and_values,
    to_image_attention,
)
from napari_tinysam.model.fast.mask_prompt import DensePrompt, mask_channels
from napari_tinysam.model.fast.places import places_within, split_places
from napari_tinysam.model.mask_decoder import DetailedMaskDecoder, refines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tinysam.model.sam import SegmentAnything


class ImageSide(NamedTuple):
    """The part of the decoder that depends on the image alone.

    It has P = g² places of B = 1 image that all objects share, or of B = N windows of one, a window
    for each object.

    Attributes
    ----------
    embedding : Tensor
        (B, P, 256).
    keys, values, queries : Tensor
        (B, 128, P) each, projections in the first layer: of the tokens' attention to the image, and
        of the image's to the tokens.
    half, whole : Tensor or None
        (B, 4 P, 64) and (B, 16 P, 32), what the image's details at strides 8 and 4 add to the two
        steps of upscaling, places within places as there; None where the decoder reads no details.
    fine_half, fine_whole : Tensor or None
        (B, 48, 2 g, 2 g) and (B, 24, 4 g, 4 g), what they add in the refiner; None where there is
        none, or nothing is drawn for it.
    """

    embedding: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor
    half: Tensor | None = None
    whole: Tensor | None = None
    fine_half: Tensor | None = None
    fine_whole: Tensor | None = None

    def halved(self) -> ImageSide:
        """Keep what details add in float16: it is large, and rounding it moves no border."""
        added = self[4:]
        return ImageSide(*self[:4], *(x if x is None else x.half() for x in added))

    @property
    def details(self) -> tuple[Tensor, Tensor] | None:
        """What `RestructuredDecoder.upscale` adds."""
        if self.half is None or self.whole is None:
            return None
        return self.half, self.whole

    @property
    def fine(self) -> tuple[Tensor, Tensor] | None:
        """What `RestructuredDecoder.refine` reads."""
        if self.fine_half is None or self.fine_whole is None:
            return None
        return self.fine_half, self.fine_whole


class Answers(NamedTuple):
    """N objects, before their masks are upscaled.

    Attributes
    ----------
    scores : Tensor
        (N, 3) predicted IoU.
    kernels : Tensor
        (N, 3, 32): a mask's logits are their product with the upscaled image.
    image : Tensor
        (N, P, 256), the image's tokens as each object has left them, without the weight and bias of
        their last norm, which `RestructuredDecoder.upscale` applies.
    """

    scores: Tensor
    kernels: Tensor
    image: Tensor


class RestructuredDecoder(nn.Module):
    """Prompt encoder and mask decoder of a model, for one image at a time.

    Parameters
    ----------
    model : SegmentAnything
        Its modules are used, not copied.
    """

    def __init__(self, model: SegmentAnything) -> None:
        super().__init__()
        self.prompt_encoder: Any = model.prompt_encoder
        self.mask_decoder: Any = model.mask_decoder
        self.refines = refines(model.mask_decoder, model.dense_prompts)

    def prepare(self, embedding: Tensor, details: Sequence[Tensor] = ()) -> ImageSide:
        """Compute what all prompts on an image share.

        Parameters
        ----------
        embedding : Tensor
            (1, 256, g, g). A smaller one is the top left part of the frame's.
        details : sequence of Tensor
            Those of `SegmentAnything.features`, where the mask decoder reads them.
        """
        side = self.prepare_embedding(embedding)
        if isinstance(self.mask_decoder, DetailedMaskDecoder):
            half, whole = self.mask_decoder.projected(details)
            side = side._replace(
                half=places_within(half, 1), whole=places_within(whole, 2)
            )
        if self.refines:
            half, whole = self.mask_decoder.refiner.projected(details)
            side = side._replace(fine_half=half, fine_whole=whole)
        return side

    def prepare_embedding(self, embedding: Tensor) -> ImageSide:
        """Prepare the embedding alone; see `prepare`."""
        image = embedding[:1].flatten(2).transpose(1, 2)  # (1, P, 256)
        placed = image + self._positions(embedding.shape[-2:])
        layer = self.mask_decoder.transformer.layers[0]
        return ImageSide(
            image,
            projected(layer.cross_attn_token_to_image.k_proj, placed),
            projected(layer.cross_attn_token_to_image.v_proj, image),
            projected(layer.cross_attn_image_to_token.q_proj, placed),
        )

    def placed(self, shape: Sequence[int]) -> Tensor:
        """Project the positional encoding for the attentions of the second layer and the last.

        The same for all images.

        Parameters
        ----------
        shape : (int, int)
            Height and width of the embedding.

        Returns
        -------
        Tensor
            (1, 3, 128, P): for tokens to image, image to tokens, and the last tokens to image.
        """
        positions = self._positions(shape).T
        transformer = self.mask_decoder.transformer
        weights = [
            transformer.layers[1].cross_attn_token_to_image.k_proj.weight,
            transformer.layers[1].cross_attn_image_to_token.q_proj.weight,
            transformer.final_attn_token_to_image.k_proj.weight,
        ]
        return torch.stack([weight @ positions for weight in weights])[None]

    def answer(
        self,
        side: ImageSide,
        *,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        placed: Tensor,
    ) -> Answers:
        """Let prompts and image attend to each other.

        Parameters
        ----------
        side : ImageSide
        points, labels, boxes, masks
            As in `SegmentAnything.decode`.
        placed : Tensor
            (B, 3, 128, P), from `placed`.
        """
        points_and_labels = None if points is None else (points, labels)
        sparse, _ = self.prompt_encoder(points_and_labels, boxes, None)
        if points is None and boxes is None:  # it assumes one row then
            assert masks is not None
            sparse = sparse.expand(len(masks), -1, -1)
        return self.attend(side, sparse, masks, placed)

    def attend(
        self,
        side: ImageSide,
        sparse: Tensor,
        masks: Tensor | None,
        placed: Tensor,
    ) -> Answers:
        """Do the same as `answer` with prompts that are tokens already.

        Parameters
        ----------
        side : ImageSide
        sparse : Tensor
            (N, T − 5, 256), tokens of points and boxes.
        masks : Tensor or None
            (N, 1, 4g, 4g), logits.
        placed : Tensor
            (B, 3, 128, P), from `placed`.
        """
        decoder = self.mask_decoder
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([own.expand(sparse.shape[0], -1, -1), sparse], dim=1)
        first, second = decoder.transformer.layers
        dense = self.dense_prompt(masks)
        queries, image = self._first_layer(first, side, tokens, dense)
        queries, image = self._second_layer(second, queries, tokens, image, placed)
        last = decoder.transformer.final_attn_token_to_image
        queries = queries + to_image_attention(
            last, queries + tokens, image, placed[:, 2]
        )
        hidden = decoder.transformer.norm_final_attn(queries)
        # Token 1 is SAM's single mask, which is never used.
        kernels = [
            mlp(hidden[:, 1 + i])
            for i, mlp in enumerate(decoder.output_hypernetworks_mlps)
            if i > 0
        ]
        scores = decoder.iou_prediction_head(hidden[:, 0])[:, 1:]
        return Answers(scores, torch.stack(kernels, dim=1), image.places)

    def dense_prompt(self, masks: Tensor | None) -> DensePrompt:
        """Embed mask prompts, except for the last convolution.

        Parameters
        ----------
        masks : Tensor or None
            (N, 1, 4g, 4g) logits; None: no object has a mask prompt.
        """
        encoder = self.prompt_encoder
        if masks is None:
            return DensePrompt(encoder.no_mask_embed.weight[0])
        last = encoder.mask_downscaling[-1]  # 1 × 1
        inner = mask_channels(encoder.mask_downscaling[:-1], masks)
        return DensePrompt(last.bias, inner, last.weight[:, :, 0, 0])

    def upscale(
        self,
        image: Tensor,
        kernels: Tensor,
        shape: tuple[int, int],
        details: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Draw masks.

        Parameters
        ----------
        image : Tensor
            (N, P, 256), of `Answers`.
        kernels : Tensor
            (N, M, 32), of `Answers`, or some of them.
        shape : (int, int)
            Height and width of the embedding.
        details : tuple of Tensor, optional
            Of `ImageSide`.

        Returns
        -------
        Tensor
            (N, M, 4 · height, 4 · width) logits.
        """
        height, width = shape
        to_half, norm, gelu, to_whole, last = self.mask_decoder.output_upscaling
        of_image = self.mask_decoder.transformer.layers[1].norm4
        # (N, P, 256) → (N, 4 P, 64) → (N, 16 P, 32), places within places
        pixels = split_places(to_half, image, of_image)
        if details is not None:
            pixels = pixels + details[0]
        pixels = F.layer_norm(
            pixels, norm.weight.shape, norm.weight, norm.bias, norm.eps
        )
        pixels = split_places(to_whole, gelu(pixels))
        if details is not None:
            pixels = pixels + details[1]
        pixels = last(pixels)
        logits: Tensor = kernels @ pixels.transpose(1, 2)  # (N, M, 16 P)
        logits = logits.view(-1, kernels.shape[1], height, width, 2, 2, 2, 2)
        logits = logits.permute(0, 1, 2, 4, 6, 3, 5, 7)  # rows, then columns
        return logits.reshape(*kernels.shape[:2], 4 * height, 4 * width)

    def refine(
        self,
        logits: Tensor,
        drawn: Tensor,
        boxes: Tensor,
        fine: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Refine masks of drawn prompts, where `refines` is true.

        Parameters
        ----------
        logits : Tensor
            (N, 3, 4g, 4g), of `upscale`.
        drawn, boxes : Tensor
            (N, 4g, 4g), of `napari_tinysam.dense_prompts.draw_prompts` and `draw_boxes`.
        fine : tuple of Tensor
            Of `ImageSide`.
        """
        found: Tensor = logits + self.mask_decoder.refiner(logits, drawn, boxes, fine)
        return found

    def _positions(self, shape: Sequence[int]) -> Tensor:
        """(P, 256) positional encoding of the top left part of the frame."""
        frame = self.prompt_encoder.get_dense_pe()[0]  # (256, g, g)
        part: Tensor = frame[:, : shape[0], : shape[1]].flatten(1).T
        return part

    def _first_layer(
        self, layer: Any, side: ImageSide, tokens: Tensor, dense: DensePrompt
    ) -> tuple[Tensor, Normed]:
        """(N, T, 256) tokens and (N, P, 256) image after the first layer."""
        queries = layer.norm1(layer.self_attn(tokens, tokens, tokens))
        to_image = layer.cross_attn_token_to_image
        q = scaled(to_image, to_image.q_proj(queries + tokens))
        scores = q @ channels_by_head(side.keys, to_image)  # (N, 8, T, P)
        shares = F.softmax(dense.scored(scores, q, to_image.k_proj), dim=-1)
        found = shares @ channels_by_head(side.values, to_image).transpose(-1, -2)
        found = found + dense.mean(shares, to_image.v_proj, to_image.num_heads)
        queries = layer.norm2(queries + to_image.out_proj(joined(found)))
        queries = layer.norm3(queries + layer.mlp(queries))
        from_tokens = layer.cross_attn_image_to_token
        offered = scaled(from_tokens, from_tokens.k_proj(queries + tokens))
        scores = offered @ channels_by_head(side.queries, from_tokens)
        scores = dense.scored(scores, offered, from_tokens.q_proj, constant=True)
        image = dense.added(
            side.embedding,
            *shares_and_values(from_tokens, scores, queries, dense.constant),
        )
        return queries, Normed.of(layer.norm4, image)

    def _second_layer(
        self,
        layer: Any,
        queries: Tensor,
        tokens: Tensor,
        image: Normed,
        placed: Tensor,
    ) -> tuple[Tensor, Normed]:
        """(N, T, 256) tokens and (N, P, 256) image after the second layer."""
        q = queries + tokens
        queries = layer.norm1(queries + layer.self_attn(q, q, queries))
        to_image = layer.cross_attn_token_to_image
        queries = layer.norm2(
            queries
            + to_image_attention(to_image, queries + tokens, image, placed[:, 0])
        )
        queries = layer.norm3(queries + layer.mlp(queries))
        from_tokens = layer.cross_attn_image_to_token
        offered = scaled(from_tokens, from_tokens.k_proj(queries + tokens))
        positions = channels_by_head(placed[:, 1], from_tokens)
        scores = read_scores(from_tokens.q_proj, offered, image, positions)
        projection = from_tokens.q_proj
        same = projection.bias + projection.weight @ image.shift
        scores = scores + offered @ same.view(from_tokens.num_heads, -1, 1)
        shares, values = shares_and_values(from_tokens, scores, queries, image.shift)
        taken = shares.transpose(1, 2) @ values
        return queries, Normed.of(layer.norm4, image.places * image.gain + taken)
