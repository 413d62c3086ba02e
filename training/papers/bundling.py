"""Bundle a model: write a run's weights in half precision, and describe the file in its card.

Run as ``python -m papers.bundling RUN -o src/napari_tinysam/weights``, with ``--weights
calibrated`` after `tinysam_training.calibration.calibrate` wrote ``RUN/calibrated.safetensors``.
`papers.published_figures` writes the card's figures, after ``napari-tinysam evaluate``.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from pathlib import Path

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from napari_tinysam.everything.thresholds import NOTE
from napari_tinysam.files.atomic import write_text
from napari_tinysam.files.tables import markdown_table
from papers.published_figures import published
from papers.shared import refusals

CARD = "MODEL_CARD.md"


def bundle(run: Path, folder: Path, weights: str = "best") -> Path:
    """Put a run's model into the package, and its hash and origin into the card.

    Parameters
    ----------
    run : Path
        Folder of ``napari-tinysam train`` or ``distill``.
    folder : Path
        The package's weights: ``default.safetensors`` is written, and the block ``file`` of
        ``MODEL_CARD.md``, which must be there.
    weights : str
        A file of the run, without its suffix: "best" has the best validation, "last" is the end.

    Returns
    -------
    Path
        Of the weights.

    Raises
    ------
    DataError
        If the run or the card cannot be read, or the card has no block for it.
    CheckpointError
        If the weights cannot be read or written.
    """
    try:
        described = json.loads((run / "run.json").read_text("utf-8"))
        with (run / "log.csv").open(newline="") as log:
            reached = list(csv.DictReader(log))[-1]
        card = (folder / CARD).read_text("utf-8")
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{run} or {folder / CARD} cannot be read: {error}.") from error
    source = run / f"{weights}.safetensors"
    loaded = checkpoints.load(source)
    steps = str(int(float(loaded.notes.get("step", reached["step"]))))
    notes = {
        "name": "default",
        "made_by": loaded.notes.get("made_by", "napari-tinysam train"),
        "recipe": str(described["recipe"]),
        "seed": str(described["seed"]),
        "data": str(described["data"]),
        "steps": steps,
        **{key: loaded.notes[key] for key in (NOTE,) if key in loaded.notes},
    }
    path = folder / "default.safetensors"
    # Check the card first: without the block, the model must not be replaced.
    published(card, {})
    checkpoints.save(loaded.model, path, notes, half=True)
    content = path.read_bytes()
    versions = ", ".join(f"{k} {v}" for k, v in described["versions"].items())
    table = markdown_table(
        ("", ""),
        [
            ("sha256", f"`{hashlib.sha256(content).hexdigest()}`"),
            ("size", f"{len(content):,} bytes, float16"),
            ("recipe", f"`{described['recipe']}`, seed {described['seed']}"),
            ("steps", f"{int(steps):,} of the {int(float(reached['step'])):,} that were run"),
            ("data's fingerprint", f"`{described['data']}`"),
            ("made with", versions),
        ],
    )  # fmt: skip
    write_text(folder / CARD, published(card, {"file": table}))
    return path


def describe_quantized(quantized: Path, folder: Path) -> None:
    """Put hash and size of the 8-bit weights into the card of a folder.

    Raises
    ------
    DataError
        If the file or the card cannot be read.
    """
    try:
        content = quantized.read_bytes()
        card = (folder / CARD).read_text("utf-8")
        floats = 2 * (folder / "default.safetensors").stat().st_size
    except OSError as error:
        raise DataError(f"{quantized} or {folder / CARD} cannot be read.") from error
    table = markdown_table(
        ("", ""),
        [
            (
                "sha256 of the quantized file",
                f"`{hashlib.sha256(content).hexdigest()}`",
            ),
            (
                "size",
                f"{len(content):,} bytes, {len(content) / floats:.0%} of 32 bits",
            ),
        ],
    )
    write_text(folder / CARD, published(card, {"quantized": table}))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--weights", default="best", help="best, last or calibrated")
    arguments = parser.parse_args()
    with refusals():
        path = bundle(arguments.run, arguments.output, arguments.weights)
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
