"""Files of microscopes' makers, read by bioio if it is installed: CZI, LIF and ND2."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import FileError
from napari_tinysam.files.formats.stack import Index, Stack, check_series, slices

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

#: How files of each kind begin; their reader is called bioio-czi and so on.
_MAGIC = {
    "czi": (b"ZISRAWFILE",),
    "lif": (b"\x70\0\0\0",),
    "nd2": (b"\xda\xce\xbe\x0a",),  # older ones are JPEG 2000
}


def is_of_a_vendor(head: bytes) -> bool:
    """Whether a file begins like CZI, LIF or ND2."""
    return _kind(head) is not None


def open_of_a_vendor(path: Path, series: int) -> Stack:
    """Open one scene of a file without reading it.

    Raises
    ------
    FileError
        If bioio or its reader for this kind is not installed, or the file has no such scene.
    """
    with open(path, "rb") as file:
        kind = _kind(file.read(26))
    try:
        from bioio import BioImage

        image: Any = BioImage(path)
    except Exception as error:
        # Without the reader bioio raises the error that it also raises for a damaged file.
        installed = find_spec("bioio") and find_spec(f"bioio_{kind}")
        if installed and not isinstance(error, ImportError):
            raise
        raise FileError(
            f"{path} is {kind and kind.upper()}: to read it, pip install bioio bioio-{kind}. Or "
            "save it as OME-TIFF."
        ) from error
    check_series(path, series, len(image.scenes))
    image.set_scene(series)
    lazy = image.dask_data
    # bioio adds the axes that a file lacks, always in this order.
    axes = str(image.dims.order)
    shape = tuple(int(n) for n in lazy.shape)
    kept = [
        number
        for number, (axis, length) in enumerate(zip(axes, shape, strict=True))
        if length > 1 or axis in "YX"
    ]

    def read(index: Index) -> npt.NDArray[Any]:
        whole: list[int | slice | None] = [0] * len(shape)
        for number, value in zip(kept, index, strict=True):
            whole[number] = value
        return np.asarray(lazy[slices(tuple(whole))].compute())

    pieces = {
        axis: max(lengths) for axis, lengths in zip(axes, lazy.chunks, strict=True)
    }
    whole_planes = all(pieces[axis] >= shape[axes.index(axis)] for axis in "YX")
    return Stack(
        "".join(axes[number] for number in kept),
        tuple(shape[number] for number in kept),
        read,
        path,
        len(image.scenes),
        None if whole_planes else tuple(int(pieces[axes[n]]) for n in kept),
    )


def _kind(head: bytes) -> str | None:
    return next(
        (kind for kind, starts in _MAGIC.items() if head.startswith(starts)), None
    )
