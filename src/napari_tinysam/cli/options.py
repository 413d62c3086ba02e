"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_MODEL = "A model (see 'napari-tinysam models') or a checkpoint file."

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help=_MODEL, show_default=False)
]
ModelOption = Annotated[str, typer.Option(metavar="NAME|FILE", help=_MODEL)]
ModelOutputOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="The model to write, .safetensors. An existing file is replaced.",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    str, typer.Option(metavar="NAME", help="auto, cpu, cuda or mps.")
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="On a CPU: auto, f32, bf16 or, for quantized models, int8. auto takes the fastest on "
        "this computer.",
    ),
]
ThreadsOption = Annotated[
    int,
    typer.Option(metavar="N", min=0, help="On a CPU; 0 takes as many as are fastest."),
]
ChannelOption = Annotated[
    str | None,
    typer.Option(
        metavar="C",
        help="Which channel, from 0. The model sees two or three (2,0,1) as red, green and blue. "
        "Without it: colours, or the first channel.",
    ),
]
SeriesOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="Which image of a file that holds several (series, frames), from 0. Without it: the "
        "first.",
    ),
]
PartlyAnnotatedOption = Annotated[
    bool,
    typer.Option(
        "--partly-annotated",
        help="Pixels without a label may belong to objects that nobody drew.",
    ),
]
SeedOption = Annotated[
    int, typer.Option(metavar="N", min=0, help="Of all random choices.")
]
