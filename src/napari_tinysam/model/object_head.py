"""The object head: a light dense decoder on the image embedding, for microscopy.

Three maps show objects without any prompt: foreground, distance to the object's centre and distance
to its boundary. They speed up training, since they give the encoder a gradient at every pixel, and
they place the prompts of guided auto-segmentation. The idea of the three maps is micro-sam's
(Archit et al., Nature Methods 2025, "automatic instance segmentation").

There are three kinds. The plain head reads the embedding alone, with cells of 16 pixels. The
detailed head also reads the first two stages of a TinyViT, at strides 8 and 4, as in a U-Net: the
embedding says little about borders and about objects of a few cells. The fine head reads the finest
level of an encoder with a pyramid, and its maps have stride 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

#: The three maps, in this order.
OBJECT_MAPS = ("foreground", "centre_distance", "boundary_distance")


class ObjectHead(nn.Module):
    """Embedding at stride 16 to three maps at stride 4.

    Parameters
    ----------
    in_channels : int
        Channels of the embedding.
    channels : int
        Channels at stride 16; half as many at stride 8, a quarter at stride 4.
    """

    def __init__(self, in_channels: int = 256, channels: int = 128) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1),
            LayerNorm2d(channels),
            nn.GELU(),
            nn.ConvTranspose2d(channels, half, 2, stride=2),
            LayerNorm2d(half),
            nn.GELU(),
            nn.Conv2d(half, half, 3, padding=1),
            LayerNorm2d(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2),
            nn.GELU(),
            nn.Conv2d(quarter, quarter, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(quarter, len(OBJECT_MAPS), 1),
        )

    @property
    def detailed(self) -> bool:
        """Whether `forward` needs details."""
        return False

    def forward(self, embedding: Tensor, details: Sequence[Tensor] = ()) -> Tensor:
        """Predict the three maps.

        Parameters
        ----------
        embedding : Tensor
            (B, 256, g, g), from `SegmentAnything.encode`.
        details : sequence of Tensor
            As of `ImageFeatures`; only a detailed head reads them.

        Returns
        -------
        Tensor
            (B, 3, 4g, 4g) logits; their sigmoid is the probability of foreground, the distance to
            the centre of the own object as share of the largest in it (0 at the centre, 1 outside
            objects), and the distance to its boundary as share of the largest in it (0 at the
            boundary and outside, 1 at the deepest point).
        """
        maps: Tensor = self.layers(embedding)
        return maps


class DetailedObjectHead(ObjectHead):
    """An object head that also reads the encoder's finer features.

    With new weights it answers as a plain head with the same `layers`: the layers of details and
    the residual blocks begin at zero. So it can replace a trained plain head.

    Parameters
    ----------
    detail_channels : (int, int)
        Channels of the details at strides 8 and 4 (`EncoderKind`).
    in_channels, channels : int
        As for `ObjectHead`.
    """

    def __init__(
        self,
        detail_channels: Sequence[int],
        in_channels: int = 256,
        channels: int = 128,
    ) -> None:
        super().__init__(in_channels, channels)
        widths = (channels // 2, channels // 4)  # at strides 8 and 4
        self.details = nn.ModuleList(
            _Projection(source, width)
            for source, width in zip(detail_channels, widths, strict=True)
        )
        self.refining = nn.ModuleList(
            nn.Sequential(_Residual(width), _Residual(width))
            for width in (channels, *widths)
        )

    @property
    def detailed(self) -> bool:
        """Whether `forward` needs details."""
        return True

    def forward(self, embedding: Tensor, details: Sequence[Tensor] = ()) -> Tensor:
        """Predict the three maps; see `ObjectHead.forward`.

        Raises
        ------
        ValueError
            If the details are missing.
        """
        if len(details) != len(self.details):
            raise ValueError(
                f"This object head needs {len(self.details)} maps of details; got {len(details)}."
            )
        layers = self.layers
        maps: Tensor = self.refining[0](layers[:3](embedding))  # (B, 128, g, g)
        maps = layers[3](maps) + self.details[0](details[0])  # (B, 64, 2 g, 2 g)
        maps = self.refining[1](layers[4:9](maps))
        maps = layers[9](maps) + self.details[1](details[1])  # (B, 32, 4 g, 4 g)
        maps = self.refining[2](layers[10:13](maps))
        maps = layers[13](maps)
        return maps


class FineObjectHead(nn.Module):
    """The finest level of a pyramid to three maps at its resolution.

    Parameters
    ----------
    channels : int
        Of that level.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, len(OBJECT_MAPS), 1),
        )

    @property
    def detailed(self) -> bool:
        """Whether `forward` needs details."""
        return True

    def forward(self, embedding: Tensor, details: Sequence[Tensor] = ()) -> Tensor:
        """Predict the three maps; see `ObjectHead.forward`.

        Parameters
        ----------
        embedding : Tensor
            Not read: the pyramid contains it.
        details : sequence of Tensor
            As of `ImageFeatures`; the last one, (B, …, 8 g, 8 g), is read.

        Returns
        -------
        Tensor
            (B, 3, 8 g, 8 g) logits.
        """
        maps: Tensor = self.layers(details[-1])
        return maps


class _Projection(nn.Module):
    """Details to what is added to the head's own features; 0 at first."""

    def __init__(self, source: int, width: int) -> None:
        super().__init__()
        self.norm = LayerNorm2d(source)  # the encoder's stages end without one
        self.conv = nn.Conv2d(source, width, 1)
        _set_to_zero(self.conv)

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.conv(self.norm(features))
        return projected


class _Residual(nn.Module):
    """Two 3×3 convolutions whose result is added; 0 at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.norm = LayerNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        _set_to_zero(self.second)

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = self.second(F.gelu(self.norm(self.first(features))))
        return features + changed


def _set_to_zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def new_object_head(
    detail_channels: Sequence[int], *, details: bool = False
) -> ObjectHead | FineObjectHead:
    """Make an object head with new weights.

    Parameters
    ----------
    detail_channels : sequence of int
        Of the encoder (`EncoderKind`).
    details : bool
        Whether the head reads details, if there are any. With a pyramid it always does.
    """
    if len(detail_channels) > 2:  # a pyramid
        return FineObjectHead(detail_channels[-1])
    if details and detail_channels:
        return DetailedObjectHead(detail_channels)
    return ObjectHead()
