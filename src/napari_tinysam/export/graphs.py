"""What is exported: a model as two modules that say all they need by their inputs.

The drawing of prompts here is `napari_tinysam.dense_prompts` once more, for all points at once: a
graph cannot count points in a loop. A test compares the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_tinysam.dense_prompts import (
    CLICKED,
    EDGE,
    FILLED,
    LOGIT,
    MARKED,
    REACH,
    SURE,
    first_guess,
)
from napari_tinysam.frame import CELL
from napari_tinysam.model.fast.decoder import (
    DensePrompt,
    RestructuredDecoder,
    mask_channels,
    places_within,
)
from napari_tinysam.model.fast.encoder import GraphEncoder
from napari_tinysam.model.mask_decoder import (
    DetailedMaskDecoder,
    projected_details,
    refines,
)

if TYPE_CHECKING:
    from napari_tinysam.model import ImageFeatures, SegmentAnything

#: Labels of points, as in Segment Anything's own export.
_NO_POINT, _BESIDE, _ON, _FIRST_CORNER, _SECOND_CORNER = -1, 0, 1, 2, 3

#: Channels that the decoder's own details have at strides 8 and 4.
_DETAILS = (64, 32)

#: Farther than any place, in pixels. Infinity would become NaN in the arithmetic of some runtimes.
_FAR = 1e6


class EncoderGraph(nn.Module):
    """An image to its embedding, and to details and object maps where the model has them.

    Parameters
    ----------
    model : SegmentAnything
        With a TinyViT or EfficientNet encoder, in eval mode. Used, not copied.
    frame_size : int
        S, side of the frame in pixels, a multiple of 16, for an EfficientNet of 32.
    """

    def __init__(self, model: SegmentAnything, frame_size: int) -> None:
        super().__init__()
        self.encoder = GraphEncoder(model)
        self.decoder = model.mask_decoder
        self.refines = refines(model.mask_decoder, model.dense_prompts)
        self.register_buffer("mean", model.pixel_mean)
        self.register_buffer("std", model.pixel_std)
        self.register_buffer("steps", torch.arange(frame_size))

    def forward(self, image: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        """Embed an image.

        Parameters
        ----------
        image : Tensor
            (1, S, S, 3) uint8 RGB, the image at the top left.
        size : Tensor
            (2,) int64, height and width of the image in it.

        Returns
        -------
        embedding : Tensor
            (1, 256, S / 16, S / 16) float32.
        details_8, details_4 : Tensor
            (1, 64, S / 8, S / 8) and (1, 32, S / 4, S / 4) float32; only where the decoder reads
            details. They are projected already, once an image: for the decoder, and behind that,
            where it refines masks, 48 and 24 channels for the refiner.
        object_maps : Tensor
            (1, 3, S / 4, S / 4) float32 in 0–1, or (1, 3, S / 2, S / 2); only with an object head.
        """
        steps = self.get_buffer("steps")
        normalized = image.permute(0, 3, 1, 2).float() - self.get_buffer("mean")
        normalized = normalized / self.get_buffer("std")
        # The padding is 0 after the normalisation, not before.
        inside = (steps < size[0])[:, None] & (steps < size[1])[None]
        features, maps = self.encoder(normalized * inside.float())
        found = [features.embedding, *self._details(features)]
        return tuple(found) if maps is None else (*found, maps.sigmoid())

    def _details(self, features: ImageFeatures) -> tuple[Tensor, ...]:
        added = projected_details(self.decoder, features)
        if added is None or not self.refines:
            return added or ()
        decoder: Any = self.decoder
        fine = decoder.refiner.projected(features.details)
        return tuple(torch.cat(pair, dim=1) for pair in zip(added, fine, strict=True))


def detail_channels(model: SegmentAnything) -> tuple[int, int]:
    """Channels of `details_8` and `details_4`: what the decoder adds, then what the refiner."""
    channels = [_DETAILS[0], _DETAILS[1]]
    if refines(model.mask_decoder, model.dense_prompts):
        decoder: Any = model.mask_decoder
        for i, layer in enumerate(decoder.refiner.details):
            channels[i] += layer.out_channels
    return channels[0], channels[1]


class DecoderGraph(nn.Module):
    """Prompts of N objects on an image to their masks.

    Parameters
    ----------
    model : SegmentAnything
        In eval mode. Used, not copied.
    frame_size : int
        S, as of the encoder.
    """

    def __init__(self, model: SegmentAnything, frame_size: int) -> None:
        super().__init__()
        # With dense prompts there is a mask prompt for every object.
        kind = RestructuredDecoder if model.dense_prompts else _OptionalMasks
        self.decoder = kind(model)
        self.cells = frame_size // CELL
        encoder: Any = model.prompt_encoder
        self.positions: Any = encoder.pe_layer
        self.image_size = model.image_size
        kinds = [encoder.not_a_point_embed, *encoder.point_embeddings]
        self.register_buffer("kinds", torch.cat([kind.weight for kind in kinds]))
        self.dense_prompts = model.dense_prompts
        self.detailed = isinstance(model.mask_decoder, DetailedMaskDecoder)
        self.refines = refines(model.mask_decoder, model.dense_prompts)
        centres = LOGIT * torch.arange(frame_size // LOGIT) + (LOGIT - 1) / 2
        self.register_buffer("centres", centres)

    def forward(
        self,
        embedding: Tensor,
        points: Tensor,
        labels: Tensor,
        mask_prompt: Tensor,
        has_mask: Tensor,
        *more: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Decode prompts.

        Parameters
        ----------
        embedding : Tensor
            (1, 256, S / 16, S / 16), of the encoder.
        points : Tensor
            (N, P, 2) float32, (x, y) in pixels of the frame; P is 1 or more.
        labels : Tensor
            (N, P) int64: 1 on the object, 0 beside it, 2 and 3 the first and the second corner of
            a box, −1 no point.
        mask_prompt : Tensor
            (N, 1, S / 4, S / 4) float32, logits of an earlier answer.
        has_mask : Tensor
            (N,) float32: 1 where `mask_prompt` is to be read, else 0.
        *more : Tensor
            Where the decoder reads details, `details_8` and `details_4` of the encoder. Then, for
            models with dense prompts and an object head, `regions`: (S / 4, S / 4) int32, numbers
            of the objects that the object head sees, 0 where there is none.

        Returns
        -------
        masks : Tensor
            (N, 3, S / 4, S / 4) float32 logits.
        scores : Tensor
            (N, 3) float32, predicted IoU.
        """
        details, fine = None, None
        if self.detailed:
            added = [x[:, :n] for x, n in zip(more[:2], _DETAILS, strict=True)]
            details = places_within(added[0], 1), places_within(added[1], 2)
            if self.refines:
                fine = more[0][:, _DETAILS[0] :], more[1][:, _DETAILS[1] :]
            more = more[2:]
        regions = more[0] if more else None
        given = has_mask > 0
        if self.dense_prompts:
            drawn = self.drawn(points, labels, mask_prompt[:, 0], given, regions)
            masks = drawn[:, None]
        else:
            flags = given.float()[:, None, None, None].expand_as(mask_prompt)
            masks = torch.cat([mask_prompt, flags], dim=1)
        shape = (self.cells, self.cells)
        answers = self.decoder.attend(
            self.decoder.prepare_embedding(embedding),
            self.tokens(points, labels),
            masks,
            self.decoder.placed(shape),
        )
        logits = self.decoder.upscale(answers.image, answers.kernels, shape, details)
        if self.dense_prompts:
            if fine is not None:
                inside, boxed = self._boxes(points, labels)
                boxes = torch.where(boxed, inside, 0.0)
                logits = self.decoder.refine(logits, masks[:, 0], boxes, fine)
            logits = logits + first_guess(torch, masks[:, 0])
        return logits, answers.scores

    def tokens(self, points: Tensor, labels: Tensor) -> Tensor:
        """Embed points and corners: (N, P, 256), or P + 1.

        The model knows points without a box with a token behind them that is no point. Users of
        Segment Anything's export add it by hand; where nobody did, it is added here.
        """
        # 0.5: from the pixel's centre to its place between 0 and the frame's side.
        placed = self.positions._pe_encoding((points + 0.5) / self.image_size)
        kinds = self.get_buffer("kinds")
        known = labels.clamp(_NO_POINT, _SECOND_CORNER)
        # Not by a product with 0: what is no point may be NaN.
        placed = torch.where((known == _NO_POINT)[..., None], 0.0, placed)
        tokens = placed + kinds[known + 1]
        lonely = ((known == _ON) | (known == _BESIDE)).all()
        last = kinds[:1].expand(points.shape[0], 1, -1)
        return torch.cat([tokens, last[:, : lonely.long()]], dim=1)

    def drawn(
        self,
        points: Tensor,
        labels: Tensor,
        masks: Tensor,
        given: Tensor,
        regions: Tensor | None,
    ) -> Tensor:
        """Do what `draw_prompts` does, for (N, h, w) masks that count where given, (N,)."""
        centres = self.get_buffer("centres")
        ys, xs = centres[:, None], centres[None]
        x, y = points[..., 0, None, None], points[..., 1, None, None]
        away = torch.sqrt((xs - x) ** 2 + (ys - y) ** 2)  # (N, P, h, w)
        positive = (labels == _ON)[..., None, None]
        negative = (labels == _BESIDE)[..., None, None]
        on, off = _nearest(away, positive), _nearest(away, negative)  # (N, h, w)
        lone, held = on, None
        if regions is not None:
            last = regions.shape[0] - 1
            column, row = (
                ((points[..., axis] + 0.5) / LOGIT).floor().long().clamp(0, last)
                for axis in (0, 1)
            )
            under = regions[row, column][..., None, None]
            same = (regions == under) & (under > 0)
            refused = (same & negative).any(dim=1)
            held = (same & positive).any(dim=1) & (~refused | (on <= off))
            lone = _nearest(away, positive & (under == 0))
        cone = (SURE * (1 - lone / REACH)).clamp(-SURE, SURE)
        cone = torch.where(off < lone, cone.clamp(max=0.0), cone)
        if held is not None:
            cone = torch.where(held, SURE, cone)
        clicked = positive.any(dim=1)
        drawn = torch.where(clicked, cone, torch.zeros_like(cone))
        inside, boxed = self._boxes(points, labels)
        if regions is not None:
            inside = _object_in(inside, regions)
        drawn = torch.where(boxed, inside, drawn)
        drawn = torch.where(given[:, None, None], masks, drawn)
        marks = torch.where(on <= off, CLICKED, -CLICKED)
        return torch.where(torch.minimum(on, off) < MARKED, marks, drawn)

    def _boxes(self, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(N, h, w) logits of boxes, and (N, 1, 1) whether there is one."""
        centres = self.get_buffer("centres")
        first = (labels == _FIRST_CORNER)[..., None]
        second = (labels == _SECOND_CORNER)[..., None]
        x0, y0, x1, y1 = (
            torch.where(corner, points, 0.0).sum(dim=1)[:, axis, None, None]
            for corner in (first, second)
            for axis in (0, 1)
        )
        ys, xs = centres[:, None], centres[None]
        depth = torch.minimum(
            torch.minimum(xs - x0, x1 - xs), torch.minimum(ys - y0, y1 - ys)
        )
        boxed = first.any(dim=1) & second.any(dim=1)
        return (depth * (SURE / EDGE)).clamp(-SURE, SURE), boxed[..., None]


def _object_in(inside: Tensor, regions: Tensor) -> Tensor:
    """Do what `napari_tinysam.dense_prompts` does of the same name; all objects see one image."""
    within = inside >= -SURE * (LOGIT / 2) / EDGE  # (N, h, w)
    numbers = regions.long()
    # There are no more objects than logits. Not by `bincount`, of which graphs know nothing.
    counts = torch.zeros_like(inside.flatten(1))
    counts = counts.scatter_add(
        1,
        numbers.flatten().expand(inside.shape[0], -1),
        (within & (numbers > 0)).flatten(1).to(inside.dtype),
    )
    filled, best = counts.max(dim=1)
    enough = filled > FILLED * within.flatten(1).to(inside.dtype).sum(dim=1)
    held = within & (numbers == best[:, None, None])
    as_object = torch.where(held, SURE, -SURE)
    return torch.where(enough[:, None, None], as_object, inside)


def _nearest(away: Tensor, counted: Tensor) -> Tensor:
    """(N, P, h, w) distances to those of the nearest point that counts."""
    return torch.where(counted, away, _FAR).amin(dim=1)


class _OptionalMasks(RestructuredDecoder):
    """A decoder for objects some of which have a mask prompt.

    Its masks are (N, 2, 4g, 4g): logits, and 1 where they count, else 0. The dense prompt of a mask
    is d = M h + c with 16 channels h, and that of no mask is a constant e. With a 17th channel that
    is 1 where there is no mask, and e − c as its column of M, both are the same product.
    """

    def dense_prompt(self, masks: Tensor | None) -> DensePrompt:
        """See `RestructuredDecoder.dense_prompt`."""
        if masks is None:
            return super().dense_prompt(None)
        encoder = self.prompt_encoder
        last = encoder.mask_downscaling[-1]  # 1 × 1
        nothing = encoder.no_mask_embed.weight[0] - last.bias
        weight = torch.cat([last.weight[:, :, 0, 0], nothing[:, None]], dim=1)
        flags = masks[:, 1:, ::4, ::4].flatten(2)  # (N, 1, P)
        inner = mask_channels(encoder.mask_downscaling[:-1], masks[:, :1])
        inner = torch.where(flags > 0, inner, 0.0)
        inner = torch.cat([inner, 1 - flags], dim=1)
        return DensePrompt(last.bias, inner, weight)
