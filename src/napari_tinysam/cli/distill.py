"""``napari-tinysam distill``: a smaller model that does what its teacher does, by a recipe."""

from __future__ import annotations

from functools import wraps
from typing import Any

from napari_tinysam.cli.train import read_recipe, train
from napari_tinysam.errors import TinySAMError


@wraps(train, assigned=["__annotations__"])  # typer sees the same options
def distill(**options: Any) -> None:
    """Train the student of RECIPE to do what its teacher does.

    This is full-stage distillation: image embeddings, tokens and masks are learnt. The teacher's
    embeddings are computed once and kept in the folder. --resume goes on with an interrupted run.
    """
    if not read_recipe(options["recipe"], options["steps"]).teacher.model:
        raise TinySAMError(
            f"{options['recipe']} names no teacher; 'napari-tinysam train' is for that."
        )
    train(**options)
