"""Markdown tables."""

from __future__ import annotations

from napari_tinysam.files.tables import markdown_table


def test_cells_cannot_break_the_table() -> None:
    rows = [("a | b", 1), ("two\nlines", None), ("", "")]
    assert markdown_table(("", "value"), rows) == (
        "| | value |\n|---|---|\n| a \\| b | 1 |\n| two lines | None |\n| | |"
    )
