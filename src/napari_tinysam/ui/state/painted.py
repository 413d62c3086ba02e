"""Proposals as values of the pixels of their layer, painted where and as finely as they are shown.

A large plane of values is never held: a window of it is painted when it is shown. For windows of
every fourth, eighth … pixel the few pixels of each small object are kept, because there may be
hundreds of thousands of them in such a window.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_tinysam.ui.state.coloring import PALETTE, value_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.everything import Proposals
    from napari_tinysam.everything.shapes import Shapes
    from napari_tinysam.masks import BoxedMask

#: Coarser windows than this are painted from kept pixels.
_FINEST_KEPT = 4

#: Objects of more pixels of a window along their longer side are painted one by one: these are few.
_SMALL = 32

#: Side of the squares by which objects of a running search are found, in pixels.
_SQUARE = 64


class PaintedPlane(Protocol):
    """A plane of values, painted on demand."""

    shape: tuple[int, int]

    def paint(self, rows: range, columns: range) -> npt.NDArray[np.int32]:
        """Paint some rows and columns."""
        ...


class Pixels:
    """Every `step`-th pixel of objects that are small at that step.

    Parameters
    ----------
    step : int
    """

    def __init__(self, step: int) -> None:
        self.step = step
        self._parts: list[tuple[npt.NDArray[np.int32], ...]] = []
        self._added: list[
            tuple[int, BoxedMask, BoxedMask | None]
        ] = []  # not in `_parts`

    def add(
        self, number: int, mask: BoxedMask, territory: BoxedMask | None = None
    ) -> bool:
        """Add an object; numbers ascend. Returns whether it is small."""
        if max(mask.mask.shape) > _SMALL * self.step:
            return False
        self._added.append((number, mask, territory))
        return True

    def _part(
        self, number: int, mask: BoxedMask, territory: BoxedMask | None
    ) -> tuple[npt.NDArray[np.int32], ...]:
        step = self.step
        top, left = -mask.y0 % step, -mask.x0 % step
        rows, columns = np.nonzero(mask.mask[top::step, left::step])
        rows, columns = rows * step + top, columns * step + left
        own = np.zeros(len(rows), np.int32)
        if territory is not None and len(rows):
            own = territory.within(mask.slices)[rows, columns].astype(np.int32)
        return (
            np.full(len(rows), number, np.int32),
            ((rows + mask.y0) // step).astype(np.int32),
            ((columns + mask.x0) // step).astype(np.int32),
            own,
        )

    def all(self) -> tuple[npt.NDArray[np.int32], ...]:
        """Numbers, rows and columns in steps, and whether in the object's own territory."""
        self._parts += [self._part(*each) for each in self._added]
        self._added.clear()
        if len(self._parts) != 1:
            empty = (np.zeros(0, np.int32),) * 4
            self._parts = [
                tuple(map(np.concatenate, zip(empty, *self._parts, strict=True)))
            ]
        return self._parts[0]

    def draw(
        self,
        values: npt.NDArray[np.int32],
        rows: range,
        columns: range,
        value_at: npt.NDArray[np.int32],
    ) -> None:
        """Draw all objects, the first ones over later ones but where these own the pixel.

        Parameters
        ----------
        values : ndarray of int32, (h, w)
            Is changed.
        rows, columns : range
            Where it lies in the plane, with this step.
        value_at : ndarray of int32, (N,)
            Value of each object; 0: it is not shown.
        """
        numbers, y, x, own = self.all()
        y0, x0 = rows.start // self.step, columns.start // self.step
        height, width = values.shape
        y, x = y - y0, x - x0
        shown = value_at[numbers] > 0
        shown &= (y >= 0) & (y < height) & (x >= 0) & (x < width)
        at = (y[shown] * np.int64(width) + x[shown], value_at[numbers[shown]])
        flat = values.reshape(-1)
        # Of several values for one pixel, numpy keeps the last.
        flat[at[0][::-1]] = at[1][::-1]
        own_at = own[shown] > 0
        flat[at[0][own_at]] = at[1][own_at]


