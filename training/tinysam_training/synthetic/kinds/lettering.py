"""Prints on images: scale bars, panel letters, information bars."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tinysam_training.synthetic.draws import happens

if TYPE_CHECKING:
    from tinysam_training.synthetic.shapes import FloatArray

#: Strokes of a glyph: a polyline each, in a box 0.6 wide and 1 high (y downwards).
_Strokes = tuple[tuple[tuple[float, float], ...], ...]


def _arc(
    x: float, y: float, rx: float, ry: float, start: float, stop: float
) -> tuple[tuple[float, float], ...]:
    """Points of an elliptic arc, in turns clockwise from the right."""
    turns = 2 * np.pi * np.linspace(start, stop, 11)
    return tuple((float(x + rx * np.cos(t)), float(y + ry * np.sin(t))) for t in turns)


_GLYPHS: dict[str, _Strokes] = {
    "0": (_arc(0.3, 0.5, 0.25, 0.48, 0, 1),),
    "1": (((0.12, 0.2), (0.32, 0.02), (0.32, 0.98)),),
    "2": (
        _arc(0.3, 0.26, 0.24, 0.24, 0.5, 1.05),
        ((0.5, 0.4), (0.06, 0.97), (0.56, 0.97)),
    ),
    "5": (
        ((0.52, 0.03), (0.14, 0.03), (0.1, 0.45)),
        _arc(0.28, 0.66, 0.26, 0.3, 0.6, 1.42),
    ),
    "A": (((0.02, 0.98), (0.3, 0.02), (0.58, 0.98)), ((0.13, 0.64), (0.47, 0.64))),
    "B": (
        ((0.08, 0.02), (0.08, 0.98)),
        ((0.08, 0.02), (0.28, 0.02)),
        ((0.08, 0.47), (0.3, 0.47)),
        ((0.08, 0.98), (0.3, 0.98)),
        _arc(0.28, 0.245, 0.2, 0.225, -0.25, 0.25),
        _arc(0.3, 0.725, 0.24, 0.255, -0.25, 0.25),
    ),
    "C": (_arc(0.34, 0.5, 0.28, 0.48, 0.12, 0.88),),
    "D": (
        ((0.08, 0.02), (0.08, 0.98)),
        ((0.08, 0.02), (0.2, 0.02)),
        ((0.08, 0.98), (0.2, 0.98)),
        _arc(0.2, 0.5, 0.36, 0.48, -0.25, 0.25),
    ),
    "a": (_arc(0.27, 0.7, 0.22, 0.28, 0, 1), ((0.5, 0.4), (0.5, 0.98))),
    "b": (_arc(0.31, 0.7, 0.22, 0.28, 0, 1), ((0.08, 0.02), (0.08, 0.98))),
    "c": (_arc(0.32, 0.7, 0.24, 0.28, 0.12, 0.88),),
    "d": (_arc(0.27, 0.7, 0.22, 0.28, 0, 1), ((0.5, 0.02), (0.5, 0.98))),
    "n": (
        ((0.08, 0.4), (0.08, 0.98)),
        _arc(0.29, 0.63, 0.21, 0.22, 0.5, 1.0),
        ((0.5, 0.63), (0.5, 0.98)),
    ),
    "m": (
        ((0.03, 0.4), (0.03, 0.98)),
        _arc(0.165, 0.6, 0.135, 0.19, 0.5, 1.0),
        ((0.3, 0.6), (0.3, 0.98)),
        _arc(0.435, 0.6, 0.135, 0.19, 0.5, 1.0),
        ((0.57, 0.6), (0.57, 0.98)),
    ),
    "µ": (
        ((0.08, 0.42), (0.08, 1.2)),
        _arc(0.29, 0.74, 0.21, 0.23, 0.0, 0.5),
        ((0.5, 0.42), (0.5, 0.98)),
    ),
    "(": (_arc(0.55, 0.55, 0.32, 0.65, 0.38, 0.62),),
    ")": (_arc(0.05, 0.55, 0.32, 0.65, -0.12, 0.12),),
    ".": (((0.25, 0.94), (0.3, 0.94)),),
    " ": (),
}


def written(text: str, height: float, weight: float) -> FloatArray:
    """Draw a text in a box.

    Parameters
    ----------
    text : str
        Characters of scale bars and panel letters.
    height : float
        Of a capital letter in pixels.
    weight : float
        Width of the strokes, as share of the height.

    Returns
    -------
    ndarray of float32, (h, w)
        Ink, 0–1.
    """
    advance = 0.78
    shape = (int(1.5 * height) + 1, int((advance * len(text) + 0.2) * height) + 1)
    ink = np.zeros(shape, np.float32)
    y = (np.arange(shape[0], dtype=np.float32)[:, None]) / np.float32(height) - 0.12
    for place, character in enumerate(text):
        left = int(advance * place * height)
        right = min(shape[1], int((advance * place + 0.95) * height))
        x = (
            np.arange(right - left, dtype=np.float32)[None, :] / np.float32(height)
            - 0.1
        )
        nearest = np.full((shape[0], right - left), 9.0, np.float32)
        for stroke in _GLYPHS[character]:
            for (x0, y0), (x1, y1) in pairwise(stroke):
                ex, ey = x1 - x0, y1 - y0
                along = ((x - x0) * ex + (y - y0) * ey) / max(ex * ex + ey * ey, 1e-9)
                along = np.clip(along, 0, 1)
                away = np.hypot(x - x0 - along * ex, y - y0 - along * ey)
                np.minimum(nearest, away.astype(np.float32), out=nearest)
        part = np.clip((weight / 2 - nearest) * height + 0.5, 0, 1)
        np.maximum(ink[:, left:right], part, out=ink[:, left:right])
    return ink


def annotate(
    rng: np.random.Generator,
    image: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    labels: npt.NDArray[np.int32],
) -> None:
    """Print a panel letter, a scale bar or an information bar on an image, in place.

    Parameters
    ----------
    rng : numpy Generator
    image : ndarray of uint8 or uint16, (H, W)
    labels : ndarray of int32, (H, W) or (L, H, W)
        Set to 0 where an opaque box hides objects; lettering without a box keeps them.
    """
    height, width = image.shape
    capital = max(8.0, height * rng.uniform(0.035, 0.08))
    weight = rng.uniform(0.1, 0.22)
    white = int(image[::4, ::4].max())
    ink = white if happens(rng, 0.6) else 0
    if happens(rng, 0.6):
        letter = "abcdABCD"[rng.integers(8)]
        text = f"({letter})" if happens(rng, 0.5) else letter
        paper = white - ink if happens(rng, 0.3) else None
        _print(image, labels, written(text, capital, weight), (2, 2), ink, paper)
    amount = ("1", "2", "5", "10", "20", "50", "100", "200", "500")[rng.integers(9)]
    text = f"{amount} {'nm' if happens(rng, 0.6) else 'µm'}"
    if happens(rng, 0.2):  # the bar that a scanning microscope adds
        bar = int(max(1.6 * capital, 0.06 * height))
        image[-bar:] = white - ink
        labels[..., -bar:, :] = 0
        drawn = written(text, 0.45 * bar, weight)
        _print(image, labels, drawn, (height - bar + 2, width // 2), ink, None)
        return
    if happens(rng, 0.7):
        drawn = written(text, capital, weight)
        length = int(width * rng.uniform(0.1, 0.3))
        panel = np.zeros((drawn.shape[0] + 8, max(drawn.shape[1], length + 4)))
        panel = panel.astype(np.float32)
        start = (panel.shape[1] - drawn.shape[1]) // 2
        panel[: drawn.shape[0], start : start + drawn.shape[1]] = drawn
        start = (panel.shape[1] - length) // 2
        thick = int(rng.integers(2, 7))
        panel[-thick - 1 : -1, start : start + length] = 1
        left = width - panel.shape[1] - 6 if happens(rng, 0.7) else 6
        top = height - panel.shape[0] - 6
        paper = white - ink if happens(rng, 0.3) else None
        _print(image, labels, panel, (top, left), ink, paper)


def _print(
    image: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    labels: npt.NDArray[np.int32],
    drawn: FloatArray,
    corner: tuple[int, int],
    ink: int,
    paper: int | None,
) -> None:
    """Blend a drawing into the image at `corner` (top left); `paper` is an opaque box behind it."""
    top, left = max(0, corner[0]), max(0, corner[1])
    rows = slice(top, min(image.shape[0], top + drawn.shape[0]))
    cols = slice(left, min(image.shape[1], left + drawn.shape[1]))
    part = image[rows, cols]
    share = drawn[: part.shape[0], : part.shape[1]]
    if paper is not None:
        part[...] = paper
        labels[..., rows, cols] = 0
    part[...] = np.rint(part + share * (np.float32(ink) - part))
