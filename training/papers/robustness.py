"""How a model bears what users meet: tiny and large objects, neighbours, blur, careless prompts.

Run as ``python -m papers.robustness MODEL -o OUT``. Sheets of synthetic images, the same
for every model, each for one difficulty; so figures say how much a difficulty costs, not how good
a model is on real images. OUT gets ``robustness.json``, ``robustness.md`` and pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import TinySAMError
from napari_tinysam.files.atomic import replacing
from napari_tinysam.files.tables import markdown_table
from papers.careless_prompts import (
    LOOSE,
    NEAR_BORDER,
    careless_prompts,
    negative_clicks,
)
from papers.robustness_sheets import Sheet, sheets
from tinysam_training.evaluation.evaluate import EvaluationSettings, evaluate
from tinysam_training.evaluation.pictures import draw_contact_sheet
from tinysam_training.evaluation.report import means
from tinysam_training.labelled_image import ImageEntry, LabelledImage

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.inference.predictor import Predictor

    BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Robustness:
    """What was found.

    Attributes
    ----------
    by_sheet : dict
        Figures of each sheet: ``box_iou``, ``click1_iou``, ``click3_iou``, ``msa``, ``ap50``,
        ``head_msa``.
    prompts : dict
        Means over objects of `careless_prompts` and `negative_clicks`, and ``neighbours``: how many
        masks ran into a neighbour.
    pictures : dict
        PNG files by the name of the sheet.
    """

    by_sheet: dict[str, dict[str, float | None]]
    prompts: dict[str, float | None]
    pictures: dict[str, bytes]

    def table(self) -> str:
        """Return two Markdown tables."""
        names = ("box_iou", "click1_iou", "click3_iou", "msa", "ap50", "head_msa")
        titles = ("IoU box", "1 click", "3 clicks", "mSA", "AP50", "mSA, head")
        sheets = markdown_table(
            ("synthetic sheet", *titles),
            [
                (sheet, *(_cell(found.get(name)) for name in names))
                for sheet, found in self.by_sheet.items()
            ],
        )
        prompts = markdown_table(
            ("prompts", "figure"),
            [
                (text, _cell(self.prompts.get(key)))
                for key, text in _PROMPT_ROWS.items()
            ],
        )
        return f"{sheets}\n\n{prompts}"


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


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def judge_robustness(
    predictor: Predictor,
    drawn: Sequence[Sheet],
    *,
    objects: int = 8,
    seed: int = 0,
    pictures: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Robustness:
    """Judge a model on the test sheets.

    Parameters
    ----------
    predictor : Predictor
    drawn : sequence of Sheet
        From `sheets`.
    objects : int
        At most so many objects an image get prompts.
    seed : int
        Of the careless prompts.
    pictures : bool
        Whether to draw the sheets.
    progress : callable, optional
        Called with the name of each sheet that is done.
    """
    settings = EvaluationSettings(
        objects=objects, clicks=3, loose_margin=0.0, keep_masks=pictures
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
        if progress is not None:
            progress(sheet.name)
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
    content: dict[str, Any] = {
        "model": model,
        "sheets": found.by_sheet,
        "prompts": found.prompts,
    }
    with replacing(out / "robustness.json") as file:
        file.write(json.dumps(content, indent=1).encode())
    with replacing(out / "robustness.md") as file:
        file.write(f"{found.table()}\n".encode())
    for name, picture in found.pictures.items():
        with replacing(out / f"{name}.png") as file:
            file.write(picture)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


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
    try:
        predictor = load_model(arguments.model, device=arguments.device, convert=_say)
    except (TinySAMError, ValueError) as error:
        sys.exit(f"Error: {error}")
    found = judge_robustness(
        predictor,
        sheets(arguments.images, arguments.seed),
        objects=arguments.objects,
        seed=arguments.seed,
        progress=lambda name: _say(f"{name} is done"),
    )
    write_report(found, arguments.model, arguments.output)
    sys.stdout.write(f"{found.table()}\n")


if __name__ == "__main__":
    main()
