"""``napari-tinysam demo``: stained nuclei from scikit-image, with prompts chosen by eye."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_tinysam.cli.console import note
from napari_tinysam.cli.loading import load_predictor
from napari_tinysam.cli.options import ModelOption, option
from napari_tinysam.cli.segment import segment_objects
from napari_tinysam.errors import explained, sentence

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_tinysam.cli.prompt_options import Box, ObjectPrompt, Point

#: The part of the image where nuclei lie apart, y and x.
_PART = slice(200, 456), slice(256, 512)

#: Around nuclei of the connective tissue.
BOXES: tuple[Box, ...] = (
    (33, 46, 49, 57),
    (56, 83, 67, 99),
    (22, 86, 40, 100),
    (92, 83, 115, 101),
    (115, 113, 131, 132),
    (190, 36, 205, 57),
    (75, 89, 87, 100),
    (44, 35, 56, 47),
)

#: On a nucleus at the lower edge, and outside it.
POSITIVE: tuple[Point, ...] = ((152, 229),)
NEGATIVE: tuple[Point, ...] = ((138, 229),)


def demo(
    folder: Annotated[
        Path, option("FOLDER", "Where the files go.", "--folder", "-o")
    ] = Path("napari-tinysam-demo"),
    model: ModelOption = "default",
    viewer: Annotated[
        bool,
        typer.Option("--viewer/--no-viewer", help="Open napari with the result."),
    ] = True,
) -> None:
    """Segment an example and look at the result in napari.

    The example is a microscopy image that comes with scikit-image. The folder gets labels.tif and
    overlay.png. napari opens if there is a screen.
    """
    from napari_tinysam.files.writing import write_labels

    started = time.perf_counter()
    with explained(f"The folder {folder} cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
    pixels = image()
    with explained():
        result = segment_objects(load_predictor(model), pixels, objects())
    labels, overlay = folder / "labels.tif", folder / "overlay.png"
    write_labels(labels, result.labels)
    result.write_overlay(overlay, pixels)
    typer.echo(result.summary(labels, time.perf_counter() - started))
    typer.echo(f"{overlay}: the image with outlines and prompts")
    if viewer:
        _open_viewer(pixels, result.labels)


def image() -> npt.NDArray[np.float32]:
    """Return the stain of the nuclei in colonic tissue: (256, 256) float32, no download.

    Haematoxylin, unmixed from the colours of scikit-image's immunohistochemistry example (Ruifrok
    and Johnston, 2001): bright nuclei on a dark ground, as in fluorescence.
    """
    import numpy as np
    from skimage.color import rgb2hed
    from skimage.data import immunohistochemistry

    return np.asarray(rgb2hed(immunohistochemistry())[*_PART, 0], np.float32)


def objects() -> list[ObjectPrompt]:
    """Return the prompts of the objects in `image`."""
    from napari_tinysam.cli.prompt_options import group

    return group(POSITIVE, NEGATIVE, BOXES)


def _has_screen() -> bool:
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open_viewer(
    pixels: npt.NDArray[np.float32], labels: npt.NDArray[np.integer[Any]]
) -> None:
    if not _has_screen():
        note("There is no screen, so napari is not opened.")
        return
    try:
        from napari_tinysam.ui.contributions.demo import open_demo
    except ImportError as error:  # napari without a Qt binding
        note(sentence(error, "napari is not opened"))
        return
    open_demo(pixels, labels)
