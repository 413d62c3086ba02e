"""The restructured encoder answers as TinyViT and the object head do."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from napari_tinysam.model import TINY_VIT_CONFIGS, SegmentAnything
from napari_tinysam.model.fast.encoder import RestructuredEncoder
from official_models import random_values

HEADS = {"none": (False, False), "plain": (True, False), "detailed": (True, True)}


@cache
def model(architecture: str, head: str) -> SegmentAnything:
    """Random weights, batch norms and biases of attention included."""
    wanted, details = HEADS[head]
    found = SegmentAnything.uninitialized(
        architecture, 256, object_head=wanted, details=details
    )
    found.load_state_dict(random_values(found.state_dict()))
    return found.eval()


def compare(architecture: str, head: str, side: int, batch: int = 1) -> None:
    plain = model(architecture, head)
    torch.manual_seed(side)
    frame = torch.randn(batch, 3, side, side)
    frame[..., side // 2 :, :] = 0  # as padded
    with torch.no_grad():
        features = plain.features(frame)
        found, maps = RestructuredEncoder(plain.image_encoder, plain.object_head)(frame)
        pairs = [(found, features.embedding)]
        if head == "none":
            assert maps is None
        else:
            pairs.append((maps, plain.object_maps(features)))
    for ours, official in pairs:
        assert ours.shape == official.shape
        scale = official.abs().max()
        assert scale > 1e-3
        assert (ours - official).abs().max() <= 2e-5 * scale


@pytest.mark.parametrize("architecture", TINY_VIT_CONFIGS)
def test_it_answers_as_every_architecture(architecture: str) -> None:
    compare(architecture, "detailed", 128)


@pytest.mark.parametrize("head", HEADS)
def test_it_answers_with_every_head(head: str) -> None:
    compare("tiny_vit_2m", head, 96)


# 112 is one window of 7 in the last stage, 224 one of 14 in the third and nothing to pad; others
# lack 1 to 13 tokens.
@pytest.mark.parametrize("side", [16, 48, 112, 160, 224, 256])
def test_it_answers_for_every_size_of_frame(side: int) -> None:
    compare("tiny_vit_2m", "plain", side, batch=2)
