"""How a command runs a model: the options, and the loading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from napari_tinysam.cli.options import download_progress, note

if TYPE_CHECKING:
    from napari_tinysam.inference.predictor import Predictor

#: From so many images on, a model is first converted for the computer (`load_model`, `convert`).
MANY_IMAGES = 8

PrecisionOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="auto, f32, bf16 or, for quantized models, int8, of computers without a GPU: auto "
        "takes what is fastest on this one.",
    ),
]
ThreadsOption = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        help="Of computers without a GPU; 0 for as many as are fastest.",
    ),
]


@dataclass(frozen=True)
class Running:
    """Where and how a model runs.

    Parameters
    ----------
    device, precision, threads
        As for `napari_tinysam.load_model`.
    """

    device: str = "auto"
    precision: str = "auto"
    threads: int = 0

    def load(self, model: str, images: int = 1) -> Predictor:
        """Load a model, and show the user a download.

        Parameters
        ----------
        model : str
            As for `napari_tinysam.load_model`.
        images : int
            How many it is for. It is converted for the computer where that pays.

        Raises
        ------
        CheckpointError, ValueError
            As `napari_tinysam.load_model`.
        """
        from napari_tinysam.inference.load import load_model

        return load_model(
            model,
            device=self.device,
            precision=self.precision,  # type: ignore[arg-type]  # which it checks
            threads=self.threads,
            progress=download_progress(),
            convert=note if images >= MANY_IMAGES else None,
        )
