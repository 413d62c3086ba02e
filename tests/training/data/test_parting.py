"""One image in two parts: they share no pixel, and both have objects."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinysam_training.data import ImageEntry
from tinysam_training.data.parting import LEAST_OBJECTS, part_image
from tinysam_training.labelled_image import LabelledImage


def entry_of(image: LabelledImage) -> ImageEntry:
    return ImageEntry(image.name, image.dataset, image.complete, lambda: image, "f")


def image_of(
    height: int, width: int, places: list[tuple[float, float]]
) -> LabelledImage:
    labels = np.zeros((height, width), np.int32)
    for number, (y, x) in enumerate(places, start=1):
        top, left = int(y * (height - 3)), int(x * (width - 3))
        labels[top : top + 3, left : left + 3] = number
    pixels = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    return LabelledImage.from_arrays("one", "set", pixels, labels)


unit = st.floats(0, 1)


@given(
    st.integers(20, 90),
    st.integers(20, 90),
    st.lists(st.tuples(unit, unit), max_size=40),
)
def test_parts_share_no_pixel_and_make_the_image(
    height: int, width: int, places: list[tuple[float, float]]
) -> None:
    image = image_of(height, width, places)
    parts = part_image(entry_of(image))
    if parts is None:
        return
    first, second = (part.read() for part in parts)
    axis = 0 if height <= width else 1
    assert np.array_equal(np.concatenate([first.rgb, second.rgb], axis), image.rgb)
    # The longer side stays, so that the model sees the parts at the scale of the whole.
    longest = max(height, width)
    assert {max(part.rgb.shape[:2]) for part in (first, second)} == {longest}
    assert first.labels.any()
    assert second.labels.any()
    both = np.concatenate([first.labels[0] > 0, second.labels[0] > 0], axis)
    assert np.array_equal(both, image.labels[0] > 0)
    assert len({part.fingerprint for part in parts}) == 2


def test_thirty_objects_are_enough_and_a_few_are_not() -> None:
    places = [(i / 29, (i * 7 % 30) / 29) for i in range(30)]
    parts = part_image(entry_of(image_of(200, 300, places)))
    assert parts is not None
    train, held = (len(part.read().boxes) for part in parts)
    assert held < train
    assert held >= 5
    few = places[: LEAST_OBJECTS - 1]
    assert part_image(entry_of(image_of(200, 300, few))) is None
