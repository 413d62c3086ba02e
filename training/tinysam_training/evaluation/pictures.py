"""Pictures of an evaluation: curves, and a sheet of the worst and the middling images.

matplotlib is imported where something is drawn. It draws to memory: it opens no window and does not
touch pyplot's global state.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.files.atomic import replacing
from napari_tinysam.metrics import THRESHOLDS
from napari_tinysam.prompts import IGNORED, NEGATIVE, POSITIVE
from tinysam_training.evaluation.report import accuracies, means, ranked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_tinysam.masks import BoxedMask
    from tinysam_training.evaluation.evaluate import Evaluation, ImageResult, Prompted
    from tinysam_training.labelled_image import ImageEntry

#: Okabe and Ito's palette (2008), which colour-blind readers can distinguish.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
_BLACK = "#000000"

#: Rows of a contact sheet: number of the worst images, and of those in the middle.
_SHOWN = 3

#: The part of an image that is shown: in diameters of an object, and in pixels at least.
_DIAMETERS, _LEAST_SIDE = 8, 96

#: Approximate limit for the pixels of a shown image's side.
_SHOWN_SIDE = 512


def draw_clicks(evaluation: Evaluation) -> bytes:
    """Draw IoU over the number of clicks, a line for each set: a PNG file."""
    figure, axes = _figure("Clicks", "IoU")
    clicks = np.arange(1, evaluation.settings.clicks + 1)
    for name, results, style in _lines(evaluation):
        found = means(results)
        curve = [found[f"click{n}_iou"] for n in clicks]
        if found["box_iou"] is None:
            continue
        axes.plot(clicks, np.array(curve, float), marker="o", label=name, **style)
        axes.plot([0], [found["box_iou"]], marker="s", **style)
    axes.set_xticks([0, *clicks], ["box", *map(str, clicks)])
    axes.set_ylim(0, 1)
    figure.legend(fontsize="small", loc="outside right upper")
    return _png(figure)


def draw_accuracy(evaluation: Evaluation) -> bytes | None:
    """Draw accuracy of the automatic segmentation over IoU thresholds: a PNG file.

    If that was left out, of the object head alone; None where there is neither.
    """
    head = accuracies(evaluation.results) is None
    if head and accuracies(evaluation.results, head=True) is None:
        return None
    figure, axes = _figure("IoU threshold", "TP / (TP + FP + FN)")
    for name, results, style in _lines(evaluation):
        curve = accuracies(results, head=head)
        if curve is not None:
            label = f"{name}: mSA{', head' * head} {np.mean(curve):.2f}"
            axes.plot(THRESHOLDS, curve, marker="o", label=label, **style)
    axes.set_ylim(0, 1)
    figure.legend(fontsize="small", loc="outside right upper")
    return _png(figure)


def draw_calibration(evaluation: Evaluation) -> bytes:
    """Draw the true IoU of masks over the predicted IoU: a PNG file."""
    figure, axes = _figure("Predicted IoU", "True IoU")
    scores = np.concatenate([result.scores for result in evaluation.results])
    ious = np.concatenate([result.ious for result in evaluation.results])
    shown = np.clip(scores, 0, 1)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    axes.plot(shown, ious, ".", color=_COLOURS[0], alpha=0.3, markersize=4)
    bins = np.minimum((shown * 10).astype(int), 9)
    counts = np.bincount(bins, minlength=10)
    middle = np.flatnonzero(counts >= 5)  # fewer are not meaningful
    sums = [np.bincount(bins, values, 10)[middle] for values in (shown, ious)]
    axes.plot(
        *(total / counts[middle] for total in sums), marker="o", color=_COLOURS[5],
        label="mean of a tenth"
    )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.legend(fontsize="small", loc="upper left")
    return _png(figure)


def draw_contact_sheet(
    evaluation: Evaluation, entries: Sequence[ImageEntry]
) -> bytes | None:
    """Draw the worst images and those in the middle, with prompts, masks and truth: a PNG file.

    White lines are the truth, coloured ones the masks, dotted ones the boxes; green dots are clicks
    on the object, red ones beside it.

    Parameters
    ----------
    evaluation : Evaluation
        Of these entries, with `EvaluationSettings.keep_masks`.
    entries : sequence of ImageEntry
        The images; those shown are read again.

    Returns
    -------
    bytes or None
        None where no image has objects.
    """
    from matplotlib.figure import Figure

    by_name: Mapping[str, ImageEntry] = {entry.name: entry for entry in entries}
    chosen = _shown(evaluation)
    if not chosen:
        return None
    columns = 3 + any(result.automatic is not None for _, result in chosen)
    figure = Figure(figsize=(4 * columns, 4.3 * len(chosen)), layout="constrained")
    grid = figure.subplots(len(chosen), columns, squeeze=False)
    for row, (what, result) in zip(grid, chosen, strict=True):
        for axes in row:
            axes.set_axis_off()
        if result.prompted is not None:
            rgb = by_name[result.name].read().rgb
            _draw_row(row, f"{what}: {result.name}", rgb, result, result.prompted)
    return _png(figure, dpi=90)


def _shown(evaluation: Evaluation) -> list[tuple[str, ImageResult]]:
    """Choose the rows of a contact sheet: headings and images."""
    order = ranked(r for r in evaluation.results if r.prompted is not None)
    worst = order[:_SHOWN]
    rest = order[_SHOWN:]
    start = max(0, len(order) // 2 - _SHOWN // 2 - len(worst))
    middle = rest[start : start + _SHOWN]
    return [("worst", each) for each in worst] + [("median", each) for each in middle]


def _draw_row(
    row: Sequence[Any],
    title: str,
    rgb: npt.NDArray[np.uint8],
    result: ImageResult,
    prompted: Prompted,
) -> None:
    """Draw masks for boxes, for the first click, for all clicks, and all objects at once."""
    trace = prompted.clicks
    made = int((trace.labels != IGNORED).sum(axis=1).max())
    window = _window(prompted)
    step = max(1, max(side.stop - side.start for side in window) // _SHOWN_SIDE)
    panels: list[tuple[str, Sequence[BoxedMask], int]] = [
        (f"box: {_two(result.figures['box_iou'])}", prompted.by_box.masks, 0),
        (f"1 click: {_two(result.figures['click1_iou'])}", trace.first, 1),
        (f"{made} clicks: {_two(float(trace.iou[:, -1].mean()))}", trace.last, made),
    ]
    for axes, (text, masks, clicks) in zip(row, panels, strict=False):
        show_image(axes, rgb, step, text, window)
        for mask in prompted.truth:
            outline_mask(axes, mask, "white", 1.0)
        for number, mask in enumerate(masks):
            outline_mask(axes, mask, _COLOURS[number % len(_COLOURS)], 1.2)
        for label, colour in ((NEGATIVE, "#e53935"), (POSITIVE, "#00c853")):
            points = trace.points[:, :clicks][trace.labels[:, :clicks] == label]
            axes.plot(
                *points.T, "o", color=colour, markersize=4, markeredgecolor="white"
            )
    for number, (x0, y0, x1, y1) in enumerate(prompted.boxes):
        colour = _COLOURS[number % len(_COLOURS)]
        row[0].plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], ":", color=colour)
    row[0].set_title(f"{title}\n{panels[0][0]}", fontsize=8)
    if result.automatic is not None:
        what, prefix = ("head", "head_") if result.mode == "head" else ("automatic", "")
        msa, ap50 = (result.figures[f"{prefix}{name}"] for name in ("msa", "ap50"))
        text = f"{what}: mSA {_two(msa)}, AP50 {_two(ap50)}"
        show_image(row[3], tinted(rgb, result.automatic), step, text, window)


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _window(prompted: Prompted) -> tuple[slice, slice]:
    """Choose the part of the image to show: around an object with about the mean IoU.

    It is a few of the object's diameters wide; the whole image if objects are large in it.
    """
    quality = (prompted.by_box.iou + prompted.clicks.iou[:, 0]) / 2
    typical = prompted.truth[int(np.abs(quality - quality.mean()).argmin())]
    side = max(_LEAST_SIDE, _DIAMETERS * max(typical.mask.shape))
    rows, columns = (
        _around((part.start + part.stop) // 2, side, length)
        for part, length in zip(typical.slices, typical.shape, strict=True)
    )
    return rows, columns


def _around(middle: int, side: int, length: int) -> slice:
    """Choose `side` pixels around the middle, or as many as there are."""
    start = min(max(0, middle - side // 2), max(0, length - side))
    return slice(start, min(length, start + side))


def show_image(
    axes: Any,
    rgb: npt.NDArray[np.uint8],
    step: int,
    title: str,
    window: tuple[slice, slice] | None = None,
) -> None:
    """Show an image, or a window of it, in coordinates of its pixels.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where.
    rgb : numpy.ndarray
        (H, W, 3) uint8.
    step : int
        Every how many pixels are drawn; 1 for all.
    title : str
        Written above.
    window : (slice, slice), optional
        Rows and columns to show; all if left out.
    """
    height, width = rgb.shape[:2]
    rows, columns = window or (slice(0, height), slice(0, width))
    extent = (
        columns.start - 0.5,
        columns.stop - 0.5,
        rows.stop - 0.5,
        rows.start - 0.5,
    )
    axes.imshow(rgb[rows, columns][::step, ::step], extent=extent)
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])
    axes.set_title(title, fontsize=8)


def outline_mask(axes: Any, mask: BoxedMask, colour: str, width: float) -> None:
    """Draw the border of a mask as a line, in coordinates of the image's pixels.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where.
    mask : BoxedMask
        Only its rectangle is processed: there is no border elsewhere.
    colour : str
        As matplotlib knows it.
    width : float
        Of the line, in points.
    """
    if not mask.area:
        return
    padded = np.pad(mask.mask, 1).astype(np.float32)
    height, columns = padded.shape
    axes.contour(
        mask.x0 - 1 + np.arange(columns),
        mask.y0 - 1 + np.arange(height),
        padded,
        [0.5],
        colors=[colour],
        linewidths=width,
    )


def tinted(
    rgb: npt.NDArray[np.uint8], labels: npt.NDArray[np.int32]
) -> npt.NDArray[np.uint8]:
    """Mix an image with the colours of its objects, with white lines between them.

    Parameters
    ----------
    rgb : numpy.ndarray
        (H, W, 3) uint8.
    labels : numpy.ndarray
        (H, W) int32.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8.
    """
    palette = np.array(
        [[int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in _COLOURS]
    )
    mixed = rgb.astype(np.float32)
    inside = labels > 0
    colours = palette[(labels[inside] - 1) % len(palette)]
    mixed[inside] = 0.5 * mixed[inside] + 0.5 * colours
    border = np.zeros(labels.shape, bool)
    border[:-1] |= labels[:-1] != labels[1:]
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    mixed[border] = 255
    return mixed.astype(np.uint8)


def _lines(
    evaluation: Evaluation,
) -> list[tuple[str, Sequence[ImageResult], dict[str, Any]]]:
    """Name, results and style of each set, and of all images."""
    sets = evaluation.by_set
    lines: list[tuple[str, Sequence[ImageResult], dict[str, Any]]] = [
        (name, results, {"color": _COLOURS[i % len(_COLOURS)], "linewidth": 1})
        for i, (name, results) in enumerate(sets.items())
    ]
    if len(sets) > 1:
        lines.append(
            ("all images", evaluation.results, {"color": _BLACK, "linewidth": 2})
        )
    return lines


def _figure(x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _png(figure: Any, dpi: int = 120) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return file.getvalue()


def write_pictures(
    folder: Path, evaluation: Evaluation, entries: Sequence[ImageEntry]
) -> list[str]:
    """Write all available pictures to a folder; return their names.

    Raises
    ------
    FileError
        If a file cannot be written.
    """
    if not any(result.objects for result in evaluation.results):
        return []
    pictures = {
        "iou_over_clicks.png": draw_clicks(evaluation),
        "accuracy_over_thresholds.png": draw_accuracy(evaluation),
        "score_calibration.png": draw_calibration(evaluation),
        "contact_sheet.png": draw_contact_sheet(evaluation, entries),
    }
    if len(evaluation.by_set) > 1:
        for name, results in evaluation.by_set.items():
            one = replace(evaluation, results=results)
            pictures[f"contact_sheet_{name}.png"] = draw_contact_sheet(one, entries)
    written = {name: content for name, content in pictures.items() if content}
    for name, content in written.items():
        with replacing(folder / name) as file:
            file.write(content)
    return list(written)
