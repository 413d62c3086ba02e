"""``napari-tinysam kept``: the embeddings that the plugin keeps on disk."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_tinysam.cli.console import counted


def kept(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all of them.")] = False,
) -> None:
    """Show where the plugin keeps planes that it has read, and how large that is.

    They only save time: nothing is lost without them. The limit is in napari's preferences.
    """
    from napari_tinysam.inference.kept import KeptEmbeddings

    files = KeptEmbeddings().files
    planes, size = len(files), files.size
    if clear:
        files.clear()
        planes, size = planes - len(files), size - files.size
    done = "removed from" if clear else "in"
    typer.echo(f"{counted(planes, 'plane')}, {size / 1e6:.0f} MB {done} {files.folder}")
