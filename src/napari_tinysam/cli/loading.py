"""Load the model that a command runs, and find the images that it looks at."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from napari_tinysam.cli.console import download_progress, note
from napari_tinysam.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tinysam.inference.predictor import Predictor
    from tinysam_training.data import FoundEntries

#: With this many images or more, converting the model for the computer first pays.
MANY_IMAGES = 8


def load_predictor(
    model: str,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    images: int = 1,
) -> Predictor:
    """Load a model, and show the progress of a download.

    Parameters
    ----------
    model, device, precision, threads
        As for `napari_tinysam.load_model`.
    images : int
        How many the command will look at.

    Raises
    ------
    CheckpointError, ValueError
        As `napari_tinysam.load_model`.
    """
    from napari_tinysam.inference.load import load_model

    return load_model(
        model,
        device=device,
        precision=precision,  # type: ignore[arg-type]  # which it checks
        threads=threads,
        progress=download_progress(),
        convert=note if images >= MANY_IMAGES else None,
    )


def find_images(
    folder: Path, split: str | None, usual: str, complete: bool = True
) -> FoundEntries:
    """List the labelled images of a folder.

    Parameters
    ----------
    folder : Path
    split : str or None
        A part of it: train, val or test. None: the usual one if the folder is split, else all.
    usual : str
        The part that the command is for.
    complete : bool
        Whether a pixel without a label is background.

    Raises
    ------
    DataError
        If there is no such folder or part, or it cannot be read.
    """
    from tinysam_training.data import find_pairs

    if split is None:
        with suppress(DataError):  # not split; any other trouble shows below
            if found := find_pairs(folder, usual, complete):
                return found
    return find_pairs(folder, split, complete)
