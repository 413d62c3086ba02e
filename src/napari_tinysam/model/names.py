"""Official checkpoint names ⇄ this project's module names.

TinySAM and MobileSAM name the parameters of TinyViT after their own modules. timm names the same
tensors differently, and there a downsampling layer begins the next stage instead of ending its own.
Nothing else is renamed: neither SAM ViT-B/L/H, nor an EfficientNet, nor the object head.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

_BODY = "image_encoder.body."
_ENCODER = "image_encoder."
# Kept under the same name on both sides.
_SHARED = ("image_encoder.neck.", "image_encoder.norm_head.", "image_encoder.head.")
# Buffers that follow from the architecture; some exports store them, the official files do not.
_DERIVED = (".attention_bias_idxs", ".ab")
_PIXEL_STATISTICS = ("pixel_mean", "pixel_std")


def _body_name_from_official(name: str) -> str:
    """Rename one TinyViT tensor, both names without prefix."""
    name = re.sub(r"\.c\.", ".conv.", name)
    name = name.replace("patch_embed.seq.0.", "patch_embed.conv1.")
    name = name.replace("patch_embed.seq.2.", "patch_embed.conv2.")
    if match := re.match(r"layers\.(\d+)\.downsample\.(.*)", name):
        return f"stages.{int(match[1]) + 1}.downsample.{match[2]}"
    return re.sub(r"^layers\.", "stages.", name)


def _body_name_to_official(name: str) -> str:
    """Undo `_body_name_from_official`."""
    name = name.replace("patch_embed.conv1.", "patch_embed.seq.0.")
    name = name.replace("patch_embed.conv2.", "patch_embed.seq.2.")
    if match := re.match(r"stages\.(\d+)\.downsample\.(.*)", name):
        name = f"layers.{int(match[1]) - 1}.downsample.{match[2]}"
    name = re.sub(r"^stages\.", "layers.", name)
    return re.sub(r"\.conv\.", ".c.", name)


def from_official(state_dict: Mapping[str, T]) -> dict[str, T]:
    """Rename an official state dict to this project's names.

    Parameters
    ----------
    state_dict : mapping of str to tensor
        As in the published files: flat, with the prefixes ``image_encoder.``,
        ``prompt_encoder.`` and ``mask_decoder.``. Other names pass through unchanged.

    Returns
    -------
    dict
        The same tensors under the names of `SegmentAnything`. Derived buffers are left out.
    """
    tiny = is_tiny_vit(state_dict)
    renamed: dict[str, T] = {}
    for name, tensor in state_dict.items():
        if name in _PIXEL_STATISTICS or name.endswith(_DERIVED):
            continue
        if tiny and name.startswith(_ENCODER) and not name.startswith(_SHARED):
            name = _BODY + _body_name_from_official(name.removeprefix(_ENCODER))
        renamed[name] = tensor
    return renamed


def to_official(state_dict: Mapping[str, T]) -> dict[str, T]:
    """Rename a state dict of `SegmentAnything` to the official names.

    Parameters
    ----------
    state_dict : mapping of str to tensor
        As `torch.nn.Module.state_dict` gives it.

    Returns
    -------
    dict
        The same tensors under the official names.
    """
    return {
        (
            _ENCODER + _body_name_to_official(name.removeprefix(_BODY))
            if name.startswith(_BODY)
            else name
        ): tensor
        for name, tensor in state_dict.items()
    }


def is_tiny_vit(state_dict: Mapping[str, object]) -> bool:
    """Whether a state dict with official names holds a TinyViT image encoder."""
    return "image_encoder.patch_embed.seq.0.c.weight" in state_dict
