"""``napari-tinysam export``: a model as files that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_tinysam.cli.options import download_progress, note
from napari_tinysam.errors import UsageError, explained

if TYPE_CHECKING:
    from napari_tinysam.checkpoints import LoadedCheckpoint

#: What a file says about itself that is for this plugin alone, or said elsewhere.
_OWN_NOTES = frozenset({"dense_prompts", "eight_bits", "everything", "format"})

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model (see 'napari-tinysam models') or a checkpoint file.",
        show_default=False,
    ),
]
FolderOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        help="Where the files go: a new folder, or an empty one.",
        show_default=False,
    ),
]
FormatOption = Annotated[
    str, typer.Option("--format", metavar="NAME", help="onnx or openvino.")
]
IntegersOption = Annotated[
    bool,
    typer.Option(
        "--int8",
        help="Keep the 8-bit integers of a quantized model: a quarter of the size.",
    ),
]


def export(
    model: ModelArgument,
    output: FolderOption,
    format: FormatOption = "onnx",
    int8: IntegersOption = False,
) -> None:
    """Write MODEL as an encoder and a decoder that other programs run, without this plugin.

    The folder gets both, a page that says what goes in and out, and the same for programs.
    docs/export.md has examples.
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
    """Say what the files tell about their model."""
    from napari_tinysam.checkpoints import REGISTRY

    notes = {"name": loaded.name, "fingerprint": loaded.fingerprint}
    if loaded.name in REGISTRY:
        known = REGISTRY[loaded.name]
        notes |= {"licence": known.licence, "training data": known.training_data}
    own = {k: v for k, v in loaded.notes.items() if k not in _OWN_NOTES}
    return own | notes
