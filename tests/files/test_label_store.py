"""Labels on disk, as a pyramid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_tinysam.files.label_store import LabelStore


def test_what_is_written_is_read_at_all_levels() -> None:
    store = LabelStore((3000, 5000))
    assert [level.shape for level in store.levels] == [
        (3000, 5000),
        (1500, 2500),
        (750, 1250),
        (375, 625),
    ]
    ys, xs = (each.ravel() for each in np.mgrid[1000:1200, 2000:2100])
    store.write((ys, xs), np.full(ys.size, 7, np.uint32))
    for step, level in zip((1, 2, 4, 8), store.levels, strict=True):
        expected = np.zeros((3000, 5000), np.uint32)
        expected[1000:1200, 2000:2100] = 7
        np.testing.assert_array_equal(level[:, :], expected[::step, ::step])
    assert store.max() == 7
    assert store.place(7) == (slice(1000, 1200), slice(2000, 2100))
    assert store.place(3) is None
    store.write((ys[:50], xs[:50]), np.zeros(50, np.uint32))
    assert store[1000, 2000] == 0
    assert store.max() == 7


@pytest.mark.parametrize("seed", range(3))
def test_labels_across_chunks_and_planes_are_those_of_an_array(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (2, 2500, 2100)
    store, array = LabelStore(shape), np.zeros(shape, np.uint32)
    for _ in range(3):
        at = tuple(rng.integers(0, side, 500) for side in shape)
        labels = rng.integers(0, 9, 500).astype(np.uint32)
        store.write(at, labels)
        array[at] = labels
    np.testing.assert_array_equal(store[:, :, :], array)
    np.testing.assert_array_equal(store.levels[1][:, :, :], array[:, ::2, ::2])
    for label in range(1, 9):
        place = store.place(label)
        assert place is not None
        there = np.zeros(shape, bool)
        there[place] = True
        assert there[array == label].all()


def test_it_is_saved_tile_by_tile(tmp_path: Path) -> None:
    store = LabelStore((2, 1500, 2100))
    at = np.array([1, 1]), np.array([1023, 1499]), np.array([1024, 2099])
    store.write(at, np.array([4, 5], np.uint32))
    path = tmp_path / "labels.tif"
    store.write_tiff(path, "ZYX")
    saved = tifffile.imread(path)
    assert saved.shape == (2, 1500, 2100)
    assert saved.dtype == np.uint32
    assert np.argwhere(saved).tolist() == [[1, 1023, 1024], [1, 1499, 2099]]
    assert saved[1, 1499, 2099] == 5


def test_its_files_go_with_it() -> None:
    store = LabelStore((10, 10))
    folder = Path(str(store._arrays[0].store_path.store.root))
    assert folder.exists()
    del store
    assert not folder.exists()
