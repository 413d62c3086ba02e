"""What the network is shown equals what segment-anything shows it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import nn

from napari_tinysam.inference.resize import resize_longest_side
from napari_tinysam.model import SegmentAnything

sides = st.integers(1, 300)


def random_rgb(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )


@settings(deadline=None, max_examples=60)
@given(height=sides, width=sides, target=st.sampled_from([64, 255, 256]))
@example(height=256, width=256, target=256)
@example(height=257, width=256, target=256)
@example(height=2, width=1, target=256)
def test_resizing_equals_the_official(height: int, width: int, target: int) -> None:
    image = random_rgb(height, width)
    transform = ResizeLongestSide(target)
    shape = transform.get_preprocess_shape(height, width, target)
    found = resize_longest_side(image, target)
    if 0 in shape:  # the official code fails on such thin images
        assert found.shape[:2] == (max(1, shape[0]), max(1, shape[1]))
        return
    assert found.shape[:2] == shape
    np.testing.assert_array_equal(found, transform.apply_image(image))
    gray = resize_longest_side(np.ascontiguousarray(image[..., :1]), target)
    np.testing.assert_array_equal(gray, found[..., :1])


@pytest.mark.parametrize(
    ("height", "width"),
    [(480, 640), (1023, 1025), (1500, 1100), (3, 20_000), (1024, 1024), (1, 1)],
)
def test_resizing_to_the_published_size(height: int, width: int) -> None:
    image = random_rgb(height, width)
    if (height, width) == (3, 20_000):
        assert resize_longest_side(image, 1024).shape == (1, 1024, 3)
        return
    expected = ResizeLongestSide(1024).apply_image(image)
    np.testing.assert_array_equal(resize_longest_side(image, 1024), expected)


class _Declared(nn.Module):
    """All that `Sam.preprocess` wants of an encoder."""

    img_size = 64


@pytest.mark.parametrize(("height", "width"), [(64, 48), (37, 64), (64, 64), (1, 64)])
def test_normalisation_and_padding_equal_the_official(height: int, width: int) -> None:
    model = SegmentAnything.uninitialized(image_size=64)
    official = Sam(_Declared(), nn.Identity(), nn.Identity())
    image = torch.from_numpy(random_rgb(height, width)).permute(2, 0, 1)[None].float()
    found = model.normalize_and_pad(image)
    assert torch.equal(found, official.preprocess(image))
    assert found.shape == (1, 3, 64, 64)
    # Zero after the normalisation: black would be about −2.
    assert not found[..., height:, :].any()
    assert not found[..., :, width:].any()
    assert found[..., :height, :width].any()
