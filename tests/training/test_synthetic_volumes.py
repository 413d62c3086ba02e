"""Synthetic stacks and movies: reproducible, connected, with a truth that the pictures show."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from tinysam_training.synthetic.volumes import (
    SyntheticStack,
    synthetic_movie,
    synthetic_volume,
)


@pytest.fixture(scope="module")
def volume() -> SyntheticStack:
    return synthetic_volume(np.random.default_rng(3), (16, 128, 128), 6)


@pytest.fixture(scope="module")
def movie() -> SyntheticStack:
    rng = np.random.default_rng(1)
    return synthetic_movie(rng, (26, 160, 160), 10, divisions=0.9, speed=3.0)


def test_one_generator_gives_one_stack(volume: SyntheticStack) -> None:
    again = synthetic_volume(np.random.default_rng(3), (16, 128, 128), 6)
    np.testing.assert_array_equal(again.image, volume.image)
    np.testing.assert_array_equal(again.labels, volume.labels)
    other = synthetic_volume(np.random.default_rng(4), (16, 128, 128), 6)
    assert (other.labels != volume.labels).any()


def test_nuclei_are_whole_and_brighter_than_around(volume: SyntheticStack) -> None:
    ids = np.unique(volume.labels)[1:]
    assert len(ids) >= 3
    ground = volume.image[volume.labels == 0].mean()
    for label in ids:
        inside = volume.labels == label
        assert ndi.label(inside)[1] == 1
        assert volume.image[inside].mean() > 2 * ground
        shown = np.flatnonzero(inside.any(axis=(1, 2)))
        assert (np.diff(shown) == 1).all()
        assert len(shown) >= 4


def test_cells_are_there_from_their_first_to_their_last_frame(
    movie: SyntheticStack,
) -> None:
    assert len(np.unique(movie.labels[0])) - 1 == 10
    for label in np.unique(movie.labels)[1:]:
        shown = np.flatnonzero((movie.labels == label).any(axis=(1, 2)))
        assert (np.diff(shown) == 1).all()


def test_daughters_begin_where_their_mother_ends(movie: SyntheticStack) -> None:
    assert movie.parents
    daughters: dict[int, list[int]] = {}
    for child, mother in movie.parents.items():
        daughters.setdefault(mother, []).append(child)
    both = 0
    for mother, children in daughters.items():
        last = np.flatnonzero((movie.labels == mother).any(axis=(1, 2)))[-1]
        place = ndi.center_of_mass(movie.labels[last] == mother)
        for child in children:
            first = np.flatnonzero((movie.labels == child).any(axis=(1, 2)))[0]
            assert first == last + 1
            begun = ndi.center_of_mass(movie.labels[first] == child)
            assert np.hypot(*np.subtract(begun, place)) < 30
        both += len(children) == 2
    assert both >= len(daughters) / 2  # some leave at once


def test_cells_move(movie: SyntheticStack) -> None:
    ways = []
    for label in np.unique(movie.labels[0])[1:]:
        frames = np.flatnonzero((movie.labels == label).any(axis=(1, 2)))
        ends = [ndi.center_of_mass(movie.labels[f] == label) for f in frames[[0, -1]]]
        ways.append(np.hypot(*np.subtract(*ends)))
    assert np.median(ways) > 5
