"""What the tests of the journal share: an image, what a journal is about, boxes of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from napari_tinysam.journal.identity import ImageIdentity
from napari_tinysam.journal.lines import About, Window
from napari_tinysam.journal.reading import lines_file

IMAGE = ImageIdentity("/data/cells.tif", "cells", (3, 40, 50), "<u2", "c0ffee", True)


def about(shape: tuple[int, ...], dtype: str = "<u4") -> About:
    return About(IMAGE, "cells committed_objects", shape, dtype, 1.7e9, "0.5.0")


def box(start: tuple[int, ...], shape: tuple[int, ...], value: Any) -> Window:
    return Window(start, np.full(shape, value, np.uint32))


def put(labels: np.ndarray, window: Window) -> None:
    place = zip(window.start, window.labels.shape, strict=True)
    labels[tuple(slice(at, at + length) for at, length in place)] = window.labels


def lines_of(folder: Path) -> Path:
    """Return the only file of lines."""
    (path,) = folder.glob("lines-*.jsonl")
    assert path == lines_file(folder, int(path.stem[-6:]))
    return path


@st.composite
def windows(draw: st.DrawFn, shape: tuple[int, ...]) -> Window:
    """Boxes of labels that lie inside a shape."""
    start = tuple(draw(st.integers(0, length - 1)) for length in shape)
    size = tuple(
        draw(st.integers(1, min(9, length - at)))
        for at, length in zip(start, shape, strict=True)
    )
    seed = draw(st.integers(0, 2**32 - 1))
    most = draw(st.sampled_from([1, 2, 2**32]))
    labels = np.random.default_rng(seed).integers(0, most, size, np.uint32)
    return Window(start, labels)
