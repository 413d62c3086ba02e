"""Synthetic microscopy: reproducible, correctly labelled, varied."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from tinysam_training.labelled_image import ImageStore
from tinysam_training.synthetic import (
    SYNTHETIC_KINDS,
    SyntheticSource,
    entries,
    layout,
    optics,
    scene,
    shapes,
    synthetic_image,
    textures,
)

SIZE = (192, 224)


def drawn(kind, seed=0, size=SIZE):
    return synthetic_image(np.random.default_rng(seed), kind, size)


def check_labels(image):
    """Each object is one region of at least 12 pixels; ids have no gaps."""
    assert image.labels.dtype == np.int32
    for layer in image.labels:
        count = int(layer.max())
        regions = ndi.find_objects(layer)
        assert len(regions) == count
        for number, box in enumerate(regions, start=1):
            assert box is not None, f"no object {number}"
            mask = layer[box] == number
            assert mask.sum() >= 12
            assert ndi.label(mask)[1] == 1


def shown_share(image):
    """Share of the objects that differ from their surroundings in some feature."""
    rgb = image.rgb.astype(float)
    gray = rgb.mean(axis=2)
    edges = ndi.gaussian_gradient_magnitude(gray, 1.0)
    # DIC shows an object as bright and dark: as far from the background on either side.
    away = np.abs(gray - np.median(gray))
    features = [*np.moveaxis(rgb, 2, 0), edges, ndi.laplace(gray), away]
    labels = image.labels[0]
    shown = []
    for number, box in enumerate(ndi.find_objects(labels), start=1):
        box = tuple(slice(max(0, part.start - 4), part.stop + 4) for part in box)
        mask = labels[box] == number
        ring = ndi.binary_dilation(mask, iterations=3) & ~mask
        rim = mask & ~ndi.binary_erosion(mask, iterations=2, border_value=1)
        if not ring.any() or not rim.any():
            continue  # it fills the image
        inner = mask & ~rim
        pairs = [(mask, ring), (rim, ring)]
        if inner.any():
            pairs.append((rim, inner))
        strongest = 0.0
        for feature in features:
            values = feature[box]
            for one, other in pairs:
                a, b = values[one], values[other]
                error = np.sqrt(a.var() / len(a) + b.var() / len(b)) + 0.5
                strongest = max(strongest, abs(a.mean() - b.mean()) / error)
        shown.append(strongest > 3)
    return np.mean(shown)


def touching_pairs(labels):
    pairs = set()
    for axis in (0, 1):
        first = np.moveaxis(labels, axis, 0)[:-1]
        second = np.moveaxis(labels, axis, 0)[1:]
        beside = (first != second) & (first > 0) & (second > 0)
        pairs |= set(
            map(tuple, np.sort(np.stack([first[beside], second[beside]], 1)).tolist())
        )
    return pairs


@pytest.mark.parametrize("kind", SYNTHETIC_KINDS)
def test_same_state_same_image(kind):
    first, second = drawn(kind, 5), drawn(kind, 5)
    np.testing.assert_array_equal(first.rgb, second.rgb)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.name == second.name
    assert first.dataset == second.dataset == f"synthetic_{kind}"


@pytest.mark.parametrize("kind", SYNTHETIC_KINDS)
def test_other_seed_other_image(kind):
    first, second = drawn(kind, 5), drawn(kind, 6)
    assert (first.rgb != second.rgb).mean() > 0.2
    assert (first.labels[0] != second.labels[0]).any()
    assert first.name != second.name


@pytest.mark.parametrize("kind", SYNTHETIC_KINDS)
def test_labels_are_valid_and_objects_show(kind):
    shares = []
    for seed in range(3):
        image = drawn(kind, seed)
        assert image.rgb.shape == (*SIZE, 3)
        assert image.labels.shape[1:] == SIZE
        assert image.complete
        assert np.ptp(image.rgb) > 40
        check_labels(image)
        shares.append(shown_share(image))
    assert np.mean(shares) > 0.9


@pytest.mark.parametrize("kind", SYNTHETIC_KINDS)
@pytest.mark.parametrize("size", [(64, 64), (300, 500), (33, 150)])
def test_odd_sizes(kind, size):
    image = drawn(kind, 3, size)
    assert image.rgb.shape == (*size, 3)
    check_labels(image)


@pytest.mark.parametrize("kind", ["yeast", "em_particles"])
def test_whole_frame(kind):
    image = drawn(kind, 1, (1024, 1024))
    assert image.rgb.shape == (1024, 1024, 3)
    check_labels(image)


def test_sizes_and_numbers_cover_the_range():
    diameters, counts = [], []
    for kind in SYNTHETIC_KINDS:
        for seed in range(3):
            image = drawn(kind, seed, (256, 256))
            areas = np.bincount(image.labels[0].ravel())[1:]
            diameters += list(np.sqrt(4 * areas / np.pi) * 1024 / 256)
            counts.append(len(areas))
    diameters = np.array(diameters)
    assert (diameters < 30).any()
    assert ((diameters > 60) & (diameters < 120)).any()
    assert (diameters > 200).any()
    assert min(counts) <= 3
    assert max(counts) >= 150


@pytest.mark.parametrize("kind", SYNTHETIC_KINDS)
def test_objects_touch(kind):
    assert any(touching_pairs(drawn(kind, seed).labels[0]) for seed in range(6))


def test_axons_lie_in_fibres():
    for seed in range(12):
        image = drawn("em_tissue", seed)
        if len(image.labels) == 2:
            break
    axons, fibres = image.labels
    assert ((axons > 0) <= (fibres > 0)).mean() > 0.999
    assert (axons > 0).sum() < (fibres > 0).sum()


def test_every_kind_comes_without_being_asked_for():
    rng = np.random.default_rng(0)
    sets = {synthetic_image(rng, size=(64, 64)).dataset for _ in range(60)}
    assert sets == {f"synthetic_{kind}" for kind in SYNTHETIC_KINDS}


def test_unknown_kind_and_small_size():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no kind of synthetic image 'dogs'"):
        synthetic_image(rng, "dogs")
    with pytest.raises(ValueError, match="at least 32"):
        synthetic_image(rng, "nuclei", (31, 200))
    with pytest.raises(ValueError, match="no kind of synthetic image 'dogs'"):
        SyntheticSource(0, {"nuclei": 1, "dogs": 1})
    with pytest.raises(ValueError, match="at least one is above 0"):
        SyntheticSource(0, {"nuclei": 0})
    with pytest.raises(ValueError, match="one size"):
        SyntheticSource(0, sizes=())


def test_source_is_stateless():
    source = SyntheticSource(4, sizes=((64, 64), (64, 96)))
    backwards = {i: source.image(i) for i in (2, 1, 0)}
    other = SyntheticSource(5, sizes=((64, 64), (64, 96)))
    for i in range(3):
        again = source.image(i)
        np.testing.assert_array_equal(again.rgb, backwards[i].rgb)
        assert again.name == backwards[i].name
        different = other.image(i)
        assert different.rgb.shape != again.rgb.shape or (
            (different.rgb != again.rgb).any()
        )
    assert len({image.name for image in backwards.values()}) == 3


def test_weights_choose_kinds():
    source = SyntheticSource(0, {"nuclei": 3.0, "yeast": 1.0, "cells": 0.0})
    sets = [source.entry(i).dataset for i in range(400)]
    assert set(sets) == {"synthetic_nuclei", "synthetic_yeast"}
    assert 0.68 < sets.count("synthetic_nuclei") / 400 < 0.82


def test_entries_can_be_sent_to_workers_and_read():
    made = entries(6, seed=3, kinds=("nuclei", "shapes"), size=(64, 80))
    store = ImageStore(pickle.loads(pickle.dumps(made)))
    source = SyntheticSource(3, ("nuclei", "shapes"), ((64, 80),))
    for i, entry in enumerate(made):
        image = store[i]
        assert (image.name, image.dataset) == (entry.name, entry.dataset)
        assert image.complete == entry.complete
        np.testing.assert_array_equal(image.rgb, source.image(i).rgb)


def test_fingerprints():
    def prints(*args, **kwargs):
        return [entry.fingerprint for entry in entries(*args, **kwargs)]

    first = prints(5, seed=1)
    assert prints(5, seed=1) == first
    assert len(set(first)) == 5
    assert not set(first) & set(prints(5, seed=2))
    assert not set(first) & set(prints(5, seed=1, size=(64, 64)))
    for fingerprint in first:
        int(fingerprint, 16)


# ------------------------------------------------------------------ its parts


@settings(max_examples=25, deadline=None)
@given(
    st.floats(20, 44),
    st.floats(20, 44),
    st.floats(4, 18),
    st.floats(4, 18),
    st.floats(0, 3.1),
)
def test_ellipse_has_its_area_and_first_order_depth(cy, cx, a, b, angle):
    patch = shapes.Outline(cy, cx, a, b, angle).patch((64, 64))
    assert patch.inside.sum() == pytest.approx(np.pi * a * b, rel=0.15, abs=4)
    exact = ndi.distance_transform_edt(patch.inside)
    near = patch.inside & (patch.depth < 1.5)
    assert np.abs(exact[near] - 0.5 - patch.depth[near]).max() < 1.6


def test_tables_and_ellipses_agree():
    plain = shapes.Outline(30, 31, 20, 11, 0.4).patch((64, 64))
    table = shapes.Outline(30, 31, 20, 11, 0.4, np.ones(shapes.ANGLES)).patch((64, 64))
    np.testing.assert_allclose(plain.depth, table.depth, atol=1e-3)


def test_polygon_is_one():
    radii = shapes.polygon(np.random.default_rng(0), 4, 0.0)
    # The square with corners at distance 1 has sides at distance cos 45°.
    assert radii.max() == pytest.approx(1, abs=1e-3)
    assert radii.min() == pytest.approx(np.cos(np.pi / 4), abs=1e-3)


def test_shapes_outside_have_no_patch():
    assert shapes.Outline(-40, 10, 8, 8).patch((64, 64)) is None
    assert shapes.rod((64, 64), (10, 200), 20, 6, 0.0) is None


@settings(max_examples=15, deadline=None)
@given(st.floats(10, 40), st.floats(4, 10), st.floats(0, 3.1))
def test_rod_has_its_area(length, width, angle):
    length = max(length, width)
    patch = shapes.rod((64, 64), (32.0, 32.0), length, width, angle)
    expected = np.pi / 4 * width**2 + (length - width) * width
    assert patch.soft.sum() == pytest.approx(expected, rel=0.05, abs=3)


def test_overlap_goes_to_the_one_on_top_or_is_shared():
    left = shapes.Outline(16, 12, 8, 8).patch((32, 32))
    right = shapes.Outline(16, 20, 8, 8).patch((32, 32))
    over, beside = scene.Scene((32, 32)), scene.Scene((32, 32))
    for patch in (left, right):
        over.add_on_top(patch)
        beside.add_beside(patch)
    assert (over.labels == 2).sum() == right.inside.sum()
    assert (over.labels == 1).sum() < left.inside.sum()
    ones, twos = (beside.labels == 1).sum(), (beside.labels == 2).sum()
    assert ones == pytest.approx(twos, abs=20)
    assert ((over.labels > 0) == (beside.labels > 0)).all()


def test_visible_objects():
    labels = np.zeros((20, 40), int)
    labels[2:18, 2:30] = 7
    labels[2:18, 14:18] = 3  # cuts 7 in two halves: an object each
    labels[2:4, 35:37] = 9  # too small
    labels[10:18, 32:38] = 5
    labels[10, 39] = 5  # a fragment
    found = scene.visible_objects(labels)
    assert sorted(np.bincount(found.ravel())[1:]) == [48, 64, 192, 192]
    assert found[10, 39] == 0
    assert found[3, 36] == 0
    assert not scene.visible_objects(np.zeros((8, 8), int)).any()


@pytest.mark.parametrize("spacing", [0.7, 1.0])
def test_places_keep_their_distance(spacing):
    rng = np.random.default_rng(0)
    crowd = layout.Layout(clustering=0.3, touching=0.5, spacing=spacing)
    places = layout.place(rng, (200, 300), np.full(120, 9.0), crowd)
    assert len(places) > 40
    away = np.hypot(*(places[:, None, :2] - places[None, :, :2]).transpose(2, 0, 1))
    assert away[~np.eye(len(places), dtype=bool)].min() >= 0.99 * spacing * 18
    away[np.diag_indices(len(places))] = np.inf
    assert (away.min(axis=1) < 18 * 1.06).mean() > 0.3  # many touch


def test_packed_cells_fill_the_plane():
    rng = np.random.default_rng(1)
    full = layout.packed(rng, (150, 180), 24)
    assert (full.labels > 0).all()
    free = layout.packed(rng, (150, 180), 24, free=0.5)
    assert 0.25 < (free.labels > 0).mean() < 0.85
    # The edge distance is small at borders and large away from them.
    border = np.zeros(full.labels.shape, bool)
    border[:, 1:] |= full.labels[:, 1:] != full.labels[:, :-1]
    border[1:] |= full.labels[1:] != full.labels[:-1]
    far = ndi.distance_transform_edt(~border) > 5
    assert full.edge[border].mean() < 1.5 < 3 < full.edge[far].mean()


@pytest.mark.parametrize("sigma", [0.8, 4.0, 7.0, 13.0])
def test_blur_is_gaussian(sigma):
    image = np.zeros((130, 171), np.float32)
    image[40:90, 60:130] = 1
    exact = ndi.gaussian_filter(image, sigma, mode="nearest")
    assert np.abs(optics.blurred(image, sigma) - exact).max() < 0.04


@settings(max_examples=20, deadline=None)
@given(st.integers(32, 90), st.integers(32, 90), st.floats(1.5, 60), st.integers(0, 9))
def test_noise_is_standardised(height, width, scale, seed):
    noise = textures.smooth_noise(np.random.default_rng(seed), (height, width), scale)
    assert noise.shape == (height, width)
    assert noise.dtype == np.float32
    assert noise[::2, ::2].mean() == pytest.approx(0, abs=1e-2)
    assert noise[::2, ::2].std() == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("photons", [10, 400])
def test_noise_grows_with_the_root_of_the_light(photons):
    rng = np.random.default_rng(0)
    for level in (0.25, 1.0):
        image = np.full((200, 200), level, np.float32)
        noisy = optics.noisy(rng, image, photons, 1e-6)
        assert noisy.mean() == pytest.approx(level, rel=0.02)
        assert noisy.std() == pytest.approx(np.sqrt(level / photons), rel=0.05)


def test_empty_fields_stay_flat():
    flat = np.full((40, 50), 0.3, np.float32)
    np.testing.assert_allclose(optics.phase_contrast(flat, 3.0, 1.0), 1, atol=1e-4)
    np.testing.assert_allclose(optics.bright_field(flat, 1.0, 0.0), 1, atol=1e-4)
    dic = optics.interference_contrast(flat, 1.0, 2.0, 1.0)
    np.testing.assert_allclose(dic, 1, atol=1e-4)


def test_phase_contrast_makes_halos():
    phase = np.zeros((60, 60), np.float32)
    phase[20:40, 20:40] = 0.5
    seen = optics.phase_contrast(phase, 4.0, 0.9)
    assert seen[30, 30] < 0.95  # dark inside
    assert seen[30, 42] > 1.03  # bright beside
    assert seen[30, 42] > seen[30, 55]


def test_block_artefacts_grow_as_quality_falls():
    rng = np.random.default_rng(0)
    image = 128 + 30 * textures.fractal_noise(rng, (61, 70), 12)
    good = np.abs(optics.block_artefacts(image, 1.0) - image).mean()
    poor = np.abs(optics.block_artefacts(image, 0.0) - image).mean()
    assert 0.2 < good < poor < 12
