"""Sample data: what the menu File → Open Sample → TinySAM opens."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer
from scipy import ndimage as ndi
from skimage import data

from napari_tinysam.ui.contributions import samples


@pytest.fixture(scope="module")
def small() -> tuple[np.ndarray, np.ndarray]:
    return samples.synthetic_nuclei(shape=(3, 12, 96, 128), count=8, seed=3)


def test_synthetic_is_the_same_for_the_same_seed(small):
    image, labels = small
    again = samples.synthetic_nuclei(shape=image.shape, count=8, seed=3)
    other = samples.synthetic_nuclei(shape=image.shape, count=8, seed=4)

    np.testing.assert_array_equal(image, again[0])
    np.testing.assert_array_equal(labels, again[1])
    assert not np.array_equal(labels, other[1])


def test_synthetic_nuclei_keep_their_labels_and_move(small):
    image, labels = small

    assert image.shape == labels.shape == (3, 12, 96, 128)
    assert image.dtype == labels.dtype == np.uint16
    present = [set(np.unique(frame)) for frame in labels]
    assert present[0] == present[1] == present[2]
    assert len(present[0]) > 4
    assert not np.array_equal(labels[0], labels[2])


def test_synthetic_nuclei_are_whole(small):
    _, labels = small
    for frame in labels:
        for label in np.unique(frame[frame > 0]):
            assert ndi.label(frame == label)[1] == 1


def test_synthetic_nuclei_are_brighter_than_their_background(small):
    image, labels = small
    background = float(image[labels == 0].mean())
    for label in np.unique(labels[labels > 0]):
        assert float(image[labels == label].mean()) > 1.3 * background


def test_synthetic_places_fewer_nuclei_where_they_do_not_fit():
    _, labels = samples.synthetic_nuclei(shape=(1, 8, 48, 48), count=60)

    assert 0 < labels.max() < 60


def test_synthetic_opens_an_image_and_its_labels_in_the_same_space():
    image, labels = (Layer.create(*layer) for layer in samples.synthetic())

    assert isinstance(image, Image)
    assert isinstance(labels, Labels)
    assert image.data.shape == labels.data.shape == samples.SHAPE
    assert int(labels.data.max()) >= 40
    np.testing.assert_array_equal(image.scale, labels.scale)
    assert image.units == labels.units
    assert image.axis_labels == labels.axis_labels == ("t", "z", "y", "x")
    assert not labels.visible


@pytest.mark.parametrize(
    ("sample", "shape", "rgb"),
    [(samples.tissue, (512, 512, 3), True), (samples.cell, (660, 550), False)],
)
def test_offline_samples_come_with_scikit_image(sample, shape, rgb):
    (layer,) = (Layer.create(*layer) for layer in sample())

    assert layer.data.shape == shape
    assert layer.rgb is rgb


def test_nuclei_stack_is_the_nuclear_channel_with_its_voxel_size(monkeypatch):
    channels = np.zeros((5, 2, 8, 9), np.uint16)
    channels[:, 1] = 7
    monkeypatch.setattr(data, "cells3d", lambda: channels)

    (layer,) = (Layer.create(*layer) for layer in samples.nuclei_stack())

    assert layer.data.shape == (5, 8, 9)
    assert layer.data.min() == 7
    np.testing.assert_allclose(layer.scale, (0.29, 0.26, 0.26))


def test_nuclei_are_human_mitosis(monkeypatch):
    monkeypatch.setattr(data, "human_mitosis", lambda: np.ones((6, 7), np.uint8))

    (layer,) = (Layer.create(*layer) for layer in samples.nuclei())

    assert layer.data.shape == (6, 7)


@pytest.mark.parametrize(
    ("sample", "name"),
    [(samples.nuclei, "human_mitosis"), (samples.nuclei_stack, "cells3d")],
)
@pytest.mark.parametrize("error", [ConnectionError("no route"), ValueError("hash")])
def test_a_sample_that_cannot_be_downloaded_says_what_to_do(
    monkeypatch, sample, name, error
):
    def unreachable():
        raise error

    unreachable.__name__ = name
    monkeypatch.setattr(data, name, unreachable)

    with pytest.raises(RuntimeError, match=f'"{name}".*network.*offline'):
        sample()
