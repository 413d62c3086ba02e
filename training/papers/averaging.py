"""Average the weights of a model before and after further training.

Run as ``python -m papers.averaging START TRAINED -o OUT.safetensors``. Further training gains
something and forgets something; a model in between is often better than both, at no cost (Wortsman
et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from papers.shared import refusals


def average(start: str, trained: str, path: Path, share: float = 0.5) -> None:
    """Write the mean of two models' weights, with the notes of the second.

    Parameters
    ----------
    start, trained : str
        Names of the registry or checkpoint files, of the same architecture.
    path : Path
        A .safetensors file.
    share : float
        0–1, the part of `trained` in it.

    Raises
    ------
    DataError
        If the architectures differ, or the share is not from 0 to 1.
    CheckpointError
        If they cannot be read or written.
    """
    if not 0 <= share <= 1:
        raise DataError(f"The share must be between 0 and 1, not {share}.")
    first, second = checkpoints.load(start), checkpoints.load(trained)
    own, other = first.model.state_dict(), second.model.state_dict()
    shapes = [{k: v.shape for k, v in state.items()} for state in (own, other)]
    if shapes[0] != shapes[1]:
        raise DataError(
            f"{start} and {trained} are not of the same architecture: they have no average."
        )
    second.model.load_state_dict(
        {
            name: own[name].lerp(value, share) if value.is_floating_point() else value
            for name, value in other.items()
        }
    )
    notes = {key: value for key, value in second.notes.items() if key != "format"}
    checkpoints.save(second.model, path, notes)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("start")
    parser.add_argument("trained")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.5, help="of TRAINED")
    arguments = parser.parse_args()
    with refusals():
        average(arguments.start, arguments.trained, arguments.output, arguments.share)


if __name__ == "__main__":
    main()
