"""Windows of what a decoder reads of an image, cut out of the whole frame's.

An object that is decoded in a window sees the frame's positional encodings there, as in training.
Works for arrays of numpy and of torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    import numpy.typing as npt


def cut_places(
    xp: ModuleType, x: Any, cells: int, corners: npt.NDArray[Any], side: int
) -> Any:
    """Cut rows of places.

    Parameters
    ----------
    xp : module
        `numpy` or `torch`.
    x : array
        (1, k · cells², C), k places within each place of the frame.
    cells : int
        Side of the frame, in places.
    corners : numpy.ndarray
        (N, 2) int, first row and column of each window, in places.
    side : int
        Of all windows, in places.

    Returns
    -------
    array
        (N, k · side², C).
    """
    grid = x.reshape(cells, cells, -1)
    found = xp.stack([grid[y : y + side, x0 : x0 + side] for y, x0 in corners.tolist()])
    return found.reshape(len(corners), -1, x.shape[-1])


def cut_columns(
    xp: ModuleType, x: Any, cells: int, corners: npt.NDArray[Any], side: int
) -> Any:
    """Cut columns of places: (1, …, cells²) to (N, …, side²); see `cut_places`."""
    grid = x[0].reshape(*x.shape[1:-1], cells, cells)
    found = xp.stack(
        [grid[..., y : y + side, x0 : x0 + side] for y, x0 in corners.tolist()]
    )
    return found.reshape(len(corners), *x.shape[1:-1], -1)


def cut_maps(
    xp: ModuleType, x: Any, cells: int, corners: npt.NDArray[Any], side: int
) -> Any:
    """Cut maps: (1, C, k · cells, k · cells) to (N, C, k · side, k · side); see `cut_places`."""
    k = x.shape[-1] // cells
    return xp.stack(
        [
            x[0, :, k * y : k * (y + side), k * x0 : k * (x0 + side)]
            for y, x0 in corners.tolist()
        ]
    )


def cut_shared(
    xp: ModuleType,
    parts: Sequence[Any],
    cells: int,
    corners: npt.NDArray[Any],
    side: int,
) -> list[Any]:
    """Cut the first four parts of `napari_tinysam.model.fast.decoder.ImageSide`.

    Parameters
    ----------
    xp, cells, corners, side
        As for `cut_places`.
    parts : sequence of array
        Of the whole frame.
    """
    embedding, *projected = parts
    return [
        cut_places(xp, embedding, cells, corners, side),
        *(cut_columns(xp, part, cells, corners, side) for part in projected),
    ]


def cut_details(
    xp: ModuleType,
    parts: Sequence[Any],
    cells: int,
    corners: npt.NDArray[Any],
    side: int,
) -> list[Any]:
    """Cut the other parts, as for `cut_shared`; parts that are None or absent stay so."""
    cuts = (cut_places, cut_places, cut_maps, cut_maps)
    return [
        None if part is None else cut(xp, part, cells, corners, side)
        for cut, part in zip(cuts, parts, strict=False)
    ]
