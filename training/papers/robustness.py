"""Tests a model on tiny, large and touching objects, blur, and careless prompts.

Run as ``python -m papers.robustness MODEL -o OUT``. The sheets of synthetic images are the same for
every model, and each has one difficulty: the figures measure the cost of a difficulty, not the
model's quality on real images. OUT gets ``robustness.json``, ``robustness.md`` and pictures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.files.atomic import replacing, write_text
from napari_tinysam.files.tables import markdown_table
from papers.careless_prompts import (
    LOOSE,
    NEAR_BORDER,
    careless_prompts,
    negative_clicks,
)
from papers.robustness_sheets import Sheet, sheets
from papers.shared import figure, refusals, say, write_json
from tinysam_training.evaluation.evaluate import EvaluationSettings, evaluate
from tinysam_training.evaluation.pictures import draw_contact_sheet
from tinysam_training.evaluation.report import means
from tinysam_training.labelled_image import ImageEntry, LabelledImage

if TYPE_CHECKING:
    from napari_tinysam.inference.predictor import Predictor


@dataclass(frozen=True)
class Robustness:
    """Figures and pictures.

    Attributes
    ----------
    by_sheet : dict
        Figures of each sheet: ``box_iou``, ``click1_iou``, ``click3_iou``, ``msa``, ``ap50``,
        ``head_msa``.
    prompts : dict
        Means over objects of `careless_prompts` and `negative_clicks`, and ``neighbours``, the
        number of masks that ran into a neighbour.
    pictures : dict
        PNG files by the name of the sheet.
    """

    by_sheet: dict[str, dict[str, float | None]]
    prompts: dict[str, float | None]
    pictures: dict[str, bytes]

    def table(self) -> str:
        """Return two Markdown tables."""
        names = ("box_iou", "click1_iou", "click3_iou", "msa", "ap50", "head_msa")
        header = (
            "synthetic sheet", "IoU box", "1 click", "3 clicks", "mSA", "AP50", "mSA, head",
        )  # fmt: skip
        sheets_ = markdown_table(
            header,
            (
                [sheet, *(figure(found.get(name)) for name in names)]
                for sheet, found in self.by_sheet.items()
            ),
        )
        prompts = markdown_table(
            ("prompts", "figure"),
            (
                [text, figure(self.prompts.get(name))]
                for name, text in _PROMPT_ROWS.items()
            ),
        )
        return f"{sheets_}\n\n{prompts}"


_PROMPT_ROWS = {
    "centre_click": "IoU, click in the middle",
    "border_click": f"IoU, click near the border (depth {NEAR_BORDER:.0%} of the deepest)",
    "tight_box": "IoU, tight box",
    "loose_box": f"IoU, each side of the box off by up to {LOOSE:.0%}",
    "neighbours": "masks of one click that run into a neighbour",
    "covered_before": "… share of the neighbour covered",
    "covered_after": "… after a negative click on it",
    "iou_before": "… IoU with the object",
    "iou_after": "… after the negative click",
}


def judge_robustness(
    predictor: Predictor,
    drawn: Sequence[Sheet],
    *,
    objects: int = 8,
    seed: int = 0,
    pictures: bool = True,
) -> Robustness:
    """Judge a model on the test sheets.

    Parameters
    ----------
    predictor : Predictor
    drawn : sequence of Sheet
        From `sheets`.
    objects : int
        Most objects that get prompts per image.
    seed : int
        Of the careless prompts.
    pictures : bool
        Whether to draw the sheets.
    """
    settings = EvaluationSettings(
        objects=objects, clicks=3, loose=0.0, off_centre=0.0, keep_masks=pictures
    )
    by_sheet: dict[str, dict[str, float | None]] = {}
    drawings: dict[str, bytes] = {}
    for sheet in drawn:
        entries = list(_entries(sheet))
        evaluation = evaluate(predictor, entries, settings)
        by_sheet[sheet.name] = means(evaluation.results)
        picture = draw_contact_sheet(evaluation, entries) if pictures else None
        if picture is not None:
            drawings[sheet.name] = picture
        say(f"{sheet.name} is done")
    by_name = {sheet.name: sheet for sheet in drawn}
    values: dict[str, list[float]] = {}
    for name, prompted in (("plain", careless_prompts), ("touching", negative_clicks)):
        for image in by_name[name].images:
            for key, each in prompted(predictor, image, objects, seed).items():
                values.setdefault(key, []).extend(each)
    prompts: dict[str, float | None] = {
        key: float(np.mean(each)) if each else None for key, each in values.items()
    }
    prompts["neighbours"] = len(values.get("iou_before", ()))
    return Robustness(by_sheet, prompts, drawings)


def _entries(sheet: Sheet) -> Iterator[ImageEntry]:
    for image in sheet.images:
        shown = replace(image, dataset=sheet.title)
        yield ImageEntry(
            image.name, sheet.title, image.complete, partial(_itself, shown), ""
        )


def _itself(image: LabelledImage) -> LabelledImage:
    return image


def write_report(found: Robustness, model: str, out: Path) -> None:
    """Write tables, figures and pictures into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    content = {"model": model, "sheets": found.by_sheet, "prompts": found.prompts}
    write_json(out / "robustness.json", content)
    write_text(out / "robustness.md", found.table())
    for name, picture in found.pictures.items():
        with replacing(out / f"{name}.png") as file:
            file.write(picture)


def main() -> None:
    """Command line."""
    from napari_tinysam.inference.load import load_model

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a name of the model list, or a file")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--images", type=int, default=6, help="of each sheet")
    parser.add_argument("--objects", type=int, default=8, help="of each image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    with refusals():
        predictor = load_model(arguments.model, device=arguments.device, convert=say)
    found = judge_robustness(
        predictor,
        sheets(arguments.images, arguments.seed),
        objects=arguments.objects,
        seed=arguments.seed,
    )
    write_report(found, arguments.model, arguments.output)
    sys.stdout.write(f"{found.table()}\n")


if __name__ == "__main__":
    main()
