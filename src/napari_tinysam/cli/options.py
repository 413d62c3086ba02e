"""What several commands share: options that mean the same, and how they talk to the user."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

ModelOption = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help="A model (see 'napari-tinysam models') or a checkpoint file.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option(metavar="NAME", help="auto, cpu, cuda or mps.")
]

SeriesOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="Which image of a file that holds several (series, frames), from 0; else the first.",
    ),
]


def note(message: str) -> None:
    """Say a sentence on stderr."""
    typer.echo(" ".join(message.split()), err=True)


def download_progress() -> Callable[[int, int], None] | None:
    """Return what shows the progress of a download, for somebody who watches."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        percent = f" {100 * done // total} %" if total else ""
        end = "\n" if 0 < total <= done else ""
        text = f"\rDownloading: {done / 1e6:.0f} MB{percent}{end}"
        typer.echo(text, nl=False, err=True)

    return show
