"""Segment Anything: image encoder, prompt encoder, mask decoder, and optionally an object head.

Prompt encoder and mask decoder are those of the `segment-anything` package (Kirillov et al., 2023).
Only with an encoder that has a pyramid, this project's own, does the decoder also read details.
TinySAM is trained for three masks for each prompt, so the single mask is never returned.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import Tensor, nn

from napari_tinysam.frame import CELL, EMBED_DIM, FRAME
from napari_tinysam.model.encoders import ENCODERS
from napari_tinysam.model.encoders.kind import (
    PIXEL_MEAN,
    PIXEL_STD,
    EncoderKind,
    ImageFeatures,
)
from napari_tinysam.model.mask_decoder import (
    DetailedMaskDecoder,
    projected_details,
    refined,
)
from napari_tinysam.model.object_head import (
    FineObjectHead,
    ObjectHead,
    new_object_head,
)

if TYPE_CHECKING:
    from napari_tinysam.model.encoders import Architecture
    from napari_tinysam.model.integers import LayerQuantization

#: Hidden units of an official mask decoder's MLPs for tokens.
MLP_DIM = 2048


class SegmentAnything(nn.Module):
    """The three parts of a SAM model behind `encode` and `decode`.

    Parameters
    ----------
    architecture : str
        Image encoder, a name of `ENCODERS`. The prompt encoder is the same for all. So is the mask
        decoder, but with an EfficientNet it also reads details (`DetailedMaskDecoder`).
    image_size : int
        Side of the square input in pixels, 1024 for every published checkpoint.
    object_head : bool
        Whether the model has this project's head for finding objects without prompts. Published
        checkpoints have none.
    details : bool
        Whether that head also reads the encoder's details (`DetailedObjectHead`). For TinyViT: a
        plain ViT has none, and the head of an EfficientNet always reads them.
    mlp_dim : int
        Hidden units of each of the mask decoder's two MLPs for tokens; 2,048 in every published
        checkpoint.

    Attributes
    ----------
    object_head : ObjectHead, FineObjectHead or None
        Predicts the three maps of `OBJECT_MAPS`. A new head can be assigned to a model that has
        none; assigning None removes it.
    dense_prompts : bool
        Whether the model was trained with every prompt also drawn into the mask prompt
        (`napari_tinysam.dense_prompts`). No published checkpoint was. `decode` does not draw: its
        caller does.
    quantization : dict of str to LayerQuantization, or None
        How layers, by the names of their modules, are computed with integers where a runtime can.
        The weights of those layers have values that 8 bits hold. This module itself computes with
        floats. None for a model that is not quantized.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    object_head: ObjectHead | FineObjectHead | None
    dense_prompts: bool = False
    quantization: dict[str, LayerQuantization] | None = None

    def __init__(
        self,
        architecture: Architecture = "tiny_vit",
        image_size: int = FRAME,
        *,
        object_head: bool = False,
        details: bool = False,
        mlp_dim: int = MLP_DIM,
    ) -> None:
        super().__init__()
        if architecture not in ENCODERS:
            known = ", ".join(ENCODERS)
            raise ValueError(
                f"Unknown architecture {architecture!r}; known are {known}."
            )
        self.architecture: Architecture = architecture
        self.image_size = image_size
        self.image_encoder = self.encoder_kind.build(image_size)
        grid = image_size // CELL
        self.prompt_encoder = PromptEncoder(
            embed_dim=EMBED_DIM,
            image_embedding_size=(grid, grid),
            input_image_size=(image_size, image_size),
            mask_in_chans=16,
        )
        self.mask_decoder = _build_mask_decoder(self.encoder_kind, mlp_dim)
        # Registered as a module even when None, so that it can be assigned and removed.
        self.register_module(
            "object_head", self.new_object_head(details) if object_head else None
        )
        self.register_buffer("pixel_mean", _column(PIXEL_MEAN), persistent=False)
        self.register_buffer("pixel_std", _column(PIXEL_STD), persistent=False)

    @staticmethod
    def uninitialized(
        architecture: Architecture = "tiny_vit",
        image_size: int = FRAME,
        *,
        object_head: bool = False,
        details: bool = False,
        mlp_dim: int = MLP_DIM,
    ) -> SegmentAnything:
        """Build the module with unset weights, for a state dict that sets them all.

        Drawing initial weights takes a second for TinyViT and many for ViT-H, which loading a
        checkpoint does not need. Buffers that no state dict carries are set here.

        Parameters
        ----------
        architecture, image_size, object_head, details, mlp_dim
            As for the class.

        Returns
        -------
        SegmentAnything
            On the CPU. Every parameter and persistent buffer holds arbitrary values.
        """
        model = copy.deepcopy(
            _without_memory(architecture, image_size, object_head, details, mlp_dim)
        )
        model.to_empty(device="cpu")
        model.pixel_mean.copy_(_column(PIXEL_MEAN))
        model.pixel_std.copy_(_column(PIXEL_STD))
        if model.encoder_kind.fill_buffers is not None:
            model.encoder_kind.fill_buffers(model.image_encoder)
        return model

    @property
    def encoder_kind(self) -> EncoderKind:
        """The image encoder's line in the table of encoders."""
        return ENCODERS[self.architecture]

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.pixel_mean.device

    @property
    def map_stride(self) -> int:
        """Side of one value of the object maps, in pixels of the frame."""
        return 2 if self.encoder_kind.has_pyramid else 4

    @property
    def sees_halves(self) -> bool:
        """Whether object maps of an image of half the size are still as fine as masks."""
        return self.object_head is not None and self.map_stride == CELL // 8

    def new_object_head(self, details: bool = False) -> ObjectHead | FineObjectHead:
        """Make an object head for the encoder, with new weights, without assigning it.

        Parameters
        ----------
        details : bool
            As for the class.

        Raises
        ------
        ValueError
            If the encoder has no details.
        """
        channels = self.encoder_kind.detail_channels
        if details and not channels:
            raise ValueError(f"A {self.architecture} encoder has no details to see.")
        return new_object_head(channels, details=details)

    def normalize_and_pad(self, image: Tensor) -> Tensor:
        """Normalise RGB values and pad right and bottom with zeros.

        The padding comes after the normalisation, so it is exactly zero.

        Parameters
        ----------
        image : Tensor
            (B, 3, h, w), values 0–255, h and w at most `image_size`.

        Returns
        -------
        Tensor
            (B, 3, image_size, image_size), float32.
        """
        side = self.image_size
        height, width = image.shape[-2:]
        normalized = (image - self.pixel_mean) / self.pixel_std
        return F.pad(normalized, (0, side - width, 0, side - height))

    def encode(self, image: Tensor) -> Tensor:
        """Embed RGB images whose longer side is already that of the frame.

        Parameters
        ----------
        image : Tensor
            (B, 3, h, w), values 0–255.

        Returns
        -------
        Tensor
            (B, 256, image_size / 16, image_size / 16), float32.
        """
        embedding: Tensor = self.image_encoder(self.normalize_and_pad(image))
        return embedding

    def features(self, frame: Tensor) -> ImageFeatures:
        """Embed frames, for prompts and for the object head.

        Parameters
        ----------
        frame : Tensor
            (B, 3, S, S), from `normalize_and_pad`.

        Returns
        -------
        ImageFeatures
            With details where object head or mask decoder read them.
        """
        head, encoder = self.object_head, self.image_encoder
        if self.encoder_kind.has_pyramid or (head is not None and head.detailed):
            found: ImageFeatures = encoder.with_details(frame)  # type: ignore[operator]
            return found
        return ImageFeatures(encoder(frame))

    def object_maps(self, features: ImageFeatures) -> Tensor:
        """Run the object head: (B, 3, 4g, 4g) logits, or (B, 3, 8g, 8g) with a pyramid.

        Parameters
        ----------
        features : ImageFeatures
            From `features`, of a model with an object head.
        """
        assert self.object_head is not None
        maps: Tensor = self.object_head(features.embedding, features.details)
        return maps

    def decode(
        self,
        embedding: Tensor,
        *,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        details: tuple[Tensor, ...] = (),
    ) -> tuple[Tensor, Tensor]:
        """Decode N sets of prompts on one image.

        Parameters
        ----------
        embedding : Tensor
            (1, 256, g, g), from `encode`. A smaller one is the top left part of the frame's.
        points : Tensor, optional
            (N, P, 2), (x, y) in pixels of the model's input.
        labels : Tensor, optional
            (N, P): 1 on the object, 0 outside it, −1 ignored.
        boxes : Tensor, optional
            (N, 4), (x0, y0, x1, y1) in pixels of the model's input.
        masks : Tensor, optional
            (N, 1, 4g, 4g) logits of an earlier prediction. For a model with dense prompts, the
            drawn prompts, which a decoder with details also reads to refine its masks.
        details : tuple of Tensor, optional
            Those of `features`, where the mask decoder reads them.

        Returns
        -------
        logits : Tensor
            (N, 3, 4g, 4g), mask logits; a mask is where they exceed 0.
        scores : Tensor
            (N, 3), predicted IoU.
        """
        point_prompts = (points, labels) if points is not None else None
        sparse, dense = self.prompt_encoder(point_prompts, boxes, masks)
        rows, columns = embedding.shape[-2:]
        finer: dict[str, tuple[Tensor, Tensor] | None] = {}
        if isinstance(self.mask_decoder, DetailedMaskDecoder):
            features = ImageFeatures(embedding, details)
            finer["details"] = projected_details(self.mask_decoder, features)
        logits, scores = self.mask_decoder(
            image_embeddings=embedding,
            image_pe=self.prompt_encoder.get_dense_pe()[..., :rows, :columns],
            sparse_prompt_embeddings=sparse,  # (N, tokens, 256)
            dense_prompt_embeddings=dense[..., :rows, :columns],  # (N, 256, g, g)
            multimask_output=True,
            **finer,
        )
        if self.dense_prompts:
            features = ImageFeatures(embedding, details)
            logits = refined(self.mask_decoder, features, logits, masks, boxes)
        return logits, scores


@cache
def _without_memory(
    architecture: Architecture,
    image_size: int,
    object_head: bool,
    details: bool,
    mlp_dim: int,
) -> SegmentAnything:
    """Build a model of shapes only, once: building takes longer than copying."""
    with torch.device("meta"):
        return SegmentAnything(
            architecture,
            image_size,
            object_head=object_head,
            details=details,
            mlp_dim=mlp_dim,
        )


def _build_mask_decoder(encoder: EncoderKind, mlp_dim: int) -> MaskDecoder:
    sizes = {
        "num_multimask_outputs": 3,
        "transformer": TwoWayTransformer(
            depth=2, embedding_dim=EMBED_DIM, mlp_dim=mlp_dim, num_heads=8
        ),
        "transformer_dim": EMBED_DIM,
        "iou_head_depth": 3,
        "iou_head_hidden_dim": 256,
    }
    if encoder.has_pyramid:
        return DetailedMaskDecoder(encoder.detail_channels, **sizes)
    return MaskDecoder(**sizes)


def _column(values: tuple[float, ...]) -> Tensor:
    """(C,) values as (C, 1, 1)."""
    return torch.tensor(values).view(-1, 1, 1)
