"""Images turned and mirrored, with labels and distances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from tinysam_training.data.turns import TURNS, turned
from tinysam_training.labelled_image import LabelledImage
from training.small_runs import discs, rectangles


@pytest.mark.parametrize("turn", TURNS)
@given(image=rectangles())
@settings(max_examples=15, deadline=None)
def test_labels_and_distances_follow_the_image(turn: str, image: LabelledImage) -> None:
    found = turned(image, turn)
    # Where each pixel went, told by the image itself.
    places = np.arange(image.labels[0].size, dtype=np.int64).reshape(
        image.labels[0].shape
    )
    where = TURNS[turn](places)
    assert np.array_equal(found.rgb, image.rgb.reshape(-1, 3)[where])
    for layer, before in zip(found.labels, image.labels, strict=True):
        assert np.array_equal(layer, before.ravel()[where])
    for name in ("boundary_distance", "centre_distance"):
        before = getattr(image, name)
        assert np.array_equal(getattr(found, name), before.ravel()[where])
    # The same as if it were computed from the turned labels (a centre between two pixels is not).
    fresh = LabelledImage("c", "b", found.rgb, found.labels)
    assert np.array_equal(found.boundary_distance, fresh.boundary_distance)
    assert np.array_equal(found.boxes, fresh.boxes)
    assert found.rgb.flags.c_contiguous
    assert found.complete == image.complete


def test_there_are_eight_different_turns() -> None:
    plane = np.arange(6).reshape(2, 3)
    found = {
        TURNS[turn](plane).tobytes() + str(TURNS[turn](plane).shape).encode()
        for turn in TURNS
    }
    assert len(found) == len(TURNS) == 8
    kept = [turn for turn in TURNS if TURNS[turn](plane).shape == plane.shape]
    assert kept == list(TURNS)[:4]


def test_partly_annotated_images_stay_so() -> None:
    image = discs(1)[0]
    partly = LabelledImage("p", "b", image.rgb, image.labels, complete=False)
    assert not turned(partly, "transposed").complete
    assert turned(partly, "identity") is partly
