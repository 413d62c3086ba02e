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
