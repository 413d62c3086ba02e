"""Segment Anything's mask decoder, computed in another order: the same answers, sooner.

The two-way transformer lets a handful of prompt tokens (T, about 7) and the image's P = 4096 tokens
attend to each other, twice, and projects all image tokens to queries, keys and values each time.
A few identities avoid most of that work; none of them approximates anything.

1. Before the first layer the image's tokens are x = e + d, embedding plus dense prompt, and W e is
   needed once an image. d = M h + c is the 1 × 1 convolution at the end of the mask prompt's path,
   so that q · (W d) = (Mᵀ Wᵀ q) · h + q · (W c): 16 channels are read instead of 256, and no
   projection of the image's is ever made for a prompt.
2. Later, scores q · (W x) = (Wᵀ q) · x, and Σ a (W x) = W (Σ a x): it is cheaper to bring 8 T
   token vectors (one for each head) to the image's 256 channels than 4096 image tokens to 128
   channels, as long as 8 T < 128. What adds the same to all scores of a query, as biases of keys
   do, softmax ignores.
3. Positional encodings p enter as W (x + p) = W x + W p, and W p is the same for all images.
4. Convolutions, plain and transposed, whose stride is their kernel's size are products of matrices,
   place by place; what is large, is never transposed.
5. What is large is read and written as seldom as can be. The weights and biases of the norms of the
   image's tokens go into whatever reads them; biases that all places get, into the tokens' values,
   of which every place takes 1 for each head; and a norm over few channels is centred by the
   weights of the convolution before it.

Masks are upscaled in a step of its own, for those answers that are wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_tinysam.model.integers import QuantizedLayer
from napari_tinysam.model.mask_decoder import DetailedMaskDecoder, refines

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
        (128, P) each, projections in the first layer: of the tokens' attention to the image, and of
        the image's to the tokens.
    half, whole : Tensor or None
        (4 P, 64) and (16 P, 32), what the image's details at strides 8 and 4 add to the two steps
        of upscaling, places within places as there; None where the decoder reads no details.
    fine_half, fine_whole : Tensor or None
        (1, 48, 2 g, 2 g) and (1, 24, 4 g, 4 g), what they add in the refiner; None where there is
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
        """Keep what details add in float16: it is much, and rounding it moves no border."""
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


class _Normed(NamedTuple):
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
    def of(cls, norm: Any, image: Tensor) -> _Normed:
        """Normalise (N, P, 256) tokens."""
        places = F.layer_norm(image, norm.weight.shape, eps=norm.eps)
        return cls(places, norm.weight, norm.bias)


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
        self.refines = refines(model.mask_decoder, model.dense_prompts)

    def prepare(self, embedding: Tensor, details: Sequence[Tensor] = ()) -> ImageSide:
        """Compute once what all prompts on an image share.

        Parameters
        ----------
        embedding : Tensor
            (1, 256, g, g). A smaller one than the whole frame's is its part at the top left.
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
        """Do so of the embedding alone; see `prepare`."""
        image = embedding[0].flatten(1).T  # (P, 256)
        placed = image + self._positions(embedding.shape[-2:])
        layer = self.mask_decoder.transformer.layers[0]
        return ImageSide(
            image,
            _projected(layer.cross_attn_token_to_image.k_proj, placed),
            _projected(layer.cross_attn_token_to_image.v_proj, image),
            _projected(layer.cross_attn_image_to_token.q_proj, placed),
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
            (3, 128, P): for tokens to image, image to tokens, and the last tokens to image.
        """
        positions = self._positions(shape).T
        transformer = self.mask_decoder.transformer
        weights = [
            transformer.layers[1].cross_attn_token_to_image.k_proj.weight,
            transformer.layers[1].cross_attn_image_to_token.q_proj.weight,
            transformer.final_attn_token_to_image.k_proj.weight,
        ]
        return torch.stack([weight @ positions for weight in weights])

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
            (3, 128, P), from `placed`.
        """
        points_and_labels = None if points is None else (points, labels)
        sparse, _ = self.prompt_encoder(points_and_labels, boxes, None)
        if points is None and boxes is None:  # it takes one row for granted then
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
        """Do the same with prompts that are tokens already.

        Parameters
        ----------
        side : ImageSide
        sparse : Tensor
            (N, T − 5, 256), tokens of points and boxes.
        masks : Tensor or None
            (N, 1, 4g, 4g), logits.
        placed : Tensor
            (3, 128, P), from `placed`.
        """
        decoder = self.mask_decoder
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([own.expand(sparse.shape[0], -1, -1), sparse], dim=1)
        first, second = decoder.transformer.layers
        dense = self.dense_prompt(masks)
        queries, image = self._first_layer(first, side, tokens, dense)
        queries, image = self._second_layer(second, queries, tokens, image, placed)
        last = decoder.transformer.final_attn_token_to_image
        queries = queries + _to_image(last, queries + tokens, image, placed[2])
        hidden = decoder.transformer.norm_final_attn(queries)
        # Token 1 is SAM's single mask, which nobody asks for.
        kernels = [
            mlp(hidden[:, 1 + i])
            for i, mlp in enumerate(decoder.output_hypernetworks_mlps)
            if i > 0
        ]
        scores = decoder.iou_prediction_head(hidden[:, 0])[:, 1:]
        return Answers(scores, torch.stack(kernels, dim=1), image.places)

    def dense_prompt(self, masks: Tensor | None) -> DensePrompt:
        """Embed mask prompts, but for the last step.

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
            (N, M, 32), those of `Answers` or some of them.
        shape : (int, int)
            Height and width of the embedding.
        details : tuple of Tensor, optional
            Of `ImageSide`: what is added, to all objects alike.

        Returns
        -------
        Tensor
            (N, M, 4 · height, 4 · width) logits.
        """
        height, width = shape
        to_half, norm, gelu, to_whole, last = self.mask_decoder.output_upscaling
        of_image = self.mask_decoder.transformer.layers[1].norm4
        # (N, P, 256) → (N, 4 P, 64) → (N, 16 P, 32), places within places
        pixels = _within(to_half, image, of_image)
        if details is not None:
            pixels = pixels + details[0]
        pixels = F.layer_norm(
            pixels, norm.weight.shape, norm.weight, norm.bias, norm.eps
        )
        pixels = _within(to_whole, gelu(pixels))
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
        """(P, 256) positional encoding of the frame's part at the top left."""
        frame = self.prompt_encoder.get_dense_pe()[0]  # (256, g, g)
        part: Tensor = frame[:, : shape[0], : shape[1]].flatten(1).T
        return part

    def _first_layer(
        self, layer: Any, side: ImageSide, tokens: Tensor, dense: DensePrompt
    ) -> tuple[Tensor, _Normed]:
        """(N, T, 256) tokens and (N, P, 256) image after the first layer."""
        queries = layer.norm1(layer.self_attn(tokens, tokens, tokens))
        to_image = layer.cross_attn_token_to_image
        q = _scaled(to_image, to_image.q_proj(queries + tokens))
        scores = q @ _channels_by_head(side.keys, to_image)  # (N, 8, T, P)
        shares = F.softmax(dense.scored(scores, q, to_image.k_proj), dim=-1)
        found = shares @ _channels_by_head(side.values, to_image).transpose(-1, -2)
        found = found + dense.mean(shares, to_image.v_proj, to_image.num_heads)
        queries = layer.norm2(queries + to_image.out_proj(_joined(found)))
        queries = layer.norm3(queries + layer.mlp(queries))
        from_tokens = layer.cross_attn_image_to_token
        offered = _scaled(from_tokens, from_tokens.k_proj(queries + tokens))
        scores = offered @ _channels_by_head(side.queries, from_tokens)
        scores = dense.scored(scores, offered, from_tokens.q_proj, constant=True)
        image = dense.added(
            side.embedding,
            *_shares_and_tokens(from_tokens, scores, queries, dense.constant),
        )
        return queries, _Normed.of(layer.norm4, image)

    def _second_layer(
        self,
        layer: Any,
        queries: Tensor,
        tokens: Tensor,
        image: _Normed,
        placed: Tensor,
    ) -> tuple[Tensor, _Normed]:
        """(N, T, 256) tokens and (N, P, 256) image after the second layer."""
        q = queries + tokens
        queries = layer.norm1(queries + layer.self_attn(q, q, queries))
        to_image = layer.cross_attn_token_to_image
        queries = layer.norm2(
            queries + _to_image(to_image, queries + tokens, image, placed[0])
        )
        queries = layer.norm3(queries + layer.mlp(queries))
        from_tokens = layer.cross_attn_image_to_token
        offered = _scaled(from_tokens, from_tokens.k_proj(queries + tokens))
        scores = _read(from_tokens.q_proj, offered, image, placed[1])
        projection = from_tokens.q_proj
        same = projection.bias + projection.weight @ image.shift
        scores = scores + offered @ same.view(from_tokens.num_heads, -1, 1)
        shares, values = _shares_and_tokens(from_tokens, scores, queries, image.shift)
        taken = shares.transpose(1, 2) @ values
        return queries, _Normed.of(layer.norm4, image.places * image.gain + taken)


class DensePrompt:
    """The dense prompts d = M h + c of N objects, without being computed whole.

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
        """E (P, 256) to e + d − c + sharesᵀ values: (N, P, 256)."""
        found = embedding[None]
        if self._inner is not None:
            inner, last = self._inner
            # One product for both: the sum of two would be read and written once more.
            shares = torch.cat([shares, inner], dim=1)
            rows = last.T.expand(values.shape[0], -1, -1)
            values = torch.cat([values, rows], dim=1)
        return found + shares.transpose(1, 2) @ values

    def scored(
        self, scores: Tensor, tokens: Tensor, projection: Any, *, constant: bool = False
    ) -> Tensor:
        """Add t · (W d) to (N, 8, T, P) scores t · (W e) of (N, 8, T, 16) tokens.

        Without `constant` the part that is the same for all places is left out.
        """
        weight: Tensor = projection.weight
        heads = tokens.shape[1]
        if constant:
            scores = scores + tokens @ (weight @ self.constant).view(heads, -1, 1)
        if self._inner is None:
            return scores
        inner, last = self._inner
        reading = (tokens @ _by_head(weight @ last, heads)).flatten(1, 2)
        return scores + (reading @ inner).view(*tokens.shape[:3], -1)

    def mean(self, shares: Tensor, projection: Any, heads: int) -> Tensor:
        """Σ a (W d) over places of (N, 8, T, P) shares a: (N, 8, T, 16)."""
        weight: Tensor = projection.weight
        # Shares add up to 1, so the constant comes through whole.
        found = (weight @ self.constant).view(heads, 1, -1)
        if self._inner is None:
            return found
        inner, last = self._inner
        mean: Tensor = shares.flatten(1, 2) @ inner.transpose(1, 2)  # (N, 8 T, 16)
        mean = mean.view(*shares.shape[:3], -1)
        return found + mean @ _by_head(weight @ last, heads).transpose(-1, -2)


def mask_channels(layers: Any, masks: Tensor) -> Tensor:
    """Embed mask prompts as Segment Anything's prompt encoder does, up to the last convolution.

    Both convolutions take squares of 2 × 2 pixels. Sorted by their places in a square of 4 × 4, the
    pixels of all squares are rows, and everything is products of small matrices and these rows.

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
    """Weights or biases of output channels, without what all channels get."""
    return weight - weight.mean(dim=0, keepdim=True)


def _divided(norm: Any, x: Tensor, times: int) -> Tensor:
    """SAM's LayerNorm2d of (N, times · C, P), of C channels each, whose means are 0.

    The mean of squares comes from a product, for each channel anew: reductions and broadcasts over
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


def _projected(projection: Any, image: Tensor) -> Tensor:
    """Project (P, 256) tokens to (c, P) at once, without a transposed copy."""
    found: Tensor = projection.weight @ image.T + projection.bias[:, None]
    return found


def _heads(x: Tensor, attention: Attention) -> Tensor:
    """(N, n, c) → (N, heads, n, c / heads)."""
    width = x.shape[-1] // attention.num_heads
    return x.view(x.shape[0], -1, attention.num_heads, width).transpose(1, 2)


def _scaled(attention: Attention, projected: Tensor) -> Tensor:
    """(N, T, c) → (N, heads, T, c / heads), divided for scores."""
    found = _heads(projected, attention)
    return found / float(found.shape[-1] ** 0.5)


def _by_head(weight: Tensor, heads: int) -> Tensor:
    """Rows of a projection's weight, (c, n) → (heads, c / heads, n)."""
    return weight.view(heads, -1, weight.shape[-1])


def _channels_by_head(projected: Tensor, attention: Attention) -> Tensor:
    """(c, P) → (heads, c / heads, P)."""
    return _by_head(projected, attention.num_heads)


def _joined(x: Tensor) -> Tensor:
    """(N, heads, n, c) → (N, n, heads · c)."""
    return x.transpose(1, 2).flatten(2)


def _read(projection: Any, tokens: Tensor, image: _Normed, placed: Tensor) -> Tensor:
    """Scores t · W (x + p) by identities 2, 3 and 5, but for what all places have alike.

    Parameters
    ----------
    projection : Linear
        Of W, (c, 256).
    tokens : Tensor
        (N, heads, T, c / heads).
    image : _Normed
    placed : Tensor
        (c, P), W p.

    Returns
    -------
    Tensor
        (N, heads, T, P).
    """
    heads = tokens.shape[1]
    weight = projection.weight * image.gain
    reading = (tokens @ _by_head(weight, heads)).flatten(1, 2)
    scores = reading @ image.places.transpose(-1, -2)  # (N, 8 T, P)
    return scores.view(*tokens.shape[:3], -1) + tokens @ _by_head(placed, heads)


def _to_image(
    attention: Attention, tokens: Tensor, image: _Normed, placed: Tensor
) -> Tensor:
    """`Attention.forward` of tokens to the image's places, (N, T, 256), by 2, 3 and 5."""
    heads, count = attention.num_heads, tokens.shape[1]
    q = _scaled(attention, attention.q_proj(tokens))  # (N, 8, T, 16)
    shares = F.softmax(_read(attention.k_proj, q, image, placed), dim=-1)
    mean = shares.flatten(1, 2) @ image.places  # (N, 8 T, 256)
    mean = mean.view(-1, heads, count, mean.shape[-1])
    projection = attention.v_proj
    weight = projection.weight * image.gain
    found = mean @ _by_head(weight, heads).transpose(-1, -2)
    # The weights of a mean add up to 1, so what all places have comes through whole.
    joined = _joined(found) + (projection.bias + projection.weight @ image.shift)
    out: Tensor = attention.out_proj(joined)
    return out


def _shares_and_tokens(
    attention: Attention, scores: Tensor, tokens: Tensor, constant: Tensor
) -> tuple[Tensor, Tensor]:
    """Factor what the image takes from tokens, the output's bias and a constant with it.

    Parameters
    ----------
    attention : Attention
    scores : Tensor
        (N, 8, T, P).
    tokens : Tensor
        (N, T, 256).
    constant : Tensor
        (256,), what every place gets besides.

    Returns
    -------
    shares : Tensor
        (N, 8 T, P), how much of each a place takes.
    values : Tensor
        (N, 8 T, 256), what it takes.
    """
    values = _heads(attention.v_proj(tokens), attention)  # (N, 8, T, 16)
    # Identity 2 for the output: (N, 8, T, 256), columns of out_proj's weight by head
    weight = attention.out_proj.weight.T.reshape(attention.num_heads, -1, 256)
    # A place's shares of each head add up to 1.
    alike = (attention.out_proj.bias + constant) / attention.num_heads
    values = (values @ weight).flatten(1, 2) + alike
    return F.softmax(scores, dim=2).flatten(1, 2), values


def places_within(x: Tensor, steps: int) -> Tensor:
    """(1, C, h, w) to (h w, C), in the order in which `steps` times `_within` gives places.

    Each step splits a place into four, in reading order: so one bit of row and column each.
    """
    _, channels, height, width = x.shape
    twos = (2,) * steps
    sizes = (channels, height // 2**steps, *twos, width // 2**steps, *twos)
    # Axes 1 and 2 + steps are the coarsest row and column; then come row and column of each step.
    pairs = [axis for n in range(1 + steps) for axis in (1 + n, 2 + steps + n)]
    return x[0].reshape(sizes).permute(*pairs, 0).reshape(-1, channels)


def _within(layer: Any, places: Tensor, norm: Any = None) -> Tensor:
    """Transposed convolution of stride 2 with a kernel of 2: (N, P, c) → (N, 4 P, C).

    A place becomes its four pixels, in reading order. A norm's weight and bias, which the places
    have not got yet, go into the layer's own.
    """
    quantized = layer if isinstance(layer, QuantizedLayer) else None
    if quantized is not None:
        if norm is not None:
            places, norm = places * norm.weight + norm.bias, None
        layer, places = quantized.layer, quantized.given.rounded(places)
    channels, wider = layer.weight.shape[:2]  # (c, C, 2, 2)
    weight = layer.weight.permute(2, 3, 1, 0).reshape(4 * wider, channels)
    bias = layer.bias.repeat(4)
    if quantized is not None:
        weight = quantized.rounded_rows(weight, repeated=4)
    if norm is not None:
        bias = bias + weight @ norm.bias
        weight = weight * norm.weight
    found: Tensor = F.linear(places, weight, bias)
    return found.view(found.shape[0], -1, wider)
