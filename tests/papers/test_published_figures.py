"""Figures in documents: what is replaced, and what is left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_tinysam.errors import DataError
from papers.published_figures import (
    publish,
    published,
    sets_table,
    summary_table,
)

BLOCK = {
    "images": 3,
    "objects": 24,
    "box_iou": 0.5,
    "loose_box_iou": 0.45,
    "click1_iou": 0.25,
    "off_click_iou": 0.24,
    "msa": 0.3,
    "ap50": 0.2,
    "head_msa": 0.1,
    "head_ap50": None,
    "intervals": {"click1_iou": [0.125, 0.375]},
}
EVALUATION = {**BLOCK, "sets": {"nuclei": BLOCK}}
DOCUMENT = """before
<!-- figures: sets -->
old
<!-- end of figures -->
between
<!-- figures: robustness -->
kept
<!-- end of figures -->
after
"""


def test_tables_have_a_row_for_each_set() -> None:
    lines = sets_table(EVALUATION).splitlines()
    assert len(lines) == 4
    nuclei = "| nuclei | 3 | 24 | 0.500 | 0.450 | 0.250 (0.125–0.375) | 0.240 | – |"
    assert lines[2].startswith(nuclei)
    assert {line.count("|") for line in lines} == {16}
    assert lines[0].endswith("| mSA | AP50 | mSA, head | AP50, head |")
    lines = summary_table(EVALUATION).splitlines()
    assert lines[0].endswith("| mSA | AP50 | mSA, head |")
    assert lines[2] == "| nuclei (3) | 0.500 | 0.250 | – | 0.300 | 0.200 | 0.100 |"
    assert {line.count("|") for line in lines} == {8}


def test_what_was_not_measured_has_no_column() -> None:
    lines = summary_table({**EVALUATION, "automatic": None}).splitlines()
    assert lines[0].endswith("| 3 clicks | mSA, head | AP50, head |")


def test_older_files_hold_the_figures_of_the_object_head(tmp_path: Path) -> None:
    """Before searches were judged too, they were called mSA and AP50."""
    block = {**BLOCK, "msa": 0.75}
    for name in ("head_msa", "head_ap50"):
        del block[name]
    path, document = tmp_path / "figures.json", tmp_path / "document.md"
    path.write_text(json.dumps({**block, "sets": {"nuclei": block}}))
    document.write_text(DOCUMENT.replace("sets", "summary"))
    publish(path, [document])
    text = document.read_text("utf-8")
    assert "| 3 clicks | mSA, head | AP50, head |" in text
    assert "| nuclei (3) | 0.500 | 0.250 | – | 0.750 | 0.200 |" in text


def test_blocks_are_replaced_and_nothing_else() -> None:
    text = published(DOCUMENT, {"sets": "new"})
    assert text == DOCUMENT.replace("old\n", "\nnew\n\n")
    assert published(text, {"sets": "new"}) == text


def test_files_are_written_all_or_none(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    figures.write_text(json.dumps(EVALUATION))
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text(DOCUMENT)
    bad.write_text("nothing here")
    with pytest.raises(DataError, match="no place for figures"):
        publish(figures, [good, bad])
    assert good.read_text() == DOCUMENT

    (tmp_path / "robustness.md").write_text("| sheets |\n")
    publish(figures, [good], tmp_path)
    text = good.read_text("utf-8")
    assert "| nuclei | 3 | 24 |" in text
    assert "kept" not in text
    assert "| sheets |" in text


@pytest.mark.parametrize("content", ["", "[1]", "{}", "1"])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "figures.json"
    path.write_text(content)
    with pytest.raises(DataError, match="does not hold figures"):
        publish(path, [])
    with pytest.raises(DataError, match="cannot be read"):
        publish(tmp_path / "missing.json", [])
