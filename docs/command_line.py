"""A hook of MkDocs: put what ``--help`` says into the page about the command line."""

from __future__ import annotations

from typing import Any

import typer
from typer.testing import CliRunner

from napari_tinysam.cli.main import app

PLACE = "<!-- help of all commands -->"


def help_pages() -> str:
    """Return a section for each command."""
    sections = []
    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        shown = CliRunner().invoke(
            app,
            [name, "--help"],
            prog_name="napari-tinysam",
            terminal_width=88,
        )
        if shown.exit_code:
            raise RuntimeError(f"napari-tinysam {name} --help: {shown.output}")
        sections.append(f"## {name}\n\n```text\n{shown.stdout.strip()}\n```")
    return "\n\n".join(sections)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the place. MkDocs calls this for each page."""
    return markdown.replace(PLACE, help_pages()) if PLACE in markdown else markdown
