"""``napari-tinysam models``: the known models, and where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from napari_tinysam.cli.console import columns

if TYPE_CHECKING:
    from napari_tinysam.checkpoints import Checkpoint


def models() -> None:
    """List the models, where they are and what may be done with them."""
    from napari_tinysam.checkpoints import REGISTRY

    rows = [("NAME", "TITLE", "SIZE", "LICENCE", "WHERE")]
    for name, checkpoint in REGISTRY.items():
        size, where = _whereabouts(name, checkpoint)
        megabytes = f"{size / 1e6:.0f} MB" if size else "?"
        rows.append((name, checkpoint.title, megabytes, checkpoint.licence, where))
    typer.echo(columns(rows))


def _whereabouts(name: str, checkpoint: Checkpoint) -> tuple[int | None, str]:
    """Bytes of a checkpoint, and where it is."""
    from napari_tinysam.checkpoints import fetch, is_available_offline

    if not is_available_offline(name):
        return checkpoint.size, checkpoint.url or "missing in this installation"
    path = fetch(name)
    return path.stat().st_size, str(path) if checkpoint.url else "bundled"
