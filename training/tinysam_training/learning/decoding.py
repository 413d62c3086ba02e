"""The mask decoder for training: many windows, many objects, any mixture of prompts, one batch.

Segment Anything's own decoder takes one image at a time, and all its prompts must have one form.
Here each of N objects has its own window, and attention ignores absent points, boxes and masks, so
every object gets the same answer as if it were decoded alone. The modules are the official ones;
only the order of the computation is ours. Without mask prompts, the first layer's projections of
the image are computed once per window instead of once per object, which is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from napari_tinysam.frame import CELL
from napari_tinysam.model import (
    ImageFeatures,
    projected_details,
    refined,
    upscaled,
)

if TYPE_CHECKING:
    from segment_anything.modeling.transformer import Attention
    from torch import Tensor

    from napari_tinysam.model import SegmentAnything

#: Output tokens of the decoder that are used: predicted IoU and the three masks. Token 1 of the
#: official order is SAM's single mask, which this family of models does not use.
USED_TOKENS = (0, 2, 3, 4)


@dataclass(frozen=True, eq=False)
class Decoded:
    """The decoder's predictions for N objects.

    Attributes
    ----------
    logits : Tensor
        (N, 3, 4g, 4g) mask logits of the object's window.
    scores : Tensor
        (N, 3) predicted IoU.
    tokens : Tensor
        (N, 4, 256) output tokens of the two-way transformer: IoU and three masks (T in the paper's
        L_token).
    """

    logits: Tensor
    scores: Tensor
    tokens: Tensor


def decode(
    model: SegmentAnything,
    features: ImageFeatures,
    offset: Tensor,
    window: Tensor,
    points: Tensor,
    labels: Tensor,
    boxes: Tensor,
    masks: Tensor | None = None,
) -> Decoded:
    """Decode N objects in B windows of the model's frame.

    Parameters
    ----------
    model : SegmentAnything
        Its prompt encoder and mask decoder are used.
    features : ImageFeatures
        Of B windows of 16g pixels; a decoder of `DetailedMaskDecoder` reads their details.
    offset : Tensor
        (B, 2) int, place of each window in the frame: y and x in cells of 16 pixels. The decoder
        gets that part of the frame's positional encoding.
    window : Tensor
        (N,) int, the window of each object.
    points, labels : Tensor
        (N, P, 2), x and y in pixels of the window, and (N, P): 1, 0, or −1 where there is none.
    boxes : Tensor
        (N, 4), x0, y0, x1, y1 in pixels of the window; NaN where there is none.
    masks : Tensor, optional
        (N, 1, 4g, 4g), logits of an earlier prediction; NaN where there is none.

    Returns
    -------
    Decoded
    """
    decoder: Any = model.mask_decoder
    embedding = features.embedding
    count, cells = len(window), embedding.shape[-1]
    sparse, present = embed_prompts(model, offset[window], points, labels, boxes)
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])  # (5, 256)
    tokens = torch.cat([own.expand(count, -1, -1), sparse.to(own.dtype)], dim=1)
    present = F.pad(present, (len(own), 0), value=True)  # (N, T)
    pe = cut_positions(model, offset, cells)  # (B, g·g, 256)
    hidden, source = _transform(
        model, embedding, _dense(model, masks, cells), pe, tokens, present, window
    )

    # (N, g·g, 256) → (N, 256, g, g) → (N, 32, 4g, 4g)
    source = source.transpose(1, 2).view(count, source.shape[-1], cells, cells)
    details = projected_details(decoder, features)
    if details is not None:
        details = (details[0][window], details[1][window])
    pixels = upscaled(decoder, source, details)
    weights = torch.stack(
        [
            mlp(hidden[:, 1 + i])
            for i, mlp in enumerate(decoder.output_hypernetworks_mlps)
            if 1 + i in USED_TOKENS
        ],
        dim=1,
    )  # (N, 3, 32)
    logits = (weights @ pixels.flatten(2)).view(count, 3, 4 * cells, 4 * cells)
    if model.dense_prompts:
        details_of_each = tuple(each[window] for each in features.details[:2])
        of_each = ImageFeatures(embedding, details_of_each)
        logits = refined(decoder, of_each, logits, masks, boxes)
    scores = decoder.iou_prediction_head(hidden[:, 0])[:, 1:]
    return Decoded(logits, scores, hidden[:, list(USED_TOKENS)])


def embed_prompts(
    model: SegmentAnything,
    offset: Tensor,
    points: Tensor,
    labels: Tensor,
    boxes: Tensor,
) -> tuple[Tensor, Tensor]:
    """Embed points and boxes as tokens, and mark those that are present.

    Parameters
    ----------
    model : SegmentAnything
    offset : Tensor
        (N, 2), place of each object's window, in cells.
    points, labels, boxes
        As in `decode`.

    Returns
    -------
    sparse : Tensor
        (N, P + 3, 256): the points, Segment Anything's padding token (present where there is no
        box), the two corners of the box.
    present : Tensor
        (N, P + 3) bool.
    """
    encoder: Any = model.prompt_encoder
    size = encoder.input_image_size
    shift = (offset * CELL).flip(-1).float()  # (N, 2), x and y
    has_box = ~boxes.isnan().any(1)  # (N,)
    corners = boxes.nan_to_num().view(-1, 2, 2)
    xy = torch.cat([points, corners], dim=1) + shift[:, None] + 0.5
    # bfloat16 would round positions by several pixels.
    with torch.autocast(xy.device.type, enabled=False):
        pe = encoder.pe_layer.forward_with_coords(xy.float(), size)  # (N, P + 2, 256)
    negative, positive, first, second = (e.weight for e in encoder.point_embeddings)
    kinds = torch.where((labels == 1)[..., None], positive, negative)
    of_points = pe[:, : points.shape[1]] + kinds
    of_corners = pe[:, points.shape[1] :] + torch.cat([first, second])
    padding = encoder.not_a_point_embed.weight.expand(len(points), 1, -1)
    sparse = torch.cat([of_points, padding, of_corners], dim=1)
    present = torch.cat(
        [labels >= 0, ~has_box[:, None], has_box[:, None].expand(-1, 2)], dim=1
    )
    return sparse, present


def cut_positions(model: SegmentAnything, offset: Tensor, cells: int) -> Tensor:
    """(B, g·g, 256) positional encodings of the windows, cut out of the frame's.

    Parameters
    ----------
    model : SegmentAnything
    offset : Tensor
        (B, 2) int, y and x in cells.
    cells : int
        Side of the windows, g.
    """
    encoder: Any = model.prompt_encoder
    with torch.autocast(offset.device.type, enabled=False):
        frame = encoder.get_dense_pe()[0].permute(1, 2, 0)  # (64, 64, 256)
    steps = torch.arange(cells, device=offset.device)
    ys = offset[:, :1] + steps  # (B, g)
    xs = offset[:, 1:] + steps
    return frame[ys[:, :, None], xs[:, None, :]].flatten(1, 2)  # type: ignore[no-any-return]


def _dense(model: SegmentAnything, masks: Tensor | None, cells: int) -> Tensor:
    """Dense prompt: (N, g·g, 256), or (1, 1, 256) where no object has a mask."""
    encoder: Any = model.prompt_encoder
    none: Tensor = encoder.no_mask_embed.weight.view(1, 1, -1)
    if masks is None:
        return none
    has_mask = ~masks.isnan().flatten(1).any(1)
    embedded = encoder.mask_downscaling(masks.nan_to_num())  # (N, 256, g, g)
    return torch.where(
        has_mask[:, None, None], embedded.flatten(2).transpose(1, 2), none
    )


def _transform(
    model: SegmentAnything,
    embedding: Tensor,
    dense: Tensor,
    pe: Tensor,
    tokens: Tensor,
    present: Tensor,
    window: Tensor,
) -> tuple[Tensor, Tensor]:
    """`TwoWayTransformer.forward`: tokens (N, T, 256), image (N, g·g, 256)."""
    transformer: Any = model.mask_decoder.transformer
    image = embedding.flatten(2).transpose(1, 2)  # (B, g·g, 256)
    shared = (
        len(dense) == 1
    )  # no object has a mask, so all objects of a window share one image
    keys = image + dense if shared else image[window] + dense
    key_pe = pe if shared else pe[window]
    rows = window if shared else None
    queries = tokens
    for i, layer in enumerate(transformer.layers):
        if layer.skip_first_layer_pe:
            queries = _attend(layer.self_attn, queries, queries, queries, present)
        else:
            q = queries + tokens
            queries = queries + _attend(layer.self_attn, q, q, queries, present)
        queries = layer.norm1(queries)

        q, k = queries + tokens, keys + key_pe
        queries = queries + _attend(
            layer.cross_attn_token_to_image, q, k, keys, key_rows=rows
        )
        queries = layer.norm2(queries)
        queries = layer.norm3(queries + layer.mlp(queries))

        q = queries + tokens
        found = _attend(
            layer.cross_attn_image_to_token, k, q, queries, present, query_rows=rows
        )
        if i == 0 and shared:  # from here on every object has its own image
            keys, key_pe, rows = keys[window], pe[window], None
        keys = layer.norm4(keys + found)
    found = _attend(
        transformer.final_attn_token_to_image, queries + tokens, keys + key_pe, keys
    )
    return transformer.norm_final_attn(queries + found), keys


def _attend(
    attention: Attention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    present: Tensor | None = None,
    *,
    query_rows: Tensor | None = None,
    key_rows: Tensor | None = None,
) -> Tensor:
    """`Attention.forward` without the keys that are not present.

    `query_rows` and `key_rows` (N,) spread projections that objects of a window share.
    """
    heads = attention.num_heads

    def split(x: Tensor, rows: Tensor | None) -> Tensor:
        x = x if rows is None else x[rows]
        width = x.shape[-1] // heads
        return x.view(*x.shape[:2], heads, width).transpose(1, 2)  # (N, heads, n, c)

    found = F.scaled_dot_product_attention(
        split(attention.q_proj(q), query_rows),
        split(attention.k_proj(k), key_rows),
        split(attention.v_proj(v), key_rows),
        attn_mask=None if present is None else present[:, None, None, :],
    )
    out: Tensor = attention.out_proj(found.transpose(1, 2).flatten(2))
    return out
