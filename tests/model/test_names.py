"""Official tensor names there and back."""

from __future__ import annotations

import torch

from napari_tinysam.model import SegmentAnything, from_official, to_official
from napari_tinysam.model.names import is_tiny_vit
from official_models import official_tiny_weights


def test_official_names_are_those_of_the_published_files() -> None:
    weights = official_tiny_weights()
    assert len(weights) == 439
    parts = {name.partition(".")[0] for name in weights}
    assert parts == {"image_encoder", "prompt_encoder", "mask_decoder"}
    assert is_tiny_vit(weights)


def test_every_official_tensor_has_a_place_and_every_place_a_tensor() -> None:
    weights = official_tiny_weights()
    with torch.device("meta"):
        places = SegmentAnything().state_dict()
    renamed = from_official(weights)
    assert set(renamed) == set(places)
    assert all(renamed[name].shape == places[name].shape for name in places)


def test_renaming_back_gives_the_same_names_and_tensors() -> None:
    weights = official_tiny_weights()
    back = to_official(from_official(weights))
    assert list(back) == list(weights)
    assert all(back[name] is weights[name] for name in weights)


def test_buffers_that_follow_from_the_architecture_are_left_out() -> None:
    name = "image_encoder.layers.1.blocks.0.attn."
    weights = {
        **official_tiny_weights(),
        name + "attention_bias_idxs": torch.zeros(1),
        name + "ab": torch.zeros(1),
        "pixel_mean": torch.zeros(3, 1, 1),
        "pixel_std": torch.zeros(3, 1, 1),
    }
    assert set(to_official(from_official(weights))) == set(official_tiny_weights())


def test_vit_names_stay_as_they_are() -> None:
    names = {"image_encoder.pos_embed": 1, "mask_decoder.iou_token.weight": 2}
    assert from_official(names) == names
    assert to_official(names) == names
