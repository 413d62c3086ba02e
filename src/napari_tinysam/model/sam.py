"""Segment Anything: image encoder, prompt encoder, mask decoder, and an object head if wanted.

Prompt encoder and mask decoder are those of the `segment-anything` package (Kirillov et al., 2023),
unchanged but for this project's own architecture, whose decoder also reads finer features. TinySAM
is trained for three masks a prompt, so the single-mask token is never returned.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    TwoWayTransformer,
)
from torch import Tensor, nn

from napari_tinysam.model.encoders.efficientnet import (
    EFFICIENTNET_CONFIGS,
    EfficientNetEncoder,
)
from napari_tinysam.model.encoders.tiny_vit import TINY_VIT_CONFIGS, TinyVitEncoder
from napari_tinysam.model.mask_decoder import (
    DetailedMaskDecoder,
    projected_details,
    refined,
)
from napari_tinysam.model.object_head import (
    DetailedObjectHead,
    FineObjectHead,
    ImageFeatures,
    ObjectHead,
)

if TYPE_CHECKING:
    from napari_tinysam.model.integers import LayerQuantization

Architecture = Literal[
    "efficientnet_lite0",
    "efficientnet_lite2",
    "tiny_vit",
    "tiny_vit_2m",
    "tiny_vit_11m",
    "tiny_vit_21m",
    "vit_b",
    "vit_l",
    "vit_h",
]

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
EMBED_DIM = 256
STRIDE = 16


@dataclass(frozen=True)
class VitConfig:
    """Sizes of a plain ViT image encoder (segment-anything, ``build_sam.py``)."""

    embed_dim: int
    depth: int
    num_heads: int
    global_attention: tuple[int, ...]


VIT_CONFIGS: dict[str, VitConfig] = {
    "vit_b": VitConfig(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": VitConfig(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": VitConfig(1280, 32, 16, (7, 15, 23, 31)),
}


class SegmentAnything(nn.Module):
    """The three parts of a SAM model behind `encode` and `decode`.

    Parameters
    ----------
    architecture : str
        Image encoder: "efficientnet_lite0" or "efficientnet_lite2", "tiny_vit", "tiny_vit_2m",
        "tiny_vit_11m" or "tiny_vit_21m" (see `TINY_VIT_CONFIGS`), "vit_b", "vit_l" or "vit_h". The
        prompt encoder is the same for all; the mask decoder too, but that EfficientNet's reads
        finer features (`DetailedMaskDecoder`).
    image_size : int
        Side of the square input in pixels, 1024 for every published checkpoint.
    object_head : bool
        Whether the model has this project's own head for finding objects without prompts. The
        published checkpoints have none.
    details : bool
        Whether that head also sees the encoder's finer features (`DetailedObjectHead`). For
        TinyViT: a plain ViT has none, and an EfficientNet's head always sees them.

    Attributes
    ----------
    object_head : ObjectHead, FineObjectHead or None
        Maps the embedding to the three maps of `OBJECT_MAPS`. A new head can be assigned to a model
        that has none; assigning None removes it.
    dense_prompts : bool
        Whether the model was trained to get every prompt drawn into the mask prompt too
        (`napari_tinysam.dense_prompts`). No published checkpoint was. `decode` is the same for both
        kinds: drawing is for those who call it.
    quantization : dict of str to LayerQuantization, or None
        How layers, by the names of their modules, are computed with integers where a runtime can.
        The weights of those layers have values that 8 bits hold. What runs here, computes with
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
        image_size: int = 1024,
        *,
        object_head: bool = False,
        details: bool = False,
    ) -> None:
        super().__init__()
        self.architecture: Architecture = architecture
        self.image_size = image_size
        self.image_encoder = _build_image_encoder(architecture, image_size)
        grid = image_size // STRIDE
        self.prompt_encoder = PromptEncoder(
            embed_dim=EMBED_DIM,
            image_embedding_size=(grid, grid),
            input_image_size=(image_size, image_size),
            mask_in_chans=16,
        )
        self.mask_decoder = _build_mask_decoder(self.image_encoder)
        # Registered as a module even when None, so that it can be assigned and removed.
        self.register_module(
            "object_head", self.new_object_head(details) if object_head else None
        )
        self.register_buffer("pixel_mean", _column(PIXEL_MEAN), persistent=False)
        self.register_buffer("pixel_std", _column(PIXEL_STD), persistent=False)

    @staticmethod
    def uninitialized(
        architecture: Architecture = "tiny_vit",
        image_size: int = 1024,
        *,
        object_head: bool = False,
        details: bool = False,
    ) -> SegmentAnything:
        """Build the module with unset weights, for a state dict that sets them all.

        Drawing initial weights takes a second for TinyViT and many for ViT-H; loading a checkpoint
        need not wait for that. What no state dict carries is set here.

        Parameters
        ----------
        architecture, image_size, object_head, details
            As for the class.

        Returns
        -------
        SegmentAnything
            On the CPU. Every parameter and persistent buffer holds arbitrary values.
        """
        model = copy.deepcopy(
            _without_memory(architecture, image_size, object_head, details)
        )
        model.to_empty(device="cpu")
        model.pixel_mean.copy_(_column(PIXEL_MEAN))
        model.pixel_std.copy_(_column(PIXEL_STD))
        if isinstance(model.image_encoder, TinyVitEncoder):
            model.image_encoder.fill_derived_buffers()
        return model

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.pixel_mean.device

    @property
    def map_stride(self) -> int:
        """Pixels of the frame along a side of one value of the object maps."""
        return 2 if isinstance(self.image_encoder, EfficientNetEncoder) else 4

    @property
    def sees_halves(self) -> bool:
        """Whether its object maps of an image of half the size are as fine as masks are."""
        return self.object_head is not None and self.map_stride == STRIDE // 8

    def new_object_head(self, details: bool = False) -> ObjectHead | FineObjectHead:
        """Make an object head that fits the encoder, with new weights; it is not assigned.

        Parameters
        ----------
        details : bool
            As for the class.

        Raises
        ------
        ValueError
            If there are no details to see.
        """
        if isinstance(self.image_encoder, EfficientNetEncoder):
            return FineObjectHead(self.image_encoder.detail_channels[-1])
        if not details:
            return ObjectHead()
        if not isinstance(self.image_encoder, TinyVitEncoder):
            raise ValueError(f"A {self.architecture} encoder has no details to see.")
        return DetailedObjectHead(self.image_encoder.detail_channels)

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
        """Embed RGB images whose longest side is already that of the frame.

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
        if isinstance(encoder, EfficientNetEncoder):
            return encoder.with_details(frame)
        if head is not None and head.detailed:
            assert isinstance(encoder, TinyVitEncoder)
            return encoder.with_details(frame)
        return ImageFeatures(encoder(frame))

    def object_maps(self, features: ImageFeatures) -> Tensor:
        """Run the object head: (B, 3, 4g, 4g) logits, as of `ObjectHead.forward`.

        Of an EfficientNet they are (B, 3, 8g, 8g).

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
            (1, 256, g, g), from `encode`. A smaller one than that of a whole frame is taken for the
            frame's part at the top left.
        points : Tensor, optional
            (N, P, 2), (x, y) in pixels of the model's input.
        labels : Tensor, optional
            (N, P): 1 on the object, 0 beside it, −1 ignored.
        boxes : Tensor, optional
            (N, 4), (x0, y0, x1, y1) in pixels of the model's input.
        masks : Tensor, optional
            (N, 1, 4g, 4g) logits of an earlier prediction; of a model with dense prompts what is
            drawn, which a decoder with finer features refines its masks by.
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
    architecture: Architecture, image_size: int, object_head: bool, details: bool
) -> SegmentAnything:
    """Build a model of shapes only; building takes longer than copying."""
    with torch.device("meta"):
        return SegmentAnything(
            architecture, image_size, object_head=object_head, details=details
        )


