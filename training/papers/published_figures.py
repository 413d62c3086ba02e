"""Write a model's figures into the documents that quote them.

Run as ``python -m papers.published_figures EVALUATION.json -o DOCUMENT…``, where the json file is
from ``napari-tinysam evaluate MODEL DATA --json``; ``--robustness`` adds the folder of
`papers.robustness`. In each document the text between the lines ``<!-- figures: NAME -->`` and
``<!-- end of figures -->`` is replaced. NAME is ``sets`` (a row for each set), ``robustness`` (the
test sheets) or ``summary`` (few columns, for a README).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tinysam.errors import DataError
from napari_tinysam.files.atomic import write_text
from napari_tinysam.files.tables import markdown_table
from papers.shared import figure, refusals

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Figures of the tables and their headings.
_COLUMNS = {
    "box_iou": "IoU, box",
    "loose_box_iou": "loose box",
    "click1_iou": "1 click",
    "off_click_iou": "off centre",
    "click1_oracle": "best of 3",
    "click3_iou": "3 clicks",
    "clicks_to_85": "clicks to 0.85",
    "score_error": "score error",
    "msa": "mSA",
    "ap50": "AP50",
    "head_msa": "mSA, head",
    "head_ap50": "AP50, head",
}

#: Of automatic segmentation: as Auto-segment does it, and the object head alone.
_AUTOMATIC, _HEAD = ("msa", "ap50"), ("head_msa", "head_ap50")

_BLOCK = re.compile(
    r"(<!-- figures: (?P<name>[a-z]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL
)


def sets_table(evaluation: Mapping[str, Any]) -> str:
    """Make a Markdown table with a row for each set.

    Parameters
    ----------
    evaluation : mapping
        As `tinysam_training.evaluation.report.summary` makes it. One click, which users meet
        first, also gets the interval of its mean.
    """
    names = _measured(evaluation, tuple(_COLUMNS))
    header = ["set", "images", "objects", *(_COLUMNS[name] for name in names)]
    blocks = {**evaluation["sets"], "all images": evaluation}
    rows = ([name, *_cells(block, names)] for name, block in blocks.items())
    return markdown_table(header, rows)


def summary_table(evaluation: Mapping[str, Any]) -> str:
    """Make a Markdown table with a row for each set and few columns, for a README."""
    wanted = ("box_iou", "click1_iou", "click3_iou", *_AUTOMATIC, *_HEAD)
    names = _measured(evaluation, wanted)
    if set(_AUTOMATIC) <= set(names):
        names = names[:-1]  # one column of the head is enough then
    rows = (
        [f"{name} ({block['images']})", *(figure(block.get(key)) for key in names)]
        for name, block in evaluation["sets"].items()
    )
    return markdown_table(
        ["held-out images", *(_COLUMNS[name] for name in names)], rows
    )


def _measured(evaluation: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    """Drop figures that were not measured: older evaluations, or those without a search."""
    without = {name for name in _AUTOMATIC if name not in evaluation}
    if evaluation.get("automatic", "") is None:
        without |= set(_AUTOMATIC)
    return tuple(name for name in names if name not in without)


def _cells(block: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    figures = []
    for name in names:
        text = figure(block.get(name))
        interval = (block.get("intervals") or {}).get(name)
        if name == "click1_iou" and interval:
            text += f" ({figure(interval[0])}–{figure(interval[1])})"
        figures.append(text)
    return [str(block["images"]), str(block["objects"]), *figures]


def published(text: str, blocks: Mapping[str, str]) -> str:
    """Replace the blocks of a document.

    Parameters
    ----------
    text : str
        The document.
    blocks : mapping of str to str
        Tables by the names of their blocks. Other blocks stay as they are.

    Raises
    ------
    DataError
        If the document has no block at all.
    """

    def replaced(match: re.Match[str]) -> str:
        table = blocks.get(match["name"])
        if table is None:
            return match[0]
        return f"{match[1]}\n{table}\n\n{match[3]}"

    if not _BLOCK.search(text):
        raise DataError(
            "There is no place for figures: <!-- figures: … --> is missing."
        )
    return _BLOCK.sub(replaced, text)


def publish(
    evaluation: Path, documents: Sequence[Path], robustness: Path | None = None
) -> None:
    """Write figures into documents.

    Parameters
    ----------
    evaluation : Path
        Json file of ``napari-tinysam evaluate``.
    documents : sequence of Path
        Markdown files; all are read before any is written.
    robustness : Path, optional
        Folder of `papers.robustness`.

    Raises
    ------
    DataError
        If a file cannot be read or has no place for figures.
    """
    content = _read_json(evaluation)
    blocks = {"sets": sets_table(content), "summary": summary_table(content)}
    if robustness is not None:
        blocks["robustness"] = _read(robustness / "robustness.md").rstrip()
    texts = {path: published(_read(path), blocks) for path in documents}
    for path, text in texts.items():
        write_text(path, text)


def _read_json(path: Path) -> dict[str, Any]:
    text = _read(path)
    try:
        content = json.loads(text)
        if "sets" in content:
            return _of_today(content)
    except (ValueError, TypeError):
        pass
    raise DataError(f"{path} does not hold figures of 'napari-tinysam evaluate'.")


def _of_today(content: Mapping[str, Any]) -> dict[str, Any]:
    """Rename figures of older files, where ``msa`` and ``ap50`` were of the object head alone."""
    found = dict(content)
    if not set(_AUTOMATIC) & set(found) or set(_HEAD) & set(found):
        return found
    names = dict(zip(_AUTOMATIC, _HEAD, strict=True))
    found = {names.get(key, key): value for key, value in found.items()}
    sets = dict(found["sets"])
    for name, block in sets.items():
        sets[name] = {names.get(key, key): value for key, value in block.items()}
    return {**found, "sets": sets}


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read.") from error


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("--robustness", type=Path)
    parser.add_argument("-o", "--output", type=Path, nargs="+", required=True)
    arguments = parser.parse_args()
    with refusals():
        publish(arguments.evaluation, arguments.output, arguments.robustness)


if __name__ == "__main__":
    main()
