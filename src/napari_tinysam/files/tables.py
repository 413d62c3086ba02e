"""Tables in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Make a Markdown table, without a newline at its end.

    Parameters
    ----------
    header : sequence of str
        Titles of the columns.
    rows : iterable of iterables
        Cells; line breaks and bars in them do not break the table.
    """
    lines = [_line(header), f"|{'---|' * len(header)}"]
    return "\n".join([*lines, *map(_line, rows)])


def _line(cells: Iterable[object]) -> str:
    texts = (" ".join(str(cell).replace("|", "\\|").split()) for cell in cells)
    return "|" + "".join(f" {text} |" if text else " |" for text in texts)