def _build_image_encoder(architecture: Architecture, image_size: int) -> nn.Module:
    if architecture in TINY_VIT_CONFIGS:
        return TinyVitEncoder(image_size, EMBED_DIM, TINY_VIT_CONFIGS[architecture])
    if architecture in EFFICIENTNET_CONFIGS:
        return EfficientNetEncoder(
            image_size, EMBED_DIM, EFFICIENTNET_CONFIGS[architecture]
        )
    if architecture not in VIT_CONFIGS:
        known = ", ".join([*EFFICIENTNET_CONFIGS, *TINY_VIT_CONFIGS, *VIT_CONFIGS])
        raise ValueError(f"Unknown architecture {architecture!r}; known are {known}.")
    config = VIT_CONFIGS[architecture]
    encoder: nn.Module = ImageEncoderViT(
        depth=config.depth,
        embed_dim=config.embed_dim,
        img_size=image_size,
        mlp_ratio=4,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        num_heads=config.num_heads,
        patch_size=STRIDE,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=config.global_attention,
        window_size=14,
        out_chans=EMBED_DIM,
    )
    return encoder


def _build_mask_decoder(encoder: nn.Module) -> MaskDecoder:
    sizes = {
        "num_multimask_outputs": 3,
        "transformer": TwoWayTransformer(
            depth=2, embedding_dim=EMBED_DIM, mlp_dim=2048, num_heads=8
        ),
        "transformer_dim": EMBED_DIM,
        "iou_head_depth": 3,
        "iou_head_hidden_dim": 256,
    }
    if isinstance(encoder, EfficientNetEncoder):
        return DetailedMaskDecoder(encoder.detail_channels, **sizes)
    return MaskDecoder(**sizes)


def _column(values: tuple[float, ...]) -> Tensor:
    """(C,) values as (C, 1, 1)."""
    return torch.tensor(values).view(-1, 1, 1)
