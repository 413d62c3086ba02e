"""Image and prompts to masks, against segment-anything's own predictor."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor
from torch import nn

from official_predictions import (
    CLICKS,
    assert_official,
    predictor,
    random_image,
    together,
)

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

    from napari_tinysam.model import SegmentAnything


class RememberingEncoder(nn.Module):
    """An encoder that computes the same image once only: a second at this size each."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.img_size = encoder.img_size
        self.computed: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        for known, embedding in self.computed:
            if torch.equal(known, image):
                return embedding
        embedding = self.encoder(image)
        self.computed.append((image.clone(), embedding))
        return embedding


@pytest.fixture(scope="module")
def official_on_own_encoder(official: Sam, ours: SegmentAnything) -> Sam:
    """The official model with this project's encoder, whose parity is tested by itself."""
    sam = copy.copy(official)
    sam._modules = {**official._modules}
    sam.image_encoder = RememberingEncoder(ours.image_encoder)
    return sam


def test_all_prompts_equal_the_official_from_image_to_mask(
    official: Sam, ours: SegmentAnything
) -> None:
    image = random_image(333, 517)
    reference = SamPredictor(official)
    reference.set_image(image)
    own = predictor(ours)
    embedding = own.encode(image)
    np.testing.assert_allclose(
        embedding.features.embedding.numpy(),
        reference.features.numpy(),
        rtol=0,
        atol=1e-5,
    )
    clicks = list(CLICKS.values())
    found = own.predict(embedding, together(clicks, 333, 517))
    for index, click in enumerate(clicks):
        assert_official(found, index, reference, click)


# Portrait; square but for two pixels, and scaled down. Landscape is above.
@pytest.mark.parametrize(("height", "width"), [(401, 230), (1025, 1023)])
def test_any_shape_equals_the_official(
    official_on_own_encoder: Sam, ours: SegmentAnything, height: int, width: int
) -> None:
    image = random_image(height, width)
    encoder = official_on_own_encoder.image_encoder
    encoder.computed.clear()
    own_model = copy.copy(ours)
    own_model._modules = {**ours._modules, "image_encoder": encoder}
    own = predictor(own_model)
    embedding = own.encode(image)
    reference = SamPredictor(official_on_own_encoder)
    reference.set_image(image)
    assert len(encoder.computed) == 1  # both prepared the very same input
    chosen = ["points on and beside", "a box with points", "a mask with a point"]
    clicks = [CLICKS[name] for name in chosen]
    found = own.predict(embedding, together(clicks, height, width))
    for index, click in enumerate(clicks):
        assert_official(found, index, reference, click)