class KeptPixels:
    """`Pixels` of all coarse steps, made once for proposals whatever their filter.

    Parameters
    ----------
    proposals : Proposals
    """

    def __init__(self, proposals: Proposals) -> None:
        self.steps: dict[int, Pixels] = {}
        self.is_small: dict[int, npt.NDArray[np.bool_]] = {}
        step = _FINEST_KEPT
        while max(proposals.shape) >= step * _SMALL:
            pixels = Pixels(step)
            self.is_small[step] = np.array(
                [
                    # Pieces of others are painted, or not, one by one.
                    each.in_one_piece and pixels.add(number, each.mask, each.territory)
                    for number, each in enumerate(proposals)
                ],
                bool,
            )
            pixels.all()
            self.steps[step] = pixels
            step *= 2

    def of(self, rows: range, columns: range) -> Pixels | None:
        """Return the pixels that are kept for such a window; None for another step."""
        return _fitting(self.steps, rows, columns)


class ShownObjects:
    """The proposals that the user's settings show, as a `PaintedPlane`.

    Parameters
    ----------
    shapes : Shapes
    colors : ndarray of int, (N,)
        Of all proposals, see `napari_tinysam.ui.state.coloring.choose_colors`.
    kept : KeptPixels, optional
        Of the proposals; without them coarse windows take longer.
    palette : int
        How many colours there are.
    """

    def __init__(
        self,
        shapes: Shapes,
        colors: npt.NDArray[np.intp],
        kept: KeptPixels | None = None,
        palette: int = len(PALETTE),
    ) -> None:
        proposals = shapes.proposals
        self.shape = proposals.shape
        self._shapes, self._kept = shapes, kept
        self._boxes = proposals.boxes
        self._values = np.zeros(len(proposals), np.int32)
        numbers = np.asarray(shapes.numbers, np.intp)
        self._values[numbers] = value_of(numbers, colors[numbers], palette)

    def paint(self, rows: range, columns: range) -> npt.NDArray[np.int32]:
        """Paint some rows and columns."""
        values = np.zeros((len(rows), len(columns)), np.int32)
        alone = self._values > 0
        pixels = None if self._kept is None else self._kept.of(rows, columns)
        if self._kept is not None and pixels is not None:
            small = self._kept.is_small[pixels.step] & ~self._shapes.meets_taken
            pixels.draw(values, rows, columns, np.where(small, self._values, 0))
            alone &= ~small
        x0, y0, x1, y1 = self._boxes.T
        alone &= (y0 < rows.stop) & (y1 >= rows.start)
        alone &= (x0 < columns.stop) & (x1 >= columns.start)
        for number in np.flatnonzero(alone).tolist():
            _draw(values, rows, columns, self._shapes.of(number), self._values[number])
        return values


