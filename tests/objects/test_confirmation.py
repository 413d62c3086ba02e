"""How far a mask can be believed, by the object maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_tinysam.objects.confirmation import confirmation, mask_confirmation
from napari_tinysam.objects.maps import boundary_distance, centre_distance


def maps_of(labels: np.ndarray) -> np.ndarray:
    """Maps of a model that makes no mistakes."""
    distances = [f(labels) / 255 for f in (centre_distance, boundary_distance)]
    return np.stack([labels > 0, *distances]).astype(np.float32)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 30), st.integers(1, 30))
def test_a_mask_scores_as_the_object(y: int, x: int, height: int, width: int) -> None:
    labels = np.zeros((64, 64), np.int32)
    labels[y : y + height, x : x + width] = 1
    labels[60:, 60:] = 2  # another one
    mask = labels == 1
    if not mask.any():
        return
    maps = maps_of(labels)
    found = mask_confirmation(mask, maps)
    assert found == pytest.approx(
        confirmation(mask.astype(np.int32), maps)[1], abs=0.02
    )
    assert found > 0.95 or (labels[y : y + height + 1, x : x + width + 1] == 2).any()


def test_fine_maps_are_reduced() -> None:
    labels = np.zeros((128, 128), np.int32)
    labels[20:60, 30:90] = 1
    mask = labels[::2, ::2] == 1
    assert mask_confirmation(mask, maps_of(labels)) > 0.9


def test_a_field_of_objects_is_not_confirmed_as_one() -> None:
    labels = np.zeros((64, 64), np.int32)
    for number, (y, x) in enumerate(np.ndindex(8, 8), 1):
        labels[8 * y + 2 : 8 * y + 6, 8 * x + 2 : 8 * x + 6] = number
    everything = np.ones((64, 64), bool)
    assert mask_confirmation(everything, maps_of(labels)) < 0.3
    assert mask_confirmation(np.zeros((64, 64), bool), maps_of(labels)) == 0
