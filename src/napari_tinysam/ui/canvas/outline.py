"""Outlines of masks as triangles, with widths in pixels of the screen. numpy only.

A line has a dark rim, so that it can be read on bright and on dark images, and soft edges, because
napari's canvas does not smooth them. Every graphics card draws triangles the same way, but not
lines wider than a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.outlines import closed_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]

#: Half the width of the soft edge of a line, in screen pixels.
_SOFT = 0.5

#: Screen pixels for an image pixel from which pixels are seen as squares, and so outlined.
_SQUARES = 8.0

#: Vertices of a line are about this far apart on the screen where a mask has more of them.
_STEP = 1.0

#: Outlines of at least this many edges of pixels are smoothed more.
_LONG = 32

#: Corners may stick out this many times half the line's width.
_LONGEST_MITER = 2.0


@dataclass(frozen=True)
class LineStyle:
    """How an outline is drawn.

    Parameters
    ----------
    width : float
        Of the bright line, in screen pixels.
    rim : float
        Of the dark rim on either side, in screen pixels.
    dash : float
        Length of a dash and of the gap after it, in screen pixels; 0 for a solid line.
    """

    width: float
    rim: float
    dash: float = 0.0


@dataclass(frozen=True)
class Paint:
    """Values of vertices, which choose their colours.

    Parameters
    ----------
    line, rim : float
        Of a line and its rim.
    line_edge, rim_edge : float
        The same colours, wholly transparent: where lines end.
    fill : float
        Of the pixels of the mask.
    """

    line: float
    line_edge: float
    rim: float
    rim_edge: float
    fill: float


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles, drawn in their order.

    Parameters
    ----------
    vertices : ndarray of float, (N, 2)
        (y, x).
    faces : ndarray of int, (M, 3)
        Indices of vertices.
    values : ndarray of float, (N,)
        One for each vertex.
    """

    vertices: Floats
    faces: Ints
    values: Floats

    @classmethod
    def join(cls, meshes: Sequence[Mesh]) -> Mesh:
        """Draw meshes after one another."""
        if not meshes:
            return cls(np.zeros((0, 2)), np.zeros((0, 3), np.intp), np.zeros(0))
        starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
        return cls(
            np.concatenate([mesh.vertices for mesh in meshes]),
            np.concatenate(
                [mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]
            ),
            np.concatenate([mesh.values for mesh in meshes]),
        )


@dataclass(frozen=True, eq=False)
class Traced:
    """The shape of a mask, whatever the zoom.

    Parameters
    ----------
    outlines : tuple of ndarray of float, each (N, 2)
        Closed lines along the edges of pixels, (y, x) of their corners: one around each piece, one
        around each hole. Pixels that touch at a corner only are not connected.
    runs : ndarray of float, (R, 4)
        Rectangles that cover the mask's pixels, (y0, x0, y1, x1).
    """

    outlines: tuple[Floats, ...]
    runs: Floats


def trace(mask: npt.NDArray[np.bool_], y0: int, x0: int, step: int = 1) -> Traced:
    """Find the shape of a mask.

    Parameters
    ----------
    mask : ndarray of bool, (h, w)
    y0, x0 : int
        Where its first pixel lies. Pixels are centred at whole numbers.
    step : int
        Treat blocks of this many pixels a side as one. Finer shapes take longer.
    """
    if step > 1:
        mask = _blocks(mask, step)
    # Corner (0, 0) of the grid is the upper left corner of the first pixel.
    corner = np.array([y0, x0]) - 0.5
    outlines = tuple(line * step + corner for line in closed_lines(mask))
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
    padded[:, 1:-1] = mask
    change = np.diff(padded, axis=1)
    rows, first = np.nonzero(change > 0)
    last = np.nonzero(change < 0)[1]
    runs = np.stack([rows, first, rows + 1, last], axis=1).astype(float) * step
    return Traced(outlines, runs + np.tile(corner, 2))


def fill(traced: Traced, paint: Paint) -> Mesh:
    """Cover the pixels of a mask, in its own coordinates."""
    vertices = traced.runs[:, [0, 1, 0, 3, 2, 3, 2, 1]].reshape(-1, 2)
    first = np.arange(0, len(vertices), 4)[:, np.newaxis, np.newaxis]
    faces = (first + np.array([[0, 1, 2], [0, 2, 3]])).reshape(-1, 3)
    return Mesh(vertices, faces, np.full(len(vertices), paint.fill))


def strokes(
    traced: Traced, to_screen: Floats, style: LineStyle, paint: Paint
) -> tuple[Mesh, Mesh]:
    """Draw the outlines of a mask.

    Parameters
    ----------
    traced : Traced
    to_screen : ndarray of float, (2, 2)
        Turns (y, x) into screen pixels, wherever the origin is.
    style : LineStyle
    paint : Paint

    Returns
    -------
    Mesh, Mesh
        In the mask's own coordinates: the rims, and the lines to be drawn over all rims.
    """
    back = np.linalg.inv(to_screen).T
    squares = np.sqrt(abs(np.linalg.det(to_screen))) >= _SQUARES
    rims, lines = [], []
    for outline in traced.outlines:
        line = (outline if squares else _rounded(outline)) @ to_screen.T
        line = _without_straight(_thinned(line))
        rim = style.width / 2 + style.rim
        rims.append(_band(line, rim, paint.rim, paint.rim_edge))
        shown = None
        if style.dash:
            line, shown = _dashed(line, style.dash)
        lines.append(_band(line, style.width / 2, paint.line, paint.line_edge, shown))
    return tuple(
        Mesh(mesh.vertices @ back, mesh.faces, mesh.values)
        for mesh in (Mesh.join(rims), Mesh.join(lines))
    )  # type: ignore[return-value]


