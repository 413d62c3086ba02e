"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def argument(metavar: str, help: str) -> Any:
    """Return an argument without a default."""
    return typer.Argument(metavar=metavar, help=help, show_default=False)


def option(metavar: str, help: str, *names: str, **more: Any) -> Any:
    """Return an option with a value; `more` as for `typer.Option`."""
    return typer.Option(*names, metavar=metavar, help=help, **more)


def output_option(metavar: str, help: str) -> Any:
    """Return ``--output`` of a command that always writes."""
    return option(metavar, help, "--output", "-o", show_default=False)


_MODEL = "A model (see 'napari-tinysam models') or a checkpoint file."

ModelArgument = Annotated[str, argument("MODEL", _MODEL)]
ModelOption = Annotated[str, option("NAME|FILE", _MODEL)]
ModelOutputOption = Annotated[
    Path,
    output_option(
        "FILE", "The model to write, .safetensors. An existing file is replaced."
    ),
]
DeviceOption = Annotated[str, option("NAME", "auto, cpu, cuda or mps.")]
PrecisionOption = Annotated[
    str,
    option(
        "NAME",
        "On a CPU: auto, f32, bf16 or, for quantized models, int8. auto takes the fastest on "
        "this computer.",
    ),
]
ThreadsOption = Annotated[
    int, option("N", "On a CPU; 0 takes as many as are fastest.", min=0)
]
ChannelOption = Annotated[
    str | None,
    option(
        "C",
        "Which channel, from 0. The model sees two or three (2,0,1) as red, green and blue. "
        "Without it: colours, or the first channel.",
    ),
]
SeriesOption = Annotated[
    int | None,
    option(
        "N",
        "Which image of a file that holds several (series, frames), from 0. Without it: the "
        "first.",
        min=0,
    ),
]
PartlyAnnotatedOption = Annotated[
    bool,
    typer.Option(
        "--partly-annotated",
        help="Pixels without a label may belong to objects that nobody drew.",
    ),
]
SeedOption = Annotated[int, option("N", "Of all random choices.", min=0)]
