"""Draws the curves of a run: losses and validation over its steps."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

#: Columns that are not drawn as curves.
_AXES = ("step", "seconds", "rate", "norm")


def read_log(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Read a log file: column → values, NaN where a cell is empty.

    Parameters
    ----------
    path : Path
        ``log.csv`` or ``validation.csv``.
    """
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    rows = [row for row in rows if len(row) == len(header)]
    return {
        name: np.array([float(row[i]) if row[i] else np.nan for row in rows])
        for i, name in enumerate(header)
    }


def draw_curves(folder: Path, target: Path) -> None:
    """Draw losses, IoU of the training's masks, and validation.

    Parameters
    ----------
    folder : Path
        With ``log.csv`` and perhaps ``validation.csv``.
    target : Path
        The file to write; a PNG whatever its suffix.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    log = read_log(folder / "log.csv")
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    for name, values in log.items():
        if name in _AXES or np.isnan(values).all():
            continue
        axes = middle if name.startswith("iou_") else left
        steps, smooth = _smoothed(log["step"], values)
        axes.plot(steps, smooth, label=name.removeprefix("iou_").replace("_", " "))
    left.set(title="Losses", xlabel="step", yscale="log")
    middle.set(title="IoU of training masks", xlabel="step", ylim=(0, 1))
    validation = folder / "validation.csv"
    if validation.exists():
        judged = read_log(validation)
        for name, values in judged.items():
            if name not in _AXES:
                right.plot(judged["step"], values, "o-", ms=3, label=name)
    right.set(title="Validation", xlabel="step", ylim=(0, 1))
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7)
    figure.savefig(target, dpi=120, format="png")


def _smoothed(
    steps: npt.NDArray[np.float64], values: npt.NDArray[np.float64], points: int = 100
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Average over at most this many stretches of the run."""
    known = ~np.isnan(values)
    steps, values = steps[known], values[known]
    pieces = min(points, len(values))
    return (
        np.array([part.mean() for part in np.array_split(steps, pieces)]),
        np.array([part.mean() for part in np.array_split(values, pieces)]),
    )
