"""Which runtime a model gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_tinysam import checkpoints
from napari_tinysam.runtime import openvino_store as store
from napari_tinysam.runtime.hardware import may_have_gpu

if TYPE_CHECKING:
    from napari_tinysam.runtime import Runtime

RuntimeName = Literal["auto", "torch", "openvino"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Opened:
    """A model that is ready to run.

    Attributes
    ----------
    runtime : Runtime
    name : str
        Of the registry, or of the file.
    model_id : str
        Identifies weights and runtime.
    notes : mapping of str to str
        What the checkpoint says about itself.
    """

    runtime: Runtime
    name: str
    model_id: str
    notes: Mapping[str, str]


def open_runtime(
    name_or_path: str | Path,
    device: str = "auto",
    runtime: RuntimeName = "auto",
    progress: Progress | None = None,
) -> Opened:
    """Load a model into the runtime that is asked for, or that suits this computer.

    Parameters
    ----------
    name_or_path, device, runtime, progress
        As for `napari_tinysam.load_model`.

    Raises
    ------
    napari_tinysam.checkpoints.CheckpointError
        If the file cannot be had or is not a checkpoint.
    ValueError
        If the device or the runtime is not available.
    """
    if runtime not in ("auto", "torch", "openvino"):
        raise ValueError(
            f'Unknown runtime {runtime!r}; use "auto", "torch" or "openvino".'
        )
    if runtime == "openvino" and device not in ("auto", "cpu"):
        raise ValueError(f"OpenVINO runs on the CPU here, not on {device!r}.")
    if runtime == "openvino":
        return _converted(name_or_path, progress)
    on_cpu = device == "cpu" or (device == "auto" and not may_have_gpu())
    if runtime == "auto" and on_cpu and store.is_installed():
        located = checkpoints.locate(name_or_path, progress=progress)
        if store.is_whole(store.folder_of(located.fingerprint)):
            try:
                return _opened(located)
            except (OSError, ValueError, KeyError, RuntimeError):
                store.discard(store.folder_of(located.fingerprint))
    return _with_torch(name_or_path, device, progress)


def _with_torch(
    name_or_path: str | Path, device: str, progress: Progress | None
) -> Opened:
    from napari_tinysam.runtime.torch_runtime import TorchRuntime, choose_device

    chosen = choose_device(device)
    loaded = checkpoints.load(name_or_path, progress=progress)
    return Opened(
        TorchRuntime(loaded.model, chosen),
        loaded.name,
        f"{loaded.fingerprint}/{chosen.type}",
        loaded.notes,
    )


def _converted(name_or_path: str | Path, progress: Progress | None) -> Opened:
    """Open a model with OpenVINO, after converting it if need be."""
    located = checkpoints.locate(name_or_path, progress=progress)
    try:
        for attempt in range(2):
            folder = store.ensure(
                located.fingerprint, lambda: checkpoints.load(located.path).model
            )
            try:
                return _opened(located)
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                store.discard(folder)  # damaged, with sizes as they should be
                if attempt:
                    raise store.ConversionError(
                        f"The converted model does not load: {error}"
                    ) from error
    except store.ConversionError as error:
        raise ValueError(str(error)) from error
    raise AssertionError


def _opened(located: checkpoints.LocatedCheckpoint) -> Opened:
    from napari_tinysam.runtime.openvino_runtime import OpenVinoRuntime

    runtime = OpenVinoRuntime(store.folder_of(located.fingerprint))
    return Opened(
        runtime, located.name, f"{located.fingerprint}/openvino", located.notes
    )
