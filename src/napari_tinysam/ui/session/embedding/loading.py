"""Loading a model, and preparing its faster form for later starts."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.ui.session.embedding.triton_guard import triton_kept_out
from napari_tinysam.ui.state.choices import read_choices

if TYPE_CHECKING:
    from napari_tinysam.inference.predictor import Predictor

Progress = Callable[[int, int], None]
LoadPredictor = Callable[[str, str, Progress], "Predictor"]
Notify = Callable[[str, str], None]


class Cancelled(Exception):
    """Raised inside a download that the user stopped."""


def load_predictor(name: str, device: str, progress: Progress) -> Predictor:
    """Load a checkpoint; the first call may import torch, so call it from the inference thread."""
    from napari_tinysam.inference.kept import KeptEmbeddings
    from napari_tinysam.inference.load import load_model

    choices = read_choices()
    with triton_kept_out():
        predictor = load_model(
            name,
            device=device,
            precision=choices.precision,
            threads=choices.threads,
            progress=progress,
        )
    predictor.kept = KeptEmbeddings(choices.disk)
    return predictor


def starts_slowly(name: str, device: str) -> bool:
    """Whether this is the model's first, slower load on this computer."""
    from napari_tinysam.inference.runtime.choice import needs_preparing

    with triton_kept_out():
        return needs_preparing(name, device, read_choices().precision)


def prepare_faster(name: str, predictor: Predictor, on_end: Callable[[], None]) -> bool:
    """Begin to convert the model for a faster runtime, in a separate process.

    Returns
    -------
    bool
        Whether that is needed; if so, another thread calls `on_end` when the process has ended.
    """
    from napari_tinysam.inference.runtime.choice import prepare_in_background

    return prepare_in_background(name, predictor.model_id, on_end)


@functools.cache  # once a process: napari sets warnings aside meanwhile, which is for all threads
def import_ahead() -> None:
    """Import what napari's first Labels layer needs: importing it later would freeze the window."""
    for module in ("pandas", "skimage.color.colorconv", "zarr"):
        with contextlib.suppress(ImportError):  # napari itself reports it when needed
            importlib.import_module(module)
    # Its colours are computed by compiled code, which takes about a second to load.
    from napari.layers import Labels

    Labels(np.zeros((1, 1), np.uint32))


def has_faster(predictor: Predictor) -> bool:
    """Whether loading the model again gives a faster one: it was converted in the meantime."""
    from napari_tinysam.inference.runtime.choice import is_prepared

    return is_prepared(predictor.model_id)
