"""The object head: a light dense decoder on the image embedding, for microscopy.

Three maps say where objects are without any prompt: foreground, distance to the object's centre and
distance to its boundary. They speed up training, since they give the encoder a gradient at every
pixel, and they place the prompts of guided auto-segmentation. The idea of the three maps is
micro-sam's (Archit et al., Nature Methods 2025, "automatic instance segmentation").
"""

from __future__ import annotations

from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

#: What the three maps are, in this order.
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

    def forward(self, embedding: Tensor) -> Tensor:
        """Predict the three maps.

        Parameters
        ----------
        embedding : Tensor
            (B, 256, g, g), from `SegmentAnything.encode`.

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
