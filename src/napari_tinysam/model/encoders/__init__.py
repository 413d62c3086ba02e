"""Image encoders. A new one is a module in this folder and a line in `ENCODERS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from napari_tinysam.model.encoders import efficientnet, tiny_vit, vit

if TYPE_CHECKING:
    from napari_tinysam.model.encoders.kind import EncoderKind

#: Names of the encoders, for type checkers; the keys of `ENCODERS`.
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

ENCODERS: dict[str, EncoderKind] = {**efficientnet.KINDS, **tiny_vit.KINDS, **vit.KINDS}
