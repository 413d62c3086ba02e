"""Deliver weights and logs as few small files, and check that they arrive whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from napari_tinysam.errors import TinySAMError, sentence
from napari_tinysam.files.atomic import replacing

#: Bytes of a file, just below 16 MiB.
PART = 16 * 2**20 - 2**16

#: File that describes the delivered weights.
PARTS = "parts.json"

#: Files of a run's folder that are delivered, if they exist.
RUN_FILES = ("run.json", "recipe.yaml", "log.csv", "validation.csv", "curves.png")


def deliver(weights: Path, run: Path, out: Path, *, step: int, what: str) -> None:
    """Replace the delivery with these weights and the run's logs.

    Parameters
    ----------
    weights : Path
    run : Path
        Folder of the run.
    out : Path
    step : int
        Of the weights.
    what : str
        Which weights they are: "average", "best".
    """
    out.mkdir(parents=True, exist_ok=True)
    content = weights.read_bytes()
    parts = []
    for number, start in enumerate(range(0, len(content), PART)):
        part = content[start : start + PART]
        name = f"weights-{step}-{what}.{number}"
        _replace(out / name, part)
        parts.append({"name": name, "sha256": hashlib.sha256(part).hexdigest()})
    for file in RUN_FILES:
        if (run / file).exists():
            shutil.copyfile(run / file, out / file)
    described = {
        "step": step,
        "what": what,
        "sha256": hashlib.sha256(content).hexdigest(),
        "parts": parts,
    }
    _replace(out / PARTS, json.dumps(described, indent=2).encode())
    # Last, so that one delivery is whole whenever this is cut.
    for old in out.glob("weights-*"):
        if old.name not in {part["name"] for part in parts}:
            old.unlink()


def put_together(folder: Path, run: Path) -> dict[str, Any]:
    """Make a run's folder of a delivery; its weights are ``best.safetensors``.

    Parameters
    ----------
    folder : Path
        What `deliver` wrote.
    run : Path
        Made if needed.

    Returns
    -------
    dict
        ``step`` and ``what`` of the weights.

    Raises
    ------
    TinySAMError
        If something is missing or damaged.
    """
    try:
        described: dict[str, Any] = json.loads((folder / PARTS).read_text("utf-8"))
        content = bytearray()
        for part in described["parts"]:
            piece = (folder / part["name"]).read_bytes()
            if hashlib.sha256(piece).hexdigest() != part["sha256"]:
                raise TinySAMError(f"{folder / part['name']} is damaged.")
            content += piece
    except (OSError, ValueError, KeyError) as error:
        what = f"{folder} holds no weights that came back"
        raise TinySAMError(sentence(error, what)) from error
    if hashlib.sha256(content).hexdigest() != described["sha256"]:
        raise TinySAMError(f"The parts of the weights in {folder} do not fit together.")
    run.mkdir(parents=True, exist_ok=True)
    _replace(run / "best.safetensors", bytes(content))
    for file in RUN_FILES:
        if (folder / file).exists():
            _replace(run / file, (folder / file).read_bytes())
    return described


def _replace(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)
