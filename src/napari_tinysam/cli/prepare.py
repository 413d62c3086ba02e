"""``napari-tinysam prepare``: convert a model for this computer's CPU.

The plugin starts this as a separate process the first time that a model is used on a CPU. Torch
runs the model meanwhile, and the next start finds the graphs.
"""

from __future__ import annotations

import contextlib
import os

import typer

from napari_tinysam.cli.console import download_progress
from napari_tinysam.cli.options import ModelArgument
from napari_tinysam.errors import TinySAMError, sentence


def prepare(model: ModelArgument) -> None:
    """Convert MODEL so that it is fast on this computer's CPU.

    That takes a minute or two. The plugin does it the first time that a model is used; this command
    does it ahead. Prints the folder of the converted model.
    """
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(10)  # somebody is working
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from napari_tinysam import checkpoints
    from napari_tinysam.inference.runtime import choice
    from napari_tinysam.inference.runtime.openvino import store

    if not store.is_installed():
        raise TinySAMError(
            "OpenVINO is not installed on this computer; torch runs the models as they are."
        )
    located = checkpoints.locate(model, progress=download_progress())
    try:
        folder = choice.prepare(located)
    except Exception as error:
        # or the plugin would try again at every start
        reason = sentence(error)
        store.note_failure(located.fingerprint, reason)
        raise TinySAMError(reason) from error
    typer.echo(str(folder))
