"""An image is known again by its content, and never taken for another."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tinysam.journal.identity import ImageIdentity, Match, identify


@pytest.fixture
def cells() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, (3, 60, 50), np.uint16)


def test_an_image_is_the_same_again(cells):
    first = identify(cells, address="/a/cells.tif", name="cells")

    assert first.match(identify(cells.copy(), address="/a/cells.tif")) is Match.SAME


def test_a_renamed_or_moved_image_is_found_again(cells):
    first = identify(cells, address="/a/cells.tif", name="cells")
    moved = identify(cells, address="/b/other.tif", name="other")

    assert first.match(moved) is Match.MOVED
    assert first.content == moved.content


def test_the_byte_order_of_a_file_does_not_matter(cells):
    other = cells.astype(">u2")

    assert identify(cells) == identify(other)


def test_a_changed_file_is_said_to_be_changed(cells):
    first = identify(cells, address="/a/cells.tif")
    cells[1, 3, 4] += 1

    assert first.match(identify(cells, address="/a/cells.tif")) is Match.CHANGED
    # Another image of the same file.
    other = identify(cells, address="/a/cells.tif", name="cells [1]")
    assert first.match(other) is Match.OTHER


def test_another_file_is_another_image(cells):
    first = identify(cells, address="/a/cells.tif")
    cells[1, 3, 4] += 1

    assert first.match(identify(cells, address="/a/cells2.tif")) is Match.OTHER
    assert first.match(identify(cells)) is Match.OTHER


@pytest.mark.parametrize("of", ["shape", "dtype"])
def test_shape_and_dtype_count(cells, of):
    first = identify(cells)
    other = cells.reshape(3, 50, 60) if of == "shape" else cells.view(np.int16)

    assert first.match(identify(other)) is Match.OTHER


def test_two_blank_images_are_not_the_same():
    blank = np.zeros((20, 20), np.uint8)
    first = identify(blank, address="/a/1.tif", name="1")

    assert first.match(identify(blank, address="/a/2.tif", name="2")) is Match.OTHER
    assert first.match(identify(blank, address="/a/1.tif", name="1")) is Match.SAME


def test_images_in_memory_are_known_by_content(cells):
    first = identify(cells, name="Image")

    assert first.match(identify(cells, name="Image")) is Match.SAME
    assert first.match(identify(cells + 1, name="Image")) is Match.OTHER


class Counting:
    """Pixels that know how many of them were read."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.dtype, self.read = shape, np.dtype(np.uint16), 0
        self.places: list[tuple[slice, ...]] = []

    def __getitem__(self, place):
        self.places.append(place)
        sizes = [
            len(range(*p.indices(n))) for p, n in zip(place, self.shape, strict=True)
        ]
        self.read += int(np.prod(sizes))
        rng = np.random.default_rng([each.start or 0 for each in place])
        return rng.integers(0, 9, sizes, np.uint16)


def test_of_a_large_image_a_part_is_read_that_is_spread_over_it():
    image = Counting((40, 30_000, 20_000, 3))

    first = identify(image)

    assert 0 < image.read * 2 <= 2**24
    planes = {place[0].start for place in image.places}
    rows = [place[1].start for place in image.places]
    assert len(planes) > 20
    assert min(rows) < 3000
    assert max(rows) > 27_000
    assert first == identify(Counting(image.shape))


def test_it_survives_a_file(cells):
    first = identify(cells, address="/a/cells.tif", name="cells")

    assert ImageIdentity.from_json(first.to_json()) == first