# --- from pixels to lines --------------------------------------------------------------------


def _blocks(mask: npt.NDArray[np.bool_], step: int) -> npt.NDArray[np.bool_]:
    """Return which blocks of pixels contain any of the mask."""
    height, width = (-(-length // step) for length in mask.shape)
    full = np.zeros((height * step, width * step), bool)
    full[: mask.shape[0], : mask.shape[1]] = mask
    return np.asarray(full.reshape(height, step, width, step).any(axis=(1, 3)))


# --- lines on the screen ---------------------------------------------------------------------


def _rounded(corners: Floats) -> Floats:
    """Turn a line of steps into one that runs through the middle of each."""
    middles = (corners + np.roll(corners, -1, axis=0)) / 2
    for _ in range(3 if len(middles) >= _LONG else 1):  # small objects would shrink
        middles = _smoothed(middles)
    return middles


def _smoothed(line: Floats) -> Floats:
    before, after = np.roll(line, 1, axis=0), np.roll(line, -1, axis=0)
    return np.asarray((before + 2 * line + after) / 4)


def _lengths(line: Floats) -> Floats:
    """(N,) from each vertex to the next."""
    return np.asarray(np.linalg.norm(np.roll(line, -1, axis=0) - line, axis=1))


def _thinned(line: Floats) -> Floats:
    """Merge vertices that are closer than can be seen, and smooth what that leaves."""
    lengths = _lengths(line)
    total = lengths.sum()
    pieces = max(8, int(total / _STEP))
    if len(line) <= pieces:
        return line
    along = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    firsts = np.flatnonzero(np.diff(np.floor(along * (pieces / total)), prepend=-1.0))
    counts = np.diff(np.append(firsts, len(line)))
    merged = np.add.reduceat(line, firsts) / counts[:, np.newaxis]
    return _smoothed(merged)


def _without_straight(line: Floats) -> Floats:
    """Leave out vertices on straight parts, and doubles."""
    line = line[_lengths(line) > 1e-6]
    if len(line) < 5:
        return line
    ways = np.roll(line, -1, axis=0) - line
    before = np.roll(ways, 1, axis=0)
    cross = ways[:, 0] * before[:, 1] - ways[:, 1] * before[:, 0]
    scale = np.linalg.norm(ways, axis=1) * np.linalg.norm(before, axis=1)
    turns = np.abs(cross) > 1e-4 * scale
    return line[turns] if np.count_nonzero(turns) >= 3 else line


def _dashed(line: Floats, dash: float) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Cut a line where dashes begin and end.

    Returns
    -------
    ndarray of float, (N, 2)
        The line, with a vertex at each cut.
    ndarray of bool, (N,)
        Whether the part from each vertex to the next is in a dash.
    """
    lengths = _lengths(line)
    total = lengths.sum()
    count = 2 * max(2, round(total / (2 * dash)))  # so that the last gap is no shorter
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    cuts = np.arange(count) * (total / count)
    places = np.unique(np.concatenate([along[:-1], cuts]))
    closed = np.concatenate([line, line[:1]])
    cut = np.stack([np.interp(places, along, closed[:, i]) for i in (0, 1)], axis=1)
    middles = (places + np.append(places[1:], total)) / 2
    return cut, np.floor(middles * (count / total)).astype(int) % 2 == 0


def _band(
    line: Floats,
    half: float,
    value: float,
    edge: float,
    shown: npt.NDArray[np.bool_] | None = None,
) -> Mesh:
    """Widen a closed line to a band with soft edges.

    Parameters
    ----------
    line : ndarray of float, (N, 2)
        In screen pixels.
    half : float
        Half the band's width, in screen pixels.
    value, edge : float
        Of the band, and of where its soft edge ends.
    shown : ndarray of bool, (N,), optional
        Which parts are drawn, from each vertex to the next.
    """
    ways = np.roll(line, -1, axis=0) - line
    lengths = np.linalg.norm(ways, axis=1, keepdims=True)
    ways = ways / np.maximum(lengths, 1e-9)
    normals = np.stack([-ways[:, 1], ways[:, 0]], axis=1)
    before = np.roll(normals, 1, axis=0)
    # The miter of two unit normals is their sum over 1 + cos of the angle between them.
    cos = (normals * before).sum(axis=1, keepdims=True)
    miters = (normals + before) / np.maximum(1 + cos, 2 / _LONGEST_MITER**2)
    inner = max(half - _SOFT, 0.0)
    offsets = np.array([-half - _SOFT, -inner, inner, half + _SOFT])
    # (4, N, 2): four parallel lines.
    parallel = line + offsets[:, np.newaxis, np.newaxis] * miters
    count = len(line)
    first = np.flatnonzero(shown) if shown is not None else np.arange(count)
    second = (first + 1) % count
    quads = []
    for lower in range(3):
        a, b = first + lower * count, second + lower * count
        quads += [
            np.stack([a, b, b + count], 1),
            np.stack([a, b + count, a + count], 1),
        ]
    values = np.repeat([edge, value, value, edge], count)
    return Mesh(parallel.reshape(-1, 2), np.concatenate(quads), values)
