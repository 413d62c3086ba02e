"""``napari-tinysam train``: a model by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_tinysam.cli.console import TrainingBar, speaks
from napari_tinysam.cli.cut_training import noted
from napari_tinysam.cli.options import DeviceOption, argument, option, output_option
from napari_tinysam.errors import UsageError, explained

if TYPE_CHECKING:
    from tinysam_training.recipe import Recipe


def train(
    recipe: Annotated[
        str, argument("RECIPE", "default, distill, scratch, or a YAML file.")
    ],
    data: Annotated[
        Path,
        option(
            "FOLDER",
            "The folder that the recipe's paths are relative to.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, output_option("FOLDER", "Where log, checkpoints and models go.")
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder.")
    ] = False,
    max_minutes: Annotated[
        float | None,
        option("M", "Stop after M minutes, with a checkpoint to go on from."),
    ] = None,
    steps: Annotated[
        int | None,
        option("N", "Length of the whole run, instead of the recipe's.", min=1),
    ] = None,
    device: DeviceOption = "auto",
    devices: Annotated[int, option("N", "Devices in each machine.", min=1)] = 1,
    nodes: Annotated[int, option("N", "Machines.", min=1)] = 1,
    precision: Annotated[str, option("NAME", "auto, 32-true or bf16-mixed.")] = "auto",
) -> None:
    """Train the model that RECIPE describes.

    The folder gets the recipe, the log, curves, checkpoints and the best model. --resume goes on
    with an interrupted run.
    """
    from tinysam_training.commands.train import run_recipe
    from tinysam_training.run.starting import Hardware

    if max_minutes is not None and not max_minutes > 0:
        raise UsageError("--max-minutes is more than 0.")
    if precision not in ("auto", "32-true", "bf16-mixed"):
        raise UsageError("--precision is auto, 32-true or bf16-mixed.")
    with explained(defects=False), noted(output), TrainingBar() as bar:
        try:
            outcome = run_recipe(
                read_recipe(recipe, steps),
                data,
                output,
                hardware=Hardware(device, devices, nodes, precision),  # type: ignore[arg-type]
                resume=resume,
                max_minutes=max_minutes,
                on_message=bar.say,
                on_step=bar.step,
            )
        except KeyboardInterrupt:
            if bar.training is not None:
                bar.say(f"--resume continues the run in {output}.")
            raise
    if not speaks():
        return
    typer.echo(f"{output}: {outcome.steps} steps in {outcome.seconds / 60:.1f} minutes")
    figures = "; ".join(f"{k} {v:.3f}" for k, v in outcome.best.items() if k != "step")
    if figures:
        typer.echo(f"Best at step {outcome.best['step']:.0f}: {figures}")
    if not outcome.finished:
        typer.echo("The run is not finished; --resume continues it.")
    elif outcome.shortness:
        typer.echo(outcome.shortness)


def read_recipe(recipe: str, steps: int | None) -> Recipe:
    """Read a recipe; `steps` replaces its length."""
    from tinysam_training.recipe import load_recipe

    length = {} if steps is None else {"steps": steps, "minutes": 0}
    return load_recipe(recipe, **length)
