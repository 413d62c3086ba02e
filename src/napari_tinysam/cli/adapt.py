"""``napari-tinysam adapt``: goes on with an adaptation that the dock began."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_tinysam.cli.options import argument
from napari_tinysam.errors import UsageError, explained


def adapt(
    folder: Annotated[
        Path | None,
        argument(
            "FOLDER", "Of the adaptation. Without it: the last that has not ended."
        ),
    ] = None,
) -> None:
    """Adapt a model to what was annotated in the dock, or go on with that.

    The dock's "Adapt" writes the folder and starts this command. A run that was interrupted goes on
    from its last checkpoint. What happens is written into FOLDER/events.jsonl.
    """
    from tinysam_training.commands.adaptation import Adaptation, all_adaptations

    if folder is None:
        left = [each for each in all_adaptations() if each.end is None]
        if not left:
            raise UsageError("There is no adaptation to go on with.")
        chosen = left[-1]
    else:
        chosen = Adaptation(folder)
    with explained(defects=False):
        from tinysam_training.commands.adapt import adapt as run

        chosen.order()  # before anything is written there
        run(chosen)
    end = chosen.end or {}
    typer.echo(" ".join(str(end.get(key, "")) for key in ("text", "model")).strip())
