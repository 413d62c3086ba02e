"""One plane of a file of which only the parts are read that are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_tinysam.files.formats.stack import Stack


class LazyPixels:
    """Is indexed like an array, (Y, X) or (Y, X, C), with slices and for C also with a number.

    Parameters
    ----------
    stack : Stack
        With chunks.
    index : sequence of int or None
        One for each axis of the stack; those of Y, X and S are None.
    channel_axis : int, optional
        Which axis of the stack is that of channels.
    channels : sequence of int, optional
        Which of them are shown; a single one has no axis here.

    Attributes
    ----------
    shape, chunks : tuple of int
    ndim : int
    """

    def __init__(
        self,
        stack: Stack,
        index: Sequence[int | slice | None],
        channel_axis: int | None = None,
        channels: Sequence[int] = (),
    ) -> None:
        self._stack, self._index = stack, list(index)
        self._channel_axis, self._channels = channel_axis, list(channels)
        self._places = [stack.axes.index(axis) for axis in "YX"]
        samples = stack.axes.find("S")
        lengths = [stack.shape[place] for place in self._places]
        pieces = [(stack.chunks or stack.shape)[place] for place in self._places]
        if samples >= 0:
            lengths.append(stack.shape[samples])
            pieces.append(stack.shape[samples])
        elif len(self._channels) > 1:
            lengths.append(len(self._channels))
            pieces.append(1)
        self.shape, self.chunks = tuple(lengths), tuple(pieces)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """Read a part; raises `FileError` if that fails."""
        rows, columns, *last = key if isinstance(key, tuple) else (key, slice(None))
        chosen = last[0] if last else slice(None)
        if len(self._channels) < 2:
            numbers = list(self._channels) or [
                0
            ]  # without channels it is not looked at
        else:
            some: int | list[int] = self._channels[chosen]
            numbers = [some] if isinstance(some, int) else some
        parts = [self._read(number, rows, columns) for number in numbers]
        if len(self._channels) < 2:
            return np.asarray(parts[0][..., chosen]) if self.ndim == 3 else parts[0]
        return np.stack(parts, axis=-1) if isinstance(chosen, slice) else parts[0]

    def __array__(
        self, dtype: Any = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """Read all of it."""
        return np.asarray(self[:, :], dtype)

    def _read(self, channel: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        index = list(self._index)
        index[self._places[0]], index[self._places[1]] = rows, columns
        if self._channel_axis is not None:
            index[self._channel_axis] = channel
        return plane_last(self._stack, self._stack.read(tuple(index)))


def plane_last(stack: Stack, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bring what is read of a stack into the order Y, X, S; other axes are not there any more."""
    left = [axis for axis in stack.axes if axis in "YXS"]
    order = [left.index(axis) for axis in "YXS" if axis in left]
    return np.ascontiguousarray(pixels.transpose(order))
