"""Convert a model for OpenVINO: ``python -m napari_tinysam.inference.runtime.prepare MODEL``.

The plugin starts this beside itself the first time that a model is used on a CPU; torch serves
meanwhile, and the next start finds the graphs.
"""

from __future__ import annotations

import contextlib
import os
import sys

from napari_tinysam import checkpoints
from napari_tinysam.errors import sentence
from napari_tinysam.inference.runtime.choice import prepare
from napari_tinysam.inference.runtime.openvino import store


def main() -> None:
    """Command line; one argument, a model as `napari_tinysam.load_model` takes it."""
    if len(sys.argv) != 2:
        sys.exit("One argument is needed: the name of a model, or a checkpoint file.")
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(10)  # somebody is working
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        located = checkpoints.locate(sys.argv[1])
    except checkpoints.CheckpointError as error:
        sys.exit(f"Error: {error}")
    try:
        folder = prepare(located)
    except Exception as error:  # noqa: BLE001 - it would be tried at every start
        store.note_failure(located.fingerprint, sentence(error))
        sys.exit(f"Error: {sentence(error)}")
    sys.stdout.write(f"{folder}\n")


if __name__ == "__main__":
    main()
