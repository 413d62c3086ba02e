"""TinyViT as the image encoder: the 5M body of TinySAM and MobileSAM, and three other sizes.

The body is timm's; the last stage keeps its input resolution and the classifier is replaced by
SAM's convolutional neck, as in MobileSAM (Zhang et al., 2023) and TinySAM (Shu et al., AAAI 2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import Attention, TinyVit
from torch import Tensor, nn

from napari_tinysam.frame import EMBED_DIM
from napari_tinysam.model.encoders.kind import EncoderKind, ImageFeatures

NUM_CLASSES = 1000  # the unused ImageNet head that official checkpoints carry


@dataclass(frozen=True)
class TinyVitConfig:
    """Sizes of a TinyViT body, one number for each of its four stages.

    Attributes
    ----------
    embed_dims : tuple of int
        Channels.
    depths : tuple of int
        Blocks.
    num_heads : tuple of int
        Attention heads, 32 channels each; the first stage is convolutional and ignores it.
    window_sizes : tuple of int
        Sides of the attention windows in tokens.
    """

    embed_dims: tuple[int, int, int, int]
    num_heads: tuple[int, int, int, int]
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    window_sizes: tuple[int, int, int, int] = (7, 7, 14, 7)

    @property
    def detail_channels(self) -> tuple[int, int]:
        """Channels of what `TinyVitEncoder.with_details` gives at strides 8 and 4."""
        return self.embed_dims[1], self.embed_dims[0]


#: The bodies of 5M ("tiny_vit", as in TinySAM and MobileSAM), 11M and 21M parameters are those of
#: TinyViT (Wu et al., ECCV 2022) for 224² images. "tiny_vit_2m" is this project's own, for slow
#: computers: 1.9M parameters and a third of the operations of the 5M body. No published weights fit
#: it, and MobileSAM's code cannot load it.
TINY_VIT_CONFIGS: dict[str, TinyVitConfig] = {
    "tiny_vit": TinyVitConfig((64, 128, 160, 320), (2, 4, 5, 10)),
    "tiny_vit_2m": TinyVitConfig((32, 64, 128, 192), (1, 2, 4, 6), (2, 2, 4, 2)),
    "tiny_vit_11m": TinyVitConfig((64, 128, 256, 448), (2, 4, 8, 14)),
    "tiny_vit_21m": TinyVitConfig((96, 192, 384, 576), (3, 6, 12, 18)),
}


class _UncachedAttention(Attention):
    """timm's window attention, reading its bias table at every call.

    timm (and the official code) cache the expanded bias table in eval mode, and neither clears it
    when weights are loaded: a model that has run once keeps the old biases. Expanding the table
    costs well under a millisecond an image, so nothing is cached here.
    """

    attention_bias_idxs: Tensor

    def get_attention_biases(self, device: torch.device) -> Tensor:
        # (heads, offsets) → (heads, tokens, tokens)
        return self.attention_biases[:, self.attention_bias_idxs]

    @torch.no_grad()
    def fill_bias_indices(self) -> None:
        """Set which entry of the bias table each pair of tokens of a window reads."""
        height, width = self.resolution
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        y, x = y.reshape(-1, 1), x.reshape(-1, 1)  # (tokens, 1), in raster order
        # The table holds one entry for each (|dy|, |dx|), in raster order too.
        self.attention_bias_idxs.copy_((y - y.T).abs() * width + (x - x.T).abs())


class TinyVitEncoder(nn.Module):
    """TinyViT body and SAM neck: one image to a 256-channel embedding at stride 16.

    Parameters
    ----------
    config : TinyVitConfig
        Sizes of the body.
    image_size : int
        Side of the square input, in pixels. Only a declaration: any multiple of 16 is accepted.
    """

    def __init__(self, config: TinyVitConfig, image_size: int) -> None:
        super().__init__()
        self.img_size = image_size  # the name under which segment-anything looks for it
        # The class itself, never timm.create_model: importing `tinysam` or `mobile_sam`
        # re-registers "tiny_vit_5m_224" with a class of theirs.
        self.body = TinyVit(
            num_classes=0,
            global_pool="",
            embed_dims=config.embed_dims,
            depths=config.depths,
            num_heads=config.num_heads,
            window_sizes=config.window_sizes,
            drop_path_rate=0.0,
        )
        # 64² stays 64² into the last stage, so that the embedding has stride 16.
        merging = self.body.get_submodule("stages.3.downsample.conv2.conv")
        assert isinstance(merging, nn.Conv2d)
        merging.stride = (1, 1)
        # timm's classifier norm has no counterpart on the way to the neck.
        self.body.head = nn.Identity()  # type: ignore[assignment]
        for module in self.body.modules():
            if isinstance(module, Attention):
                module.__class__ = (
                    _UncachedAttention  # a subclass without state of its own
                )
        width = config.embed_dims[-1]
        self.neck = nn.Sequential(
            nn.Conv2d(width, EMBED_DIM, kernel_size=1, bias=False),
            LayerNorm2d(EMBED_DIM),
            nn.Conv2d(EMBED_DIM, EMBED_DIM, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(EMBED_DIM),
        )
        # Never used, only kept, so that an official checkpoint is saved back whole.
        self.norm_head = nn.LayerNorm(width)
        self.head = nn.Linear(width, NUM_CLASSES)
        self.norm_head.requires_grad_(False)
        self.head.requires_grad_(False)
        self.detail_channels = config.detail_channels

    def fill_derived_buffers(self) -> None:
        """Set the buffers that follow from the architecture, which no state dict carries."""
        for module in self.modules():
            if isinstance(module, _UncachedAttention):
                module.fill_bias_indices()

    def forward(self, image: Tensor) -> Tensor:
        """Embed normalised images.

        Parameters
        ----------
        image : Tensor
            (B, 3, H, W), normalised and padded; H and W multiples of 16.

        Returns
        -------
        Tensor
            (B, 256, H / 16, W / 16).
        """
        return self.with_details(image).embedding

    def with_details(self, image: Tensor) -> ImageFeatures:
        """Embed normalised images, and return the output of the first two stages too.

        Parameters
        ----------
        image : Tensor
            As for `forward`.

        Returns
        -------
        ImageFeatures
            With details of `detail_channels`, (B, …, H / 8, W / 8) and (B, …, H / 4, W / 4).
        """
        features = self.body.patch_embed(image)
        stages = []
        for stage in self.body.stages:
            features = stage(features)
            stages.append(features)
        # (B, width, H/16, W/16) → (B, 256, H/16, W/16)
        return ImageFeatures(self.neck(features), (stages[1], stages[0]))


KINDS = {
    name: EncoderKind(
        build=partial(TinyVitEncoder, config),
        # The width of each stage.
        widths={
            f"image_encoder.{layer}.c.weight": (0, width)
            for layer, width in zip(
                (
                    "patch_embed.seq.2",
                    *(f"layers.{i}.downsample.conv3" for i in range(3)),
                ),
                config.embed_dims,
                strict=True,
            )
        },
        detail_channels=config.detail_channels,
        fill_buffers=TinyVitEncoder.fill_derived_buffers,
    )
    for name, config in TINY_VIT_CONFIGS.items()
}
