"""Auto-segmentation of a large plane in the session: tile by tile, those on the screen first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image
from scipy import ndimage as ndi

from desk import open_desk
from everything.plane_of_discs import BrightRuntime, bright_predictor, field
from fake_inference import SteppedInference
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.ui.canvas.proposal_layer import PROPOSED
from napari_tinysam.ui.session.auto import run
from napari_tinysam.ui.state.region import Region

if TYPE_CHECKING:
    from napari_tinysam.ui.session.auto.advice import AutoOutcome


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
    while "of 9 tiles" not in said:
        inference.step()
        said = here.session.status.text
    assert proposed(here).any()
    here.session.cancel()
    inference.run_all()
    assert 40 < here.session.proposals.count < count


def test_what_is_on_the_screen_is_shown_before_the_scale_is_chosen() -> None:
    pixels, count = field((1600, 2600), 60, 3)  # seen better in tiles of 512
    inference = SteppedInference()
    image = Image([pixels, pixels[::2, ::2]], multiscale=True)
    here = desk(image, inference=inference)
    image._data_level = 0
    image.corner_pixels = np.array([[1100, 2000], [1500, 2500]])
    inference.run_all()
    here.session.auto_segment()
    while PROPOSED not in here.viewer.layers:
        assert here.session.status.text in (
            "Looking for objects…",
            "Choosing the scale, 0 masks",
        )
        inference.step()
    assert here.session.status.text.startswith("Choosing the scale, ")
    assert proposed(here)[1100:1500, 2000:2500].any()
    assert not proposed(here)[:600, :600].any()
    while "tiles" not in here.session.status.text:
        inference.step()
    # Those of the samples that are tiles of the chosen side are shown, and not searched again.
    words = here.session.status.text.replace(",", "").split()
    done, total, masks = (int(word) for word in words if word.isdecimal())
    assert done >= 4
    assert total == 24
    assert 40 < masks < count
    inference.run_all()
    assert here.session.proposals.count == count


def test_advice_is_about_objects_as_the_tiles_show_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged: list[AutoOutcome] = []

    def advice(outcome: AutoOutcome) -> None:
        judged.append(outcome)

    monkeypatch.setattr(run, "advice", advice)
    pixels, _ = field((1100, 1600), 60, 3)
    here = desk(Image(pixels))
    here.session.auto_segment()
    (outcome,) = judged
    assert outcome.side == 512  # it was chosen
    assert 10 < np.median(outcome.diameters) < 18


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


class ShadesRuntime(BrightRuntime):
    """Features tell how bright an object is."""

    def __init__(self) -> None:
        super().__init__()
        self._frames: dict[int, np.ndarray] = {}

    def encode(self, rgb: np.ndarray) -> Any:
        regions = super().encode(rgb)
        frame = np.zeros((1024, 1024), np.uint8)
        frame[: rgb.shape[0], : rgb.shape[1]] = rgb[..., 0]
        self._frames[id(regions)] = frame
        return regions

    def feature_maps(self, regions: Any) -> list[np.ndarray]:
        frame = self._frames[id(regions)][8::16, 8::16]
        dim = (frame > 100) & (frame < 190)
        return [np.stack([dim, frame >= 190, np.ones_like(dim)]).astype(np.float32)]


def test_similar_objects_of_a_large_plane_are_those_on_the_screen() -> None:
    pixels, _ = field((2700, 2600), 100, 20)
    numbers, count = ndi.label(pixels > 100)
    shades = np.where(np.arange(count + 1) % 3 == 0, 255, 150)
    shades[0] = 0
    image = Image([shades[numbers].astype(np.uint8), pixels[::2, ::2]], multiscale=True)
    runtime = ShadesRuntime()
    predictor = Predictor(runtime, name="bright", model_id="bright")
    here = open_desk(image, load_predictor=lambda *_: predictor)
    image._data_level = 0
    image.corner_pixels = np.array([[300, 400], [1900, 2100]])
    inside = np.unique(numbers[420:1780, 520:1980])[1:]
    middles = ndi.center_of_mass(numbers > 0, numbers, inside)
    kinds = shades[inside] == 255
    asked = int(np.flatnonzero(kinds)[0])
    here.click(*middles[asked][::-1])
    here.session.commit()
    here.session.hover_at(here.world(*middles[asked][::-1]))
    here.session.find_similar()
    shown = proposed(here) > 0
    found = [bool(shown[int(y), int(x)]) for y, x in middles]
    assert found == [kind and n != asked for n, kind in enumerate(kinds)]
    assert not shown[:250].any()
    assert not shown[2000:].any()
