"""Segment Anything's mask decoder with finer features, so that masks have sharp borders.

As in SAM 2 (Ravi et al., 2024, section 4, "high-resolution features"), the encoder's features at
strides 8 and 4 are added in the two steps that upscale the image's tokens. Masks of drawn prompts
are refined at the end (`napari_tinysam.model.mask_refiner`). The rest is the official decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from segment_anything.modeling import MaskDecoder
from torch import Tensor, nn

from napari_tinysam.dense_prompts import draw_boxes
from napari_tinysam.model.mask_refiner import MaskRefiner

if TYPE_CHECKING:
    from napari_tinysam.model.encoders.kind import ImageFeatures


class DetailedMaskDecoder(MaskDecoder):  # type: ignore[misc] # not typed
    """A mask decoder that also reads the encoder's finer features.

    With new weights it answers as the official decoder with the same tensors: the layers of details
    and refiner begin at zero.

    Parameters
    ----------
    detail_channels : sequence of int
        Channels of the details at strides 8 and 4; finer ones are not read.
    transformer_dim : int
        Channels of the embedding.
    **kwargs
        As for `segment_anything.modeling.MaskDecoder`.
    """

    def __init__(
        self, detail_channels: Sequence[int], *, transformer_dim: int, **kwargs: Any
    ) -> None:
        super().__init__(transformer_dim=transformer_dim, **kwargs)
        widths = (transformer_dim // 4, transformer_dim // 8)
        self.details = nn.ModuleList(
            nn.Conv2d(source, width, 1)
            for source, width in zip(detail_channels[:2], widths, strict=True)
        )
        for layer in self.details:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        self.refiner = MaskRefiner(detail_channels)

    def projected(self, details: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Project details to what upscaling adds, once for each image.

        Parameters
        ----------
        details : sequence of Tensor
            (B, …, 2 g, 2 g) and (B, …, 4 g, 4 g), of `ImageFeatures`.

        Returns
        -------
        tuple of Tensor
            (B, 64, 2 g, 2 g) and (B, 32, 4 g, 4 g).
        """
        first, second = self.details
        return first(details[0]), second(details[1])

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
        details: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Predict masks, as the official decoder does.

        Parameters
        ----------
        image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings
            As there.
        multimask_output : bool
            Whether to return the three masks, or the single one.
        details : tuple of Tensor, optional
            From `projected`, of one image. Without them nothing is added.
        """
        count = len(sparse_prompt_embeddings)
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # (5, 256)
        tokens = torch.cat([own.expand(count, -1, -1), sparse_prompt_embeddings], dim=1)
        source = image_embeddings.expand(count, -1, -1, -1) + dense_prompt_embeddings
        places = image_pe.expand(count, -1, -1, -1)
        hidden, found = self.transformer(source, places, tokens)
        pixels = upscaled(self, found.transpose(1, 2).view(source.shape), details)
        kernels = torch.stack(
            [
                mlp(hidden[:, 1 + i])
                for i, mlp in enumerate(self.output_hypernetworks_mlps)
            ],
            dim=1,
        )  # (N, 4, 32)
        masks = self.drawn(kernels, pixels.flatten(2)).view(
            count, -1, *pixels.shape[2:]
        )
        wanted = slice(1, None) if multimask_output else slice(0, 1)
        scores = self.iou_prediction_head(hidden[:, 0])
        return masks[:, wanted], scores[:, wanted]

    def drawn(self, kernels: Tensor, pixels: Tensor) -> Tensor:
        """Multiply (N, 4, 32) kernels by (N, 32, 16 P) pixels; replaceable, as a method."""
        return kernels @ pixels


def projected_details(
    decoder: nn.Module, features: ImageFeatures
) -> tuple[Tensor, Tensor] | None:
    """Project an image's details for a decoder; None for an official decoder."""
    if isinstance(decoder, DetailedMaskDecoder):
        return decoder.projected(features.details)
    return None


def refines(decoder: nn.Module, dense_prompts: bool) -> bool:
    """Whether a decoder refines masks: only with dense prompts, and if its refiner is trained.

    Parameters
    ----------
    decoder : MaskDecoder
    dense_prompts : bool
        As of the model.
    """
    known = isinstance(decoder, DetailedMaskDecoder) and not decoder.refiner.is_blank
    return dense_prompts and known


def refined(
    decoder: nn.Module,
    features: ImageFeatures,
    logits: Tensor,
    masks: Tensor | None,
    boxes: Tensor | None,
) -> Tensor:
    """Refine masks of drawn prompts; others, and those of other decoders, stay as they are.

    Parameters
    ----------
    decoder : MaskDecoder
    features : ImageFeatures
        Of N images, or of the one that all objects are in.
    logits : Tensor
        (N, 3, 4 g, 4 g), of the decoder.
    masks : Tensor or None
        (N, 1, 4 g, 4 g), drawn prompts; NaN in rows without one.
    boxes : Tensor or None
        (N, 4) in pixels of the window that the features are of; NaN in rows without one.
    """
    if masks is None or not isinstance(decoder, DetailedMaskDecoder):
        return logits
    shape = (logits.shape[-2], logits.shape[-1])
    if boxes is None:
        boxes = logits.new_full((len(logits), 4), torch.nan)
    drawn = masks[:, 0]
    missing = drawn.isnan()[:, :1, :1, None]  # (N, 1, 1, 1)
    added: Tensor = decoder.refiner(
        logits,
        drawn.nan_to_num(),
        draw_boxes(torch, shape, boxes),
        decoder.refiner.projected(features.details),
    )
    return logits + added.masked_fill(missing, 0.0)


def upscaled(
    decoder: Any, source: Tensor, details: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Upscale the image's tokens as each object has left them.

    Parameters
    ----------
    decoder : MaskDecoder
    source : Tensor
        (N, 256, g, g).
    details : tuple of Tensor, optional
        (N or 1, 64, 2 g, 2 g) and (N or 1, 32, 4 g, 4 g) to add.

    Returns
    -------
    Tensor
        (N, 32, 4 g, 4 g).
    """
    if details is None:
        plain: Tensor = decoder.output_upscaling(source)
        return plain
    to_half, norm, gelu, to_whole, last = decoder.output_upscaling
    half = gelu(norm(to_half(source) + details[0]))
    whole: Tensor = last(to_whole(half) + details[1])
    return whole
