"""EfficientNet-Lite as the image encoder, with a feature pyramid: this project's own architecture.

The body is timm's (Tan and Le, ICML 2019; the Lite variants have ReLU6 and no squeeze-and-
excitation, so they are fast everywhere and quantize well). Its weights come from ImageNet. A
pyramid combines its strides 16 and 32 into Segment Anything's 256-channel embedding, and continues
from there to finer strides, as a U-Net does. Object head and mask decoder read those, because an
embedding at stride 16 says little about borders and about objects of a few pixels.

No published checkpoint has this architecture, and official code cannot load it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch.nn.functional as F
from segment_anything.modeling.common import LayerNorm2d
from timm.layers.conv2d_same import Conv2dSame
from timm.models import efficientnet
from torch import Tensor, nn

from napari_tinysam.frame import EMBED_DIM
from napari_tinysam.model.encoders.kind import (
    PIXEL_MEAN,
    PIXEL_STD,
    EncoderKind,
    ImageFeatures,
)

#: The body expects (x − 127) / 128, for values of 0–255.
INPUT_MEAN, INPUT_SCALE = 127.0, 128.0

#: Channels of the pyramid at strides 8, 4 and 2.
DETAIL_CHANNELS = (64, 32, 16)


#: Channels at strides 2, 4, 8, 16 and 32 of the body that timm's `tf_…` builds.
EFFICIENTNETS: dict[str, tuple[int, int, int, int, int]] = {
    "efficientnet_lite0": (16, 24, 40, 112, 320),
    "efficientnet_lite2": (16, 24, 48, 120, 352),
}


def timm_body(name: str, **options: Any) -> Any:
    """Build timm's module of an encoder in `EFFICIENTNETS`, with new weights."""
    return getattr(efficientnet, f"tf_{name}")(pretrained=False, **options)


class PaddedConv(Conv2dSame):
    """TensorFlow's "same" padding for even sizes and stride 2: one pixel more at the end.

    timm computes the padding from the input's size at every call, which a tracer cannot follow. For
    the sizes used here it is always the same.
    """

    def padded(self, x: Tensor) -> Tensor:
        """Pad with zeros, for a convolution without padding."""
        total = self.kernel_size[0] - 2
        before, after = total // 2, total - total // 2
        return F.pad(x, (before, after, before, after))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; (B, C, H, W) to (B, …, H / 2, W / 2)."""
        return F.conv2d(
            self.padded(x),
            self.weight,
            self.bias,
            self.stride,
            0,
            self.dilation,
            self.groups,
        )


class EfficientNetEncoder(nn.Module):
    """EfficientNet-Lite body and feature pyramid.

    Parameters
    ----------
    name : str
        Of the body, a key of `EFFICIENTNETS`.
    image_size : int
        Side of the square input, in pixels. Only a declaration: any multiple of 32 is accepted.
    """

    def __init__(self, name: str, image_size: int) -> None:
        super().__init__()
        self.img_size = image_size  # the name under which segment-anything looks for it
        self.detail_channels = DETAIL_CHANNELS
        self.efficientnet: Any = timm_body(
            name, features_only=True, out_indices=(0, 1, 2, 3, 4)
        )
        for module in self.efficientnet.modules():
            if isinstance(module, Conv2dSame):
                module.__class__ = PaddedConv  # a subclass without state of its own
        at_2, at_4, at_8, at_16, at_32 = EFFICIENTNETS[name]
        self.from_32 = nn.Conv2d(at_32, EMBED_DIM, 1)
        self.from_16 = nn.Conv2d(at_16, EMBED_DIM, 1)
        self.neck = nn.Sequential(
            nn.BatchNorm2d(EMBED_DIM),
            nn.ReLU(),
            nn.Conv2d(EMBED_DIM, EMBED_DIM, 3, padding=1, bias=False),
            LayerNorm2d(EMBED_DIM),
        )
        self.pyramid = nn.ModuleList(
            _Level(coarse, fine, width, convolutions)
            for coarse, fine, width, convolutions in zip(
                (EMBED_DIM, *DETAIL_CHANNELS[:-1]),
                (at_8, at_4, at_2),
                DETAIL_CHANNELS,
                (2, 2, 1),  # at stride 2 there are most pixels
                strict=True,
            )
        )

    def forward(self, image: Tensor) -> Tensor:
        """Embed normalised images.

        Parameters
        ----------
        image : Tensor
            (B, 3, H, W), as of `SegmentAnything.normalize_and_pad`; H and W multiples of 32.

        Returns
        -------
        Tensor
            (B, 256, H / 16, W / 16).
        """
        return self._embedding(self._stages(image))

    def with_details(self, image: Tensor) -> ImageFeatures:
        """Embed normalised images, and give the pyramid's finer levels too.

        Parameters
        ----------
        image : Tensor
            As for `forward`.

        Returns
        -------
        ImageFeatures
            With details of `detail_channels` at strides 8, 4 and 2.
        """
        stages = self._stages(image)
        embedding = self._embedding(stages)
        details, coarser = [], embedding
        for level, stage in zip(self.pyramid, stages[2::-1], strict=True):
            coarser = level(coarser, stage)
            details.append(coarser)
        return ImageFeatures(embedding, tuple(details))

    def _stages(self, image: Tensor) -> list[Tensor]:
        """Run the body: features at strides 2, 4, 8, 16 and 32."""
        gain = image.new_tensor(PIXEL_STD).view(-1, 1, 1) / INPUT_SCALE
        shift = image.new_tensor(PIXEL_MEAN).view(-1, 1, 1) - INPUT_MEAN
        stages: list[Tensor] = self.efficientnet(image * gain + shift / INPUT_SCALE)
        return stages

    def _embedding(self, stages: list[Tensor]) -> Tensor:
        coarse = doubled(self.from_32(stages[4]))
        embedding: Tensor = self.neck(self.from_16(stages[3]) + coarse)
        return embedding


class _Level(nn.Module):
    """One step to a finer stride: the coarser level, and the body's features there."""

    def __init__(self, coarse: int, fine: int, width: int, convolutions: int) -> None:
        super().__init__()
        self.from_coarse = nn.Conv2d(coarse, width, 1)
        self.from_fine = nn.Conv2d(fine, width, 1)
        layers: list[nn.Module] = [nn.BatchNorm2d(width), nn.ReLU()]
        for _ in range(convolutions):
            layers += [
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, …, h, w) and (B, …, 2 h, 2 w) to (B, width, 2 h, 2 w)."""
        found: Tensor = self.layers(
            doubled(self.from_coarse(coarse)) + self.from_fine(fine)
        )
        return found


def doubled(x: Tensor) -> Tensor:
    """Double height and width of (B, C, h, w), bilinearly, with pixel centres in place."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


KINDS = {
    name: EncoderKind(
        build=partial(EfficientNetEncoder, name),
        # What the pyramid reads.
        widths={
            f"image_encoder.{layer}.weight": (1, width)
            for layer, width in zip(
                (*(f"pyramid.{i}.from_fine" for i in (2, 1, 0)), "from_16", "from_32"),
                widths,
                strict=True,
            )
        },
        detail_channels=DETAIL_CHANNELS,
        multiple=32,
        any_size=True,
        epsilons={"image_encoder.efficientnet.": 1e-3},  # TensorFlow's
    )
    for name, widths in EFFICIENTNETS.items()
}
