"""Sizes in pixels, written in the units of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pint

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_tinysam.ui.state.planes import Plane

#: The image's unit is kept for largest sizes from the first up to the second of these; beyond them
#: the prefix changes: "0.3 nm" for "0.0003 µm".
_READABLE = (0.1, 10_000.0)


@dataclass(frozen=True)
class Lengths:
    """Writes lengths that are given in pixels.

    Attributes
    ----------
    side : float
        Of a pixel, in `unit`.
    unit : str
        "px", "µm", "nm"…
    """

    side: float = 1.0
    unit: str = "px"

    def range(self, low: float, high: float, largest: float) -> str:
        """Write a range of lengths, "12–40 px" or "1.2–4.0 µm".

        Parameters
        ----------
        low, high : float
            In pixels.
        largest : float
            In pixels; decides how many digits all ranges of one slider have.
        """
        digits = 0
        if self.unit != "px":
            top = largest * self.side
            digits = 0 if top >= 100 else 1 if top >= 10 else 2
        low, high = low * self.side, high * self.side
        return f"{low:.{digits}f}–{high:.{digits}f} {self.unit}"


def lengths_of(layer: Image, plane: Plane, largest: float) -> Lengths:
    """Choose the unit of lengths on a plane: that of the layer, or pixels where it has none.

    Parameters
    ----------
    layer : napari.layers.Image
    plane : Plane
        Of it.
    largest : float
        The largest length that will be written, in pixels.

    Returns
    -------
    Lengths
        Of square pixels with the world area of a pixel under scale, rotation, shear and affine, so
        that diameters of discs are right.
    """
    units: tuple[Any, ...] = layer.units
    shown = [units[axis] for axis in plane.axes]
    if not all(unit.is_compatible_with("meter") for unit in shown):
        return Lengths()
    registry = pint.get_application_registry()  # type: ignore[no-untyped-call]
    unit = shown[0]
    # One factor a world axis; axes that are not lengths (time) have 0.
    factors = np.array(
        [
            float(registry.Quantity(1.0, each).to(unit).magnitude)
            if each.is_compatible_with("meter")
            else 0.0
            for each in units
        ]
    )
    origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)))
    sides = []
    for axis in plane.axes:
        step = np.zeros(layer.ndim)
        step[axis] = 1
        sides.append((np.asarray(layer.data_to_world(step)) - origin) * factors)
    down, across = sides
    square = (down @ down) * (across @ across) - (down @ across) ** 2
    side = float(max(square, 0.0) ** 0.25)
    if not 0 < side < np.inf:
        return Lengths()
    top = registry.Quantity(max(largest, 1.0) * side, unit)
    if not _READABLE[0] <= top.magnitude < _READABLE[1]:
        unit = top.to_compact().units
        side = float(registry.Quantity(side, shown[0]).to(unit).magnitude)
    return Lengths(side, f"{unit:~P}")
