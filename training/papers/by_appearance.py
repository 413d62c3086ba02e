"""Figures of an evaluation, apart for fluorescence and for other images.

Run as ``python -m papers.by_appearance OUT DATA``, where OUT is the folder of ``napari-tinysam
evaluate MODEL DATA -o OUT``; ``--set NAME`` leaves out the other sets. An image is counted as
fluorescence if it is gray and its ground is darker than its objects.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.errors import DataError
from napari_tinysam.files.tables import markdown_table
from papers.shared import figure, refusals, say
from tinysam_training.data import find_pairs

if TYPE_CHECKING:
    from tinysam_training.labelled_image import LabelledImage

#: Figures of the table and their headings.
COLUMNS = {
    "box_iou": "box",
    "loose_box_iou": "loose box",
    "click1_iou": "1 click",
    "off_click_iou": "off centre",
    "click3_iou": "3 clicks",
    "msa": "mSA",
    "ap50": "AP50",
}

FLUORESCENCE, OTHERS = "fluorescence", "others"


def appearance_of(image: LabelledImage) -> str:
    """Say how an image looks: `FLUORESCENCE`, or `OTHERS`."""
    rgb, on_object = image.rgb, image.labels[0] > 0
    gray = bool((rgb == rgb[..., :1]).all())
    if not gray or on_object.all() or not on_object.any():
        return OTHERS
    values = rgb[..., 0]
    darker = np.median(values[~on_object]) < np.median(values[on_object])
    return FLUORESCENCE if darker else OTHERS


def by_appearance(
    rows: Sequence[Mapping[str, str]], appearances: Mapping[str, str]
) -> str:
    """Make a Markdown table of means over the images of each appearance.

    Parameters
    ----------
    rows : sequence of dict
        The lines of ``images.csv``.
    appearances : dict
        `appearance_of` each image, by its name.

    Raises
    ------
    DataError
        If an image of the evaluation is not there.
    """
    groups: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        if row["image"] not in appearances:
            raise DataError(f"{row['image']} is not in these data.")
        groups.setdefault(appearances[row["image"]], []).append(row)
    lines = []
    for name, members in sorted(groups.items()):
        means = []
        for column in COLUMNS:
            values = [float(row[column]) for row in members if row.get(column)]
            means.append(figure(float(np.mean(values)) if values else None))
        lines.append([name, len(members), *means])
    return markdown_table(["images", "number", *COLUMNS.values()], lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--set", help="only this one", dest="name")
    given = parser.parse_args()
    with refusals():
        try:
            with (given.evaluation / "images.csv").open(newline="") as file:
                rows = [
                    row
                    for row in csv.DictReader(file)
                    if given.name in (None, row["image"].split("/")[0])
                ]
        except OSError as error:
            raise DataError(f"{given.evaluation} is no evaluation: {error}.") from error
        appearances = {
            entry.name: appearance_of(entry.read())
            for entry in find_pairs(given.data, given.split)
        }
        say(f"{len(rows)} images")
        print(by_appearance(rows, appearances))  # noqa: T201 - the result


if __name__ == "__main__":
    main()
