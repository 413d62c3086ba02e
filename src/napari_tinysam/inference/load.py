"""`load_model`: a checkpoint, the runtime that suits this computer, and a `Predictor` of both."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.inference.runtime.choice import open_runtime

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tinysam.inference.runtime.protocol import Precision, RuntimeName


def load_model(
    name_or_path: str | Path = "default",
    *,
    device: str = "auto",
    runtime: RuntimeName = "auto",
    precision: Precision = "auto",
    threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
    convert: Callable[[str], None] | None = None,
) -> Predictor:
    """Load a checkpoint.

    Parameters
    ----------
    name_or_path : str or Path
        A name of `napari_tinysam.checkpoints.REGISTRY` ("default" is bundled, others are downloaded
        once) or a checkpoint file.
    device : str
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    runtime : {"auto", "torch", "openvino"}
        What runs the network. "openvino" first converts a model that it has not run before, which
        takes a second for the bundled model and those adapted from it, up to a minute for others.
        "auto" takes OpenVINO, without importing torch, if there is no GPU and the model has been
        converted.
    precision : {"auto", "f32", "bf16", "int8"}
        With OpenVINO: float32; or bfloat16 except for the decoder's attention, which "auto" takes
        if the CPU has instructions for it; or, for quantized models, 8-bit integers in image
        encoder and object head, which "auto" takes if they were faster at first use. PyTorch
        encodes in bfloat16 with "bf16", and with "auto" if `runtime` is "auto" too and the device
        has instructions for it.
    threads : int
        Of the CPU, for OpenVINO; 0 lets it choose.
    progress : callable, optional
        Called with the bytes downloaded so far and in total.
    convert : callable, optional
        Allows "auto" to convert a model for OpenVINO where that is fastest: once, which pays off
        after some dozens of images or masks. Called with a sentence before.

    Returns
    -------
    Predictor
        Ready to encode.

    Raises
    ------
    napari_tinysam.checkpoints.CheckpointError
        If the file cannot be had or is not a checkpoint this project reads.
    ValueError
        If the device or the runtime is not available, or the model has no such precision.
    """
    found = open_runtime(
        name_or_path,
        device,
        runtime,
        progress,
        convert,
        precision=precision,
        threads=threads,
    )
    # Its modules import each other, which fails if two threads begin with different ones.
    import scipy.spatial  # noqa: F401

    # Not earlier: imports in two threads wait for each other. No daemon: Python must not end in the
    # middle of an import.
    threading.Thread(target=_import_ahead).start()
    return Predictor(
        found.runtime, name=found.name, model_id=found.model_id, notes=found.notes
    )


def _import_ahead() -> None:
    """Import what later steps need (a quarter of a second) while the image is encoded."""
    with contextlib.suppress(ImportError):  # reported where it is needed
        # The function: the package alone imports nothing yet.
        from skimage.segmentation import watershed  # noqa: F401
