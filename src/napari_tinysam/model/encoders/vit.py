"""The plain ViT image encoders of Segment Anything (Kirillov et al., 2023), unchanged."""

from __future__ import annotations

from functools import partial

from segment_anything.modeling import ImageEncoderViT
from torch import nn

from napari_tinysam.frame import CELL, EMBED_DIM
from napari_tinysam.model.encoders.kind import EncoderKind

#: Width, blocks, heads and blocks with global attention (segment-anything, ``build_sam.py``).
_SIZES: dict[str, tuple[int, int, int, tuple[int, ...]]] = {
    "vit_b": (768, 12, 12, (2, 5, 8, 11)),
    "vit_l": (1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": (1280, 32, 16, (7, 15, 23, 31)),
}


def _build(architecture: str, image_size: int) -> nn.Module:
    width, depth, heads, global_attention = _SIZES[architecture]
    encoder: nn.Module = ImageEncoderViT(
        depth=depth,
        embed_dim=width,
        img_size=image_size,
        mlp_ratio=4,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        num_heads=heads,
        patch_size=CELL,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=global_attention,
        window_size=14,
        out_chans=EMBED_DIM,
    )
    return encoder


KINDS = {
    name: EncoderKind(
        build=partial(_build, name),
        widths={"image_encoder.pos_embed": (3, width)},
        graph=False,
    )
    for name, (width, *_) in _SIZES.items()
}
