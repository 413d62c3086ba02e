"""Auto-segmentation of a large plane in the session: tile by tile, those on the screen first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.layers import Image

from desk import open_desk
from everything.plane_of_discs import bright_predictor, field
from fake_inference import SteppedInference
from napari_tinysam.ui.canvas.proposal_layer import PROPOSED
from napari_tinysam.ui.state.region import Region


def desk(image: Any, **options: Any) -> Any:
    return open_desk(image, load_predictor=lambda *_: bright_predictor(), **options)


def proposed(here: Any) -> np.ndarray:
    """All pixels of the layer of proposals."""
    return np.asarray(here.viewer.layers[PROPOSED].data[0])


@pytest.mark.parametrize("pyramid", [False, True])
def test_all_objects_of_a_large_plane_are_proposed(pyramid: bool) -> None:
    pixels, count = field((1700, 1600), 100, 20)
    data = [pixels, pixels[::2, ::2]] if pyramid else pixels
    here = desk(Image(data, multiscale=pyramid))
    here.session.auto_segment()
    assert here.session.proposals.count == count
    shown = proposed(here) > 0
    assert (shown & (pixels > 100)).sum() / (shown | (pixels > 100)).sum() > 0.85


def test_cancel_keeps_the_tiles_that_are_done() -> None:
    pixels, count = field((2700, 2600), 100, 20)
    inference = SteppedInference()
    here = desk(Image(pixels), inference=inference)
    inference.run_all()
    here.session.auto_segment()
    said = ""
    while "1 of 9 tiles" not in said:
        inference.step()
        said = here.session.status.text
    assert proposed(here).any()
    here.session.cancel()
    inference.run_all()
    assert 40 < here.session.proposals.count < count


class Recorded:
    """A level of a pyramid that keeps how many pixels were read at once."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels
        self.shape, self.dtype, self.ndim = pixels.shape, pixels.dtype, pixels.ndim
        self.size = pixels.size
        self.most = 0

    def __getitem__(self, key: Any) -> np.ndarray:
        part = self._pixels[key]
        self.most = max(self.most, part.size)
        return part


@pytest.mark.parametrize("region", [Region.PLANE, Region.VIEW, Region.BOX])
def test_the_plane_is_never_read_or_held_whole(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of an image as small as this one, a journal reads all pixels to know it again.
    monkeypatch.setattr("napari_tinysam.journal.identity._WHOLE", 0)
    pixels, count = field((2700, 2600), 100, 20)
    level = Recorded(pixels)
    image = Image([level, pixels[::2, ::2]], multiscale=True, contrast_limits=(0, 255))
    here = desk(image)
    image._data_level = 0
    image.corner_pixels = np.array([[300, 400], [900, 1100]])
    here.box(500, 600, 1400, 1300)
    here.session.auto.set_region(region)
    here.session.auto_segment()
    if region is Region.PLANE:
        assert here.session.proposals.count == count
    else:
        assert 20 < here.session.proposals.count < 100
    assert level.most <= 1024 * 1024
    layer = here.viewer.layers[PROPOSED]
    assert layer.multiscale
    assert not isinstance(layer.data[0], np.ndarray)
