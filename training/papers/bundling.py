"""The bundled model: a run's weights in half precision, and what its card says about the file.

Run as ``python -m papers.bundling RUN -o src/napari_tinysam/weights``, with ``--weights
calibrated`` after `tinysam_training.calibration.calibrate` wrote ``RUN/calibrated.safetensors``.
The card's figures are written by `papers.published_figures`, after ``napari-tinysam evaluate``.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from pathlib import Path

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError, TinySAMError
from napari_tinysam.everything.thresholds import NOTE
from napari_tinysam.files.atomic import replacing
from napari_tinysam.files.tables import markdown_table
from papers.published_figures import published

CARD = "MODEL_CARD.md"


def bundle(run: Path, folder: Path, weights: str = "best") -> Path:
    """Put the model of a run into the package, and its hash and origin into the card.

    Parameters
    ----------
    run : Path
        Folder of ``napari-tinysam train`` or ``distill``.
    folder : Path
        Of the package's weights: ``default.safetensors`` is written, and the block ``file`` of
        ``MODEL_CARD.md``, which must be there.
    weights : str
        Which file of the run: "best", the model with the best validation; "last", what it ended
        with; or another, without its suffix.

    Returns
    -------
    Path
        Of the weights.

    Raises
    ------
    DataError
        If the run or the card cannot be read, or the card has no place for it.
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
    # The card is made first: a card without a place must not leave a model that it does not know.
    published(card, {})
    checkpoints.save(loaded.model, path, notes, half=True)
    content = path.read_bytes()
    versions = ", ".join(f"{k} {v}" for k, v in described["versions"].items())
    rows = {
        "sha256": f"`{hashlib.sha256(content).hexdigest()}`",
        "size": f"{len(content):,} bytes, float16",
        "recipe": f"`{described['recipe']}`, seed {described['seed']}",
        "steps": f"{int(steps):,} of the {int(float(reached['step'])):,} that were run",
        "data's fingerprint": f"`{described['data']}`",
        "made with": versions,
    }
    table = markdown_table(("", ""), rows.items())
    with replacing(folder / CARD) as file:
        file.write(published(card, {"file": table}).encode())
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--weights", default="best", help="best, last or calibrated")
    arguments = parser.parse_args()
    try:
        path = bundle(arguments.run, arguments.output, arguments.weights)
    except TinySAMError as error:
        sys.exit(f"Error: {error}")
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
