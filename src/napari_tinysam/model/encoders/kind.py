"""The interface of image encoders, and the facts about each that the rest of the project needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_tinysam.frame import CELL

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Statistics of ImageNet, in the range 0–255: every encoder gets (x − mean) / std.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class ImageFeatures(NamedTuple):
    """Output of an image encoder for B images.

    Attributes
    ----------
    embedding : Tensor
        (B, 256, g, g) at stride 16, for prompts and the object head.
    details : tuple of Tensor
        (B, C, 2 g, 2 g) and (B, c, 4 g, 4 g), at strides 8 and 4, and of an encoder with a pyramid
        also (B, d, 8 g, 8 g); empty where nothing reads them.
    """

    embedding: Tensor
    details: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class EncoderKind:
    """One line of the table of encoders (`napari_tinysam.model.encoders.ENCODERS`).

    Attributes
    ----------
    build : callable
        Side of the frame in pixels to the module, with new weights. The module embeds (B, 3, H, W)
        as (B, 256, H / 16, W / 16). If it has details, its `with_details` gives `ImageFeatures`.
    widths : mapping of str to (int, int)
        Official names of tensors, each with one of its dimensions and the size of that dimension.
        A file holds the encoder that most of its tensors agree with.
    detail_channels : tuple of int
        Channels of the details at strides 8 and 4, and of a pyramid at stride 2; empty without.
    multiple : int
        The frame's side is a multiple of this many pixels.
    graph : bool
        Whether it can be converted for OpenVINO and exported. Plain ViTs are too large.
    any_size : bool
        Whether its graph is the same for all sizes of the frame.
    epsilons : mapping of str to float
        Epsilon of its BatchNorms by how the names of their tensors begin, where it is not torch's.
    fill_buffers : callable, optional
        Sets those buffers of the module that no state dict carries.
    """

    build: Callable[[int], nn.Module]
    widths: Mapping[str, tuple[int, int]]
    detail_channels: tuple[int, ...] = ()
    multiple: int = CELL
    graph: bool = True
    any_size: bool = False
    epsilons: Mapping[str, float] = field(default_factory=dict)
    fill_buffers: Callable[[Any], None] | None = None

    @property
    def has_pyramid(self) -> bool:
        """Whether it has details at stride 2: mask decoder and object head always read them."""
        return len(self.detail_channels) > 2
