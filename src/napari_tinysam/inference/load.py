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
        "auto", "cpu", "cuda", "cuda:1", "mps".
    runtime : {"auto", "torch", "openvino"}
        What runs the network. "openvino" converts a model that it has never run before, which takes
        a minute or less; "auto" takes it, without importing torch, where there is no GPU and the
        model has been converted.
    precision : {"auto", "f32", "bf16", "int8"}
        Of OpenVINO: float32, or bfloat16 but for the decoder's attention, which "auto" takes where
        the CPU has instructions for it; or, for quantized models, 8-bit integers in image encoder
        and object head, which "auto" takes where they were faster at first use. PyTorch, where it
        is what "auto" comes to, encodes in bfloat16 on devices that have instructions for it; asked
        for by name, only with "bf16".
    threads : int
        Of the CPU, for OpenVINO; 0 for as many as it finds best.
    progress : callable, optional
        Called with the bytes downloaded so far and in total.
    convert : callable, optional
        Lets "auto" convert a model for OpenVINO where that is the fastest: half a minute, once,
        which some dozens of images or masks pay back. Called with a sentence before.

    Returns
    -------
    Predictor
        Ready to encode.

    Raises
    ------
    napari_tinysam.checkpoints.CheckpointError
        If the file cannot be had or is not a checkpoint this project reads.
    ValueError
        If the device or the runtime is not available, or there is no such precision, or not of this
        model.
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
    # Its parts import one another, which fails where two threads begin with different ones.
    import scipy.spatial  # noqa: F401

    # Now: imports of two threads at a time keep each other waiting. No daemon: Python must not end
    # in the middle of one.
    threading.Thread(target=_import_ahead).start()
    return Predictor(
        found.runtime, name=found.name, model_id=found.model_id, notes=found.notes
    )


def _import_ahead() -> None:
    """Import, while the first image is encoded, what comes next: a quarter of a second."""
    with contextlib.suppress(ImportError):  # said where it is needed
        # The function itself: the package alone imports nothing yet.
        from skimage.segmentation import watershed  # noqa: F401