class FoundObjects:
    """What a running search has found, as a `PaintedPlane`.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the plane.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._masks: list[BoxedMask] = []
        self._boxes: list[tuple[int, int, int, int]] = []
        self._values: list[int] = []
        self._near: dict[tuple[int, int], list[int]] = {}
        self._large: dict[int, list[int]] = {}
        self._pixels: dict[int, Pixels] = {}
        step = _FINEST_KEPT
        while max(shape) >= step * _SMALL:
            self._pixels[step], self._large[step] = Pixels(step), []
            step *= 2
        self._used = np.zeros(len(PALETTE), np.int64)  # how often each colour is

    def __len__(self) -> int:
        """Return how many objects there are."""
        return len(self._masks)

    def add(self, mask: BoxedMask) -> bool:
        """Add an object's free pixels, unless most are taken: it is another mask of one there."""
        from napari_tinysam.masks import BoxedMask

        ys, xs = mask.slices
        height, width = self.shape
        around = self.paint(
            range(max(ys.start - 2, 0), min(ys.stop + 2, height)),
            range(max(xs.start - 2, 0), min(xs.stop + 2, width)),
        )
        top, left = ys.start - max(ys.start - 2, 0), xs.start - max(xs.start - 2, 0)
        inside = around[
            top : top + mask.mask.shape[0], left : left + mask.mask.shape[1]
        ]
        free = mask.mask & (inside == 0)
        if 2 * int(np.count_nonzero(free)) <= mask.area:
            return False
        number = len(self._masks)
        own = BoxedMask(free, mask.y0, mask.x0, mask.shape)
        self._masks.append(own)
        self._boxes.append(own.box)
        self._values.append(value_of(number, self._next_color(around)))
        for square in _squares(range(ys.start, ys.stop), range(xs.start, xs.stop)):
            self._near.setdefault(square, []).append(number)
        for step, pixels in self._pixels.items():
            if not pixels.add(number, own):
                self._large[step].append(number)
        return True

    def paint(self, rows: range, columns: range) -> npt.NDArray[np.int32]:
        """Paint some rows and columns."""
        values = np.zeros((len(rows), len(columns)), np.int32)
        pixels = _fitting(self._pixels, rows, columns)
        if pixels is None:
            near: Iterable[int] = {
                number
                for square in _squares(rows, columns)
                for number in self._near.get(square, ())
                if self._meets(number, rows, columns)
            }
        else:
            pixels.draw(values, rows, columns, np.array(self._values, np.int32))
            near = self._large[pixels.step]
        for number in near:
            _draw(values, rows, columns, self._masks[number], self._values[number])
        return values

    def _meets(self, number: int, rows: range, columns: range) -> bool:
        x0, y0, x1, y1 = self._boxes[number]
        return (
            y0 < rows.stop
            and y1 >= rows.start
            and x0 < columns.stop
            and x1 >= columns.start
        )

    def _next_color(self, around: npt.NDArray[np.int32]) -> int:
        """Choose the colour that is rarest around a mask; among equals, the rarest of all."""
        seen = np.bincount(
            (around[around > 0] - 1) % len(PALETTE), minlength=len(PALETTE)
        )
        color = int(np.lexsort((self._used, seen))[0])
        self._used[color] += 1
        return color


def whole(painted: PaintedPlane) -> npt.NDArray[np.int32]:
    """Paint all of a plane."""
    height, width = painted.shape
    return painted.paint(range(height), range(width))


def _fitting(kept: Mapping[int, Pixels], rows: range, columns: range) -> Pixels | None:
    step = rows.step
    aligned = step == columns.step and not (rows.start % step or columns.start % step)
    return kept.get(step) if aligned else None


def _squares(rows: range, columns: range) -> list[tuple[int, int]]:
    return [
        (row, column)
        for row in range(rows.start // _SQUARE, (rows.stop - 1) // _SQUARE + 1)
        for column in range(columns.start // _SQUARE, (columns.stop - 1) // _SQUARE + 1)
    ]


def _draw(
    values: npt.NDArray[np.int32],
    rows: range,
    columns: range,
    mask: BoxedMask,
    value: int,
) -> None:
    """Draw a mask into some rows and columns of a plane."""
    (to_y, of_y), (to_x, of_x) = (
        _common(window, first, length)
        for window, first, length in zip(
            (rows, columns), (mask.y0, mask.x0), mask.mask.shape, strict=True
        )
    )
    values[to_y, to_x][mask.mask[of_y, of_x]] = value


def _common(window: range, first: int, length: int) -> tuple[slice, slice]:
    """Slices of a window and of a mask that begins at `first`, for what both have."""
    step = window.step
    begin = max(-(-(first - window.start) // step), 0)
    end = min(-(-(first + length - window.start) // step), len(window))
    end = max(end, begin)
    start = window.start + begin * step - first
    return slice(begin, end), slice(start, start + (end - begin) * step, step)


def steps_of(shape: Sequence[int], coarsest: int) -> list[int]:
    """List the steps of a pyramid's levels: 1, 2, 4 … up to `coarsest` pixels along a side."""
    steps = [1]
    while max(shape) / steps[-1] > coarsest:
        steps.append(2 * steps[-1])
    return steps
