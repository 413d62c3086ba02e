"""How large a pixel is, and how sizes are written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_tinysam.ui.state.planes import shown_plane
from napari_tinysam.ui.state.sizes import Lengths, lengths_of


def lengths(shape: tuple[int, ...], largest: float = 100, **options: Any) -> Lengths:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros(shape), **options)
    assert isinstance(layer, Image)
    return lengths_of(layer, shown_plane(layer, viewer.dims), largest)


def test_without_units_sizes_are_in_pixels() -> None:
    assert lengths((20, 30), scale=(0.5, 0.5)) == Lengths()
    assert Lengths().range(3, 41, 50) == "3–41 px"


@pytest.mark.parametrize(
    ("options", "side", "unit"),
    [
        ({"scale": (0.5, 0.5), "units": ("um", "um")}, 0.5, "µm"),
        # A pixel of 0.2 by 0.8 µm has the area of a square of 0.4 µm.
        ({"scale": (0.2, 0.8), "units": ("um", "um")}, 0.4, "µm"),
        ({"scale": (20, 0.08), "units": ("nm", "um")}, 40, "nm"),
        ({"scale": (0.5, 0.5), "units": ("um", "um"), "rotate": 30}, 0.5, "µm"),
        ({"scale": (0.5, 0.5), "units": ("um", "um"), "shear": [0.3]}, 0.5, "µm"),
        (
            {"affine": [[0, -3, 4], [3, 0, 0], [0, 0, 1]], "units": ("um", "um")},
            3,
            "µm",
        ),
        # Written as 0.0001 m, nobody could tell sizes apart.
        ({"scale": (2e-6, 2e-6), "units": ("m", "m")}, 2, "µm"),
        ({"scale": (0.5, 0.5), "units": ("second", "um")}, 1, "px"),
    ],
)
def test_the_layer_s_units_and_transform_count(
    options: dict[str, Any], side: float, unit: str
) -> None:
    options["axis_labels"] = ("y", "x")
    found = lengths((20, 30), **options)
    assert found.unit == unit
    assert found.side == pytest.approx(side)


def test_axes_that_are_not_shown_do_not_count() -> None:
    found = lengths((5, 4, 20, 30), scale=(60, 2, 0.5, 0.5), units=("s", "um") * 2)
    assert found == Lengths()  # the rows are seconds
    units = ("s", "um", "um", "um")
    found = lengths((5, 4, 20, 30), scale=(60, 2, 0.5, 0.5), units=units)
    assert (found.side, found.unit) == (pytest.approx(0.5), "µm")


def test_digits_follow_the_largest_size() -> None:
    microns = Lengths(0.25, "µm")
    assert microns.range(4, 20, 20) == "1.00–5.00 µm"
    assert microns.range(4, 100, 100) == "1.0–25.0 µm"
    assert microns.range(4, 800, 800) == "1–200 µm"
