"""``napari-tinysam calibrate``: the thresholds of Auto-segment for a model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from napari_tinysam.cli.console import PartsBar
from napari_tinysam.cli.finetune import check_model_output
from napari_tinysam.cli.loading import MANY_IMAGES, find_images, load_predictor
from napari_tinysam.cli.options import (
    ModelArgument,
    ModelOutputOption,
    argument,
    option,
)
from napari_tinysam.errors import explained


def calibrate(
    model: ModelArgument,
    data: Annotated[
        list[Path],
        argument(
            "DATA...",
            "Folders of images and their labels, of all kinds that the model is for. Not "
            "those that it is judged by.",
        ),
    ],
    output: ModelOutputOption,
    split: Annotated[
        str | None,
        option(
            "NAME",
            "train, val or test. Without it: train if a folder is split, else all images.",
        ),
    ] = None,
    images: Annotated[
        int, option("N", "How many images of each folder to use.", min=1)
    ] = 6,
    points_per_side: Annotated[
        int, option("N", "Side of the grid of points.", min=1)
    ] = 32,
    grid_images: Annotated[
        int,
        option(
            "N",
            "How many images of each folder to decode the grid on, which takes longest.",
            min=1,
        ),
    ] = 2,
) -> None:
    """Measure the thresholds of Auto-segment for MODEL.

    Scores mean something else in every model, so Auto-segment needs thresholds for each. They are
    measured on the labelled images in DATA and stored in the file, whose weights stay as they are.
    OUTPUT may be MODEL itself.
    """
    from tinysam_training.calibration.calibrate import calibrate as measure
    from tinysam_training.calibration.calibrate import write
    from tinysam_training.data.spacing import evenly_spaced

    check_model_output(output)
    with explained(defects=False):
        entries = [
            entry
            for folder in data
            for entry in evenly_spaced(find_images(folder, split, "train"), images)
        ]
        predictor = load_predictor(model, images=MANY_IMAGES)
        with PartsBar() as bar:
            found = measure(
                predictor,
                entries,
                points_per_side=points_per_side,
                grid_images=grid_images * len(data),
                progress=partial(bar.report, "Images"),
            )
        write(model, output, found)
    typer.echo(
        f"{output}: {predictor.name} with thresholds measured on {len(entries)} images"
    )
    for name, value in found.figures.items():
        typer.echo(f"  {name}: {value:.3f}")
