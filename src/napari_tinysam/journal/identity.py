"""Which image a journal belongs to: by content, so that it is found again under any name.

A hash of the whole image would take minutes for large ones; a hash of blocks that are spread over
it takes a moment.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from hashlib import blake2b
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: Images up to this many bytes are hashed whole.
_WHOLE = 2**24

#: Number and side of the blocks of larger ones.
_BLOCKS, _SIDE = 64, 128


class Match(Enum):
    """What an open image is to the one that a journal was written for."""

    SAME = "the same image"
    MOVED = "the same image under another name or in another place"
    CHANGED = "the file of the image, with other content"
    OTHER = "another image"


@dataclass(frozen=True)
class ImageIdentity:
    """What tells an image from others.

    Parameters
    ----------
    address : str
        File or URL; "" of an image that only exists in memory.
    name : str
        Of the layer, for users.
    shape : tuple of int
    dtype : str
        As numpy writes it, in little-endian byte order.
    content : str
        Hash of the pixels, or of blocks of them.
    telling : bool
        Whether the pixels that were hashed differ. Blank images are known by address and name
        only.
    """

    address: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    content: str
    telling: bool

    def match(self, opened: ImageIdentity) -> Match:
        """Say what an image that is open now is to this one."""
        same_place = self.address == opened.address
        if (self.shape, self.dtype, self.content) == (
            opened.shape,
            opened.dtype,
            opened.content,
        ):
            if same_place and (self.address or self.name == opened.name):
                return Match.SAME
            return Match.MOVED if self.telling else Match.OTHER
        # A file may hold several images: the name of the layer tells them apart.
        same_place = same_place and bool(self.address) and self.name == opened.name
        if same_place and self.shape == opened.shape:
            return Match.CHANGED
        return Match.OTHER

    def to_json(self) -> dict[str, Any]:
        """Return it for a file."""
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ImageIdentity:
        """Read what `to_json` wrote.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is something else.
        """
        return cls(
            address=str(content["address"]),
            name=str(content["name"]),
            shape=tuple(int(length) for length in content["shape"]),
            dtype=str(content["dtype"]),
            content=str(content["content"]),
            telling=bool(content["telling"]),
        )


def identify(data: Any, *, address: str = "", name: str = "") -> ImageIdentity:
    """Identify an image. It reads up to 16 MB of it, so it belongs in a worker where data are slow.

    Parameters
    ----------
    data : array-like
        Of any number of axes; has shape and dtype and can be sliced. Of a pyramid the finest level.
    address : str
        File or URL.
    name : str
        For users.
    """
    shape = tuple(int(length) for length in data.shape)
    dtype = np.dtype(data.dtype).newbyteorder("<")
    found = blake2b(digest_size=20)
    values: list[Any] = []
    for place in _places(shape, dtype.itemsize):
        block = np.ascontiguousarray(np.asarray(data[place]).astype(dtype, copy=False))
        found.update(block.tobytes())
        if block.size:
            values += [block.min(), block.max()]
    return ImageIdentity(
        address, name, shape, dtype.str, found.hexdigest(), len(set(values)) > 1
    )


def _places(shape: Sequence[int], itemsize: int) -> Iterator[tuple[slice, ...]]:
    """Give the blocks to hash: everything, or some that are spread over all axes."""
    if prod(shape) * itemsize <= _WHOLE:
        yield tuple(slice(None) for _ in shape)
        return
    # Colours and other short axes are taken whole, in two axes a block, of the others one position.
    long = [axis for axis in range(len(shape)) if shape[axis] > 4]
    sides = {axis: min(_SIDE, shape[axis]) for axis in long[-2:]}
    # The same positions on each machine, for ever: numpy's generators may change, a hash does not.
    for number in range(_BLOCKS):
        place = []
        for axis, length in enumerate(shape):
            if axis not in long:
                place.append(slice(0, length))
                continue
            side = sides.get(axis, 1)
            start = _draw(number, axis) % (length - side + 1)
            place.append(slice(start, start + side))
        yield tuple(place)


def _draw(number: int, axis: int) -> int:
    about = blake2b(f"{number} {axis}".encode(), digest_size=8)
    return int.from_bytes(about.digest(), "little")
