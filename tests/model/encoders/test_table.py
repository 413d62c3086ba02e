"""The table of encoders says what its encoders are."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from napari_tinysam.model import ENCODERS, Architecture, SegmentAnything, to_official


def test_type_checkers_know_the_names() -> None:
    assert list(ENCODERS) == list(get_args(Architecture))


@pytest.mark.parametrize("architecture", ENCODERS)
def test_files_are_recognised_by_tensors_that_they_have(
    architecture: Architecture,
) -> None:
    with torch.device("meta"):
        model = SegmentAnything(architecture, 64)
    shapes = {n: tuple(t.shape) for n, t in to_official(model.state_dict()).items()}
    widths = ENCODERS[architecture].widths
    assert widths
    for name, (axis, width) in widths.items():
        assert shapes[name][axis] == width


@pytest.mark.parametrize(
    "architecture", [name for name, kind in ENCODERS.items() if kind.detail_channels]
)
def test_details_have_the_channels_that_it_says(architecture: Architecture) -> None:
    with torch.device("meta"):
        model = SegmentAnything(architecture, 64, object_head=True, details=True)
        found = model.features(torch.empty(1, 3, 64, 64))
    channels = tuple(level.shape[1] for level in found.details)
    assert channels == model.encoder_kind.detail_channels
    assert found.embedding.shape == (1, 256, 4, 4)
