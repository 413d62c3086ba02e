"""``napari-tinysam export``: a model as files that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_tinysam.cli.console import download_progress, note
from napari_tinysam.cli.options import ModelArgument, option, output_option
from napari_tinysam.errors import UsageError, explained

if TYPE_CHECKING:
    from napari_tinysam.checkpoints import LoadedCheckpoint

#: Notes of a checkpoint that only this plugin needs, or that the files have elsewhere.
_OWN_NOTES = frozenset({"dense_prompts", "eight_bits", "everything", "format"})


def export(
    model: ModelArgument,
    output: Annotated[
        Path,
        output_option("FOLDER", "Where the files go: a new folder, or an empty one."),
    ],
    format: Annotated[str, option("NAME", "onnx or openvino.")] = "onnx",
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Keep the 8-bit integers of a quantized model: a quarter of the size.",
        ),
    ] = False,
) -> None:
    """Write MODEL as files that other programs run.

    They need neither this plugin nor torch. The folder gets an encoder, a decoder, a page that
    describes their inputs and outputs, and the same for programs. docs/export.md has examples.
    """
    from napari_tinysam.checkpoints import load
    from napari_tinysam.export import FORMATS, check_folder, check_packages
    from napari_tinysam.export import export as write

    if format not in FORMATS:
        raise UsageError(f"--format is {' or '.join(FORMATS)}, not {format!r}.")
    with explained(f"{model} cannot be exported"):
        check_folder(output)  # before a download, and before torch
        check_packages(format)
        loaded = load(model, progress=download_progress())
        note(f"Exporting {loaded.name!r}, which takes half a minute.")
        files = write(
            loaded.model, output, format=format, integers=int8, notes=_notes(loaded)
        )
    for file in files:
        typer.echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


def _notes(loaded: LoadedCheckpoint) -> dict[str, str]:
    """Describe the model in the files: its name, fingerprint, licence and history."""
    from napari_tinysam.checkpoints import REGISTRY

    notes = {"name": loaded.name, "fingerprint": loaded.fingerprint}
    if loaded.name in REGISTRY:
        known = REGISTRY[loaded.name]
        notes |= {"licence": known.licence, "training data": known.training_data}
    own = {k: v for k, v in loaded.notes.items() if k not in _OWN_NOTES}
    return own | notes
