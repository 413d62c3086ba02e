"""Places of tracks are found in labelled objects."""

from __future__ import annotations

import numpy as np

from napari_tinysam.volume.exchange.attaching import attached
from napari_tinysam.volume.exchange.points import TrackPoints


def test_the_object_that_holds_the_place() -> None:
    frames = np.zeros((2, 3, 10, 10), np.uint16)
    frames[0, 1, 2:5, 2:5], frames[1, 2, 5:8, 5:8], frames[1, 0, 0, 0] = 4, 9, 2
    points = TrackPoints.sorted(
        [1, 1, 2, 3], [0, 1, 1, 0], [[1.4, 3, 3], [2, 6, 6], [2, 5, 5], [0, 3, 3]], {}
    )
    found = attached(points, frames)
    assert found.objects == ((1, 0, 4), (1, 1, 9))
    assert (found.outside, found.shared, found.alone) == (1, 1, 1)
    assert found.in_words("cells") == (
        "1 track belongs to objects of cells; 1 of 4 places lie in no object, 1 lies in one of "
        "another track, 1 object had no track."
    )
