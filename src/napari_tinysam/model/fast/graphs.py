"""A model as modules to trace: what OpenVINO runs here, and what is exported for other programs.

Both begin with the same reading of an image. OpenVINO's graphs then hand over the parts of
`ImageSide`, and embed and draw prompts outside, in numpy. The exported decoder does all of that by
itself, from points and labels as in Segment Anything's own export.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_tinysam.dense_prompts import draw, draw_boxes, first_guess
from napari_tinysam.frame import CELL, EMBED_DIM
from napari_tinysam.model.fast.decoder import ImageSide, RestructuredDecoder
from napari_tinysam.model.fast.encoder import GraphEncoder
from napari_tinysam.model.fast.mask_prompt import DensePrompt, mask_channels
from napari_tinysam.model.fast.places import places_within
from napari_tinysam.model.mask_decoder import (
    DetailedMaskDecoder,
    projected_details,
    refines,
)

if TYPE_CHECKING:
    from napari_tinysam.model.encoders.kind import ImageFeatures
    from napari_tinysam.model.sam import SegmentAnything

#: Channels of the projected details at strides 8 and 4 that the mask decoder adds.
_DETAILS = (EMBED_DIM // 4, EMBED_DIM // 8)

#: Labels of points, as in Segment Anything's own export.
_NO_POINT, _BESIDE, _ON, _FIRST_CORNER, _SECOND_CORNER = -1, 0, 1, 2, 3


class MapsGraph(nn.Module):
    """An image to its object maps.

    Parameters
    ----------
    model : SegmentAnything
        With an encoder that has a graph, in eval mode. Used, not copied.
    """

    def __init__(self, model: SegmentAnything) -> None:
        super().__init__()
        self.encoder = GraphEncoder(model)
        self.register_buffer("mean", model.pixel_mean)
        self.register_buffer("std", model.pixel_std)

    def encode(
        self, image: Tensor, size: Tensor
    ) -> tuple[ImageFeatures, tuple[Tensor, ...]]:
        """Normalise and embed an image.

        Parameters
        ----------
        image : Tensor
            (1, S, S, 3) uint8 RGB, the image at the top left.
        size : Tensor
            (2,) int64, height and width of the image in it.

        Returns
        -------
        features : ImageFeatures
        maps : tuple of Tensor
            (1, 3, m, m) object maps in 0–1; empty without an object head.
        """
        steps = torch.arange(image.shape[1])
        normalized = image.permute(0, 3, 1, 2).float() - self.get_buffer("mean")
        normalized = normalized / self.get_buffer("std")
        # The padding is 0 after the normalisation, not before.
        inside = (steps < size[0])[:, None] & (steps < size[1])[None]
        features, maps = self.encoder(normalized * inside.float())
        return features, () if maps is None else (maps.sigmoid(),)

    def forward(self, image: Tensor, size: Tensor) -> Any:
        """Predict the (3, m, m) object maps; parameters as for `encode`."""
        (maps,) = self.encode(image, size)[1]
        return maps[0]


class ImageSideGraph(MapsGraph):
    """An image to `ImageSide`, with its details in float16, and (3, m, m) object maps.

    Parameters
    ----------
    model, decoder : SegmentAnything, RestructuredDecoder
    """

    def __init__(self, model: SegmentAnything, decoder: RestructuredDecoder) -> None:
        super().__init__(model)
        self.decoder = decoder

    def forward(self, image: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        """Embed an image; parts that are None are left out."""
        features, maps = self.encode(image, size)
        side = self.decoder.prepare(features.embedding, features.details).halved()
        return (*(x for x in side if x is not None), *(each[0] for each in maps))


class EmbeddingGraph(MapsGraph):
    """An image to its embedding, to projected details, and to object maps: the exported encoder."""

    def __init__(self, model: SegmentAnything) -> None:
        super().__init__(model)
        self.decoder: Any = model.mask_decoder
        self.refines = refines(model.mask_decoder, model.dense_prompts)

    def forward(self, image: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        """Embed an image.

        Returns
        -------
        embedding : Tensor
            (1, 256, S / 16, S / 16) float32.
        details_8, details_4 : Tensor
            (1, 64, S / 8, S / 8) and (1, 32, S / 4, S / 4) float32; only where the decoder reads
            details. A decoder that refines masks gets 48 and 24 channels more, for the refiner.
        object_maps : Tensor
            (1, 3, S / 4, S / 4) float32 in 0–1, or (1, 3, S / 2, S / 2); only with an object head.
        """
        features, maps = self.encode(image, size)
        added: tuple[Tensor, ...] = projected_details(self.decoder, features) or ()
        if self.refines:
            fine = self.decoder.refiner.projected(features.details)
            pairs = zip(added, fine, strict=True)
            added = tuple(torch.cat(pair, dim=1) for pair in pairs)
        return (features.embedding, *added, *maps)


def detail_channels(model: SegmentAnything) -> tuple[int, int]:
    """Channels of `details_8` and `details_4`: first the decoder's, then the refiner's."""
    if not refines(model.mask_decoder, model.dense_prompts):
        return _DETAILS
    refiner: Any = model.mask_decoder.refiner
    half, whole = (layer.out_channels for layer in refiner.details)
    return _DETAILS[0] + half, _DETAILS[1] + whole


class AttentionGraph(nn.Module):
    """`RestructuredDecoder.attend`: prompts to scores, kernels and the image's tokens."""

    def __init__(self, decoder: RestructuredDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self,
        embedding: Tensor,
        keys: Tensor,
        values: Tensor,
        queries: Tensor,
        placed: Tensor,
        sparse: Tensor,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Decode prompts on the first four parts of an `ImageSide`."""
        side = ImageSide(embedding, keys, values, queries)
        return tuple(self.decoder.attend(side, sparse, masks, placed))


class UpscalerGraph(nn.Module):
    """(N, g, g, 256) tokens of the image and (N, 3, 32) kernels to (N, 3, 4 g, 4 g) logits.

    With details also (B, 4 P, 64) and (B, 16 P, 32) float16 that they add, of one image or of N
    windows. With a refiner also (N, 4 g,
    4 g) drawn prompts and boxes, and what details add there.
    """

    def __init__(self, decoder: RestructuredDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self,
        image: Tensor,
        kernels: Tensor,
        half: Tensor | None = None,
        whole: Tensor | None = None,
        drawn: Tensor | None = None,
        boxes: Tensor | None = None,
        *fine: Tensor,
    ) -> Tensor:
        """Draw masks, and refine them."""
        shape = (image.shape[1], image.shape[2])
        details = None
        if half is not None and whole is not None:
            details = half.float(), whole.float()
        found = self.decoder.upscale(image.flatten(1, 2), kernels, shape, details)
        if drawn is None or boxes is None:
            return found
        fine_half, fine_whole = (added.float() for added in fine)
        return self.decoder.refine(found, drawn, boxes, (fine_half, fine_whole))


class PromptGraph(nn.Module):
    """Points, boxes and earlier masks of N objects to their masks: the exported decoder.

    Parameters
    ----------
    model : SegmentAnything
        In eval mode. Used, not copied.
    frame_size : int
        S, side of the frame in pixels.
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
            (N, P) int64: 1 on the object, 0 outside it, 2 and 3 the first and the second corner of
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
            (half, whole), more = more[:2], more[2:]
            first, second = _DETAILS
            details = (
                places_within(half[:, :first], 1),
                places_within(whole[:, :second], 2),
            )
            if self.decoder.refines:
                fine = half[:, first:], whole[:, second:]
        given = has_mask > 0
        if self.dense_prompts:
            drawn = self.drawn(points, labels, mask_prompt[:, 0], given, *more)
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
                corners, has_box = _boxes(points, labels)
                boxes = draw_boxes(torch, self._map_shape, corners)
                boxes = torch.where(has_box[:, None, None], boxes, 0.0)
                logits = self.decoder.refine(logits, drawn, boxes, fine)
            logits = logits + first_guess(torch, drawn)
        return logits, answers.scores

    @property
    def _map_shape(self) -> tuple[int, int]:
        return 4 * self.cells, 4 * self.cells

    def tokens(self, points: Tensor, labels: Tensor) -> Tensor:
        """Embed points and corners: (N, P, 256), or P + 1.

        In training, a padding point follows points without a box. Users of Segment Anything's
        export add it by hand; it is added here if nobody did.
        """
        # 0.5: from the pixel's centre to its place between 0 and the frame's side.
        placed = self.positions._pe_encoding((points + 0.5) / self.image_size)
        kinds = self.get_buffer("kinds")
        known = labels.clamp(_NO_POINT, _SECOND_CORNER)
        # Not by a product with 0: the coordinates of no point may be NaN.
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
        has_mask: Tensor,
        regions: Tensor | None = None,
    ) -> Tensor:
        """Draw prompts, for (N, h, w) masks that count where `has_mask`, (N,)."""
        corners, has_box = _boxes(points, labels)
        objects = None if regions is None else regions[None]
        found: Tensor = draw(
            torch,
            self._map_shape,
            points,
            labels,
            corners,
            has_box,
            masks,
            has_mask,
            objects=objects,
        )
        return found


def _boxes(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 4) boxes, x0, y0, x1, y1, and (N,) whether there is one."""
    first, second = labels == _FIRST_CORNER, labels == _SECOND_CORNER
    corners = [
        torch.where(corner[..., None], points, 0.0).sum(dim=1)
        for corner in (first, second)
    ]
    return torch.cat(corners, dim=1), first.any(dim=1) & second.any(dim=1)


class _OptionalMasks(RestructuredDecoder):
    """A decoder for objects some of which have a mask prompt.

    Its masks are (N, 2, 4g, 4g): logits, and 1 where they count, else 0. The dense prompt of a mask
    is d = M h + c with 16 channels h; without a mask it is a constant e. A 17th channel that is 1
    for objects without a mask, with e − c as its column of M, makes both the same product.
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
