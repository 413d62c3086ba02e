"""A pyramid of labels that is painted when it is looked at, for a multiscale Labels layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.ui.state.painted import steps_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.ui.state.painted import PaintedPlane
    from napari_tinysam.ui.state.planes import Plane

#: The coarsest level has at most so many pixels along a side.
_COARSEST = 1024


class PaintedPyramid:
    """Painted planes of a stack, at several levels.

    Parameters
    ----------
    shape : sequence of int
        Of the finest level.
    axes : (int, int)
        The axes whose length halves from level to level.

    Attributes
    ----------
    levels : list of PaintedLevel
        The finest first.
    """

    def __init__(self, shape: Sequence[int], axes: tuple[int, int]) -> None:
        self.planes: dict[Plane, PaintedPlane] = {}
        steps = steps_of([shape[axis] for axis in axes], _COARSEST)
        self.levels = [
            PaintedLevel(
                self.planes,
                shape,
                [step if axis in axes else 1 for axis in range(len(shape))],
            )
            for step in steps
        ]

    def write(self, plane: Plane, painted: PaintedPlane | None) -> bool:
        """Replace what is painted on a plane. Returns whether that can be seen."""
        before = self.planes.pop(plane, None)
        if painted is not None:
            self.planes[plane] = painted
        return before is not painted


class PaintedLevel:
    """One level; it reads like an array, with integers and slices.

    Parameters
    ----------
    planes : dict of Plane to PaintedPlane
        What is painted; of the finest level.
    shape : sequence of int
        Of the finest level.
    steps : sequence of int
        Pixels of the finest level from one pixel to the next, along each axis.
    """

    dtype = np.dtype(np.int32)

    def __init__(
        self,
        planes: dict[Plane, PaintedPlane],
        shape: Sequence[int],
        steps: Sequence[int],
    ) -> None:
        self._planes = planes
        self._places = [
            range(0, length, step) for length, step in zip(shape, steps, strict=True)
        ]
        self.shape = tuple(len(places) for places in self._places)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        """Return the length of the first axis."""
        return self.shape[0]

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """Paint all of it."""
        return self[()].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> npt.NDArray[np.int32]:
        """Paint a part."""
        keys = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            keys[at : at + 1] = [slice(None)] * (self.ndim - len(keys) + 1)
        keys += [slice(None)] * (self.ndim - len(keys))
        places = [
            own[each] if isinstance(each, slice) else own[each : each + 1 or None]
            for own, each in zip(self._places, keys, strict=True)
        ]
        values = np.zeros([len(each) for each in places], np.int32)
        for plane, painted in self._planes.items():
            into: list[slice | int] = [slice(None)] * self.ndim
            there = True
            for axis, index in enumerate(plane.index):
                if index is None or axis == plane.channel_axis:
                    continue  # all channels share the objects
                there &= index in places[axis]
                into[axis] = places[axis].index(index) if index in places[axis] else 0
            if there:
                rows, columns = (places[axis] for axis in plane.axes)
                part = painted.paint(rows, columns)
                values[tuple(into)] = part.T if plane.transposed else part
        dropped = tuple(
            0 if not isinstance(each, slice) else slice(None) for each in keys
        )
        return np.asarray(values[dropped])
