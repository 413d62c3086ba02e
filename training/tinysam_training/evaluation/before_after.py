"""Before and after fine-tuning, on held-out images: one table and one picture."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tinysam.files.tables import markdown_table
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.evaluation.evaluate import (
    Evaluation,
    EvaluationSettings,
    evaluate,
)
from tinysam_training.evaluation.pictures import outline_mask, show_image, tinted
from tinysam_training.evaluation.report import means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tinysam.inference.predictor import Predictor
    from tinysam_training.evaluation.evaluate import ImageResult
    from tinysam_training.labelled_image import ImageEntry

#: Rows of the table: figures and their names. "Automatic" means Auto-segment, "head" the object
#: head alone.
ROWS = {
    "box_iou": "IoU, box",
    "click1_iou": "IoU, 1 click",
    "click3_iou": "IoU, 3 clicks",
    "score_error": "error of the predicted IoU",
    "msa": "automatic, mSA",
    "ap50": "automatic, AP50",
    "head_msa": "mSA, head",
    "head_ap50": "AP50, head",
}

#: Number of images in the picture.
_IMAGES = 3

#: Longer side of an image in the picture, in pixels.
_SIDE = 600


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two models on the same images and objects.

    Attributes
    ----------
    before, after : Evaluation
    caveat : str
        A caveat about the figures, as in `tinysam_training.run.held_out.Split`.
    images : int
        How many images there are, where some results are of planes or tiles of one image.
    """

    before: Evaluation
    after: Evaluation
    caveat: str = ""
    images: int = 0

    @property
    def figures(self) -> dict[str, tuple[float | None, float | None]]:
        """Means over the images before and after, by the names of `ROWS`."""
        first, second = means(self.before.results), means(self.after.results)
        return {name: (first.get(name), second.get(name)) for name in ROWS}

    def table(self) -> str:
        """Return readable lines, which form a Markdown table, and the caveat."""
        count = self.images or len(self.after.results)
        header = (f"{count} held-out image{'s' * (count > 1)}", "before", "after")
        table = markdown_table(
            header,
            [(ROWS[n], *map(_cell, values)) for n, values in self.figures.items()],
        )
        return f"{table}\n\n{self.caveat}" if self.caveat else table


def judged_settings(
    objects: int = 8, *, keep_masks: bool = False, automatic: bool = True
) -> EvaluationSettings:
    """Make the settings that measure the figures of `ROWS`.

    Parameters
    ----------
    objects : int
        Most objects that get prompts per image.
    keep_masks : bool
        For pictures.
    automatic : bool
        Whether to measure the rows of Auto-segment as well, which take longest.
    """
    return EvaluationSettings(
        objects=objects,
        clicks=3,
        loose=0.0,
        off_centre=0.0,
        keep_masks=keep_masks,
        automatic=automatic,
    )


def judge(
    predictor: Predictor, entries: Sequence[ImageEntry], objects: int = 8
) -> Evaluation:
    """Evaluate one of the two models, and keep the masks for the picture.

    Parameters
    ----------
    predictor : Predictor
    entries : sequence of ImageEntry
        Held out; the same for both.
    objects : int
        Most objects that get prompts per image.
    """
    return evaluate(predictor, entries, judged_settings(objects, keep_masks=True))


def draw_comparison(comparison: Comparison, entries: Sequence[ImageEntry]) -> bytes:
    """Draw the masks of one click and of auto-segmentation, before and after.

    Parameters
    ----------
    comparison : Comparison
    entries : sequence of ImageEntry
        The images that were evaluated, in their order.

    Returns
    -------
    bytes
        A PNG file.
    """
    from matplotlib.figure import Figure

    pairs = zip(
        entries, comparison.before.results, comparison.after.results, strict=True
    )
    shown = [
        (entry, first, second) for entry, first, second in pairs if second.prompted
    ]
    # The first, the last and one between: neighbours in a series look similar.
    shown = evenly_spaced(shown, _IMAGES)
    figure = Figure(figsize=(12, 3.2 * max(1, len(shown))), layout="constrained")
    rows = figure.subplots(max(1, len(shown)), 4, squeeze=False)
    for axes in rows.flat:
        axes.set_axis_off()
    for row, (entry, first, second) in zip(rows, shown, strict=False):
        rgb = entry.read().rgb
        _draw_masks(row[0], rgb, first, "before")
        _draw_masks(row[1], rgb, second, "after")
        _draw_found(row[2], rgb, first, "before")
        _draw_found(row[3], rgb, second, "after")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100, metadata={"Software": None})
    return file.getvalue()


def _draw_masks(axes: Any, rgb: Any, result: ImageResult, when: str) -> None:
    """Draw truth in white, masks of one click in colour, the clicks as dots."""
    step = max(1, max(rgb.shape[:2]) // _SIDE)
    iou = result.figures["click1_iou"]
    show_image(axes, rgb, step, f"{when}, one click: IoU {_cell(iou)}")
    assert result.prompted is not None
    for mask in result.prompted.truth:
        outline_mask(axes, mask, "white", 0.8)
    for mask in result.prompted.clicks.first:
        outline_mask(axes, mask, "#ff9800", 1.4)
    points = result.prompted.clicks.points[:, 0]
    axes.plot(*points.T, "o", color="#00c853", ms=4, mec="white", mew=0.5)


def _draw_found(axes: Any, rgb: Any, result: ImageResult, when: str) -> None:
    step = max(1, max(rgb.shape[:2]) // _SIDE)
    if result.automatic is None:
        show_image(axes, rgb, step, f"{when}: finds nothing by itself")
        return
    title = f"{when}, automatic: mSA {_cell(result.figures['msa'])}"
    show_image(axes, tinted(rgb, result.automatic), step, title)


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
