"""Which runtime a model gets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
    convert: Callable[[str], None] | None = None,
) -> Opened:
    """Load a model into the runtime that is asked for, or that suits this computer.

    Parameters
    ----------
    name_or_path, device, runtime, progress, convert
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
        return _converted(checkpoints.locate(name_or_path, progress=progress))
    on_cpu = device == "cpu" or (device == "auto" and not may_have_gpu())
    if runtime == "auto" and on_cpu and store.is_installed():
        located = checkpoints.locate(name_or_path, progress=progress)
        folder = store.folder_of(located.fingerprint)
        try:
            if store.is_whole(folder):
                return _opened(located)
            if convert is not None:
                convert("Preparing the model for this computer, once…")
                return _converted(located)
        except ValueError as error:
            if convert is not None:
                convert(f"{error} PyTorch runs it instead.")
            store.discard(folder)
        except (OSError, KeyError, RuntimeError):
            store.discard(folder)  # damaged; torch is slower and always there
    return _with_torch(name_or_path, device, progress)


def prepare_in_background(name_or_path: str | Path, model_id: str) -> bool:
    """Convert a model that torch runs on this CPU, in a process of its own, for the next time.

    Parameters
    ----------
    name_or_path : str or Path
        As for `napari_tinysam.load_model`.
    model_id : str
        Of the predictor that runs it now.

    Returns
    -------
    bool
        Whether such a process was started.
    """
    if not model_id.endswith("/cpu") or not store.is_installed():
        return False
    if store.is_whole(store.folder_of(model_id.removesuffix("/cpu"))):
        return False
    command = [sys.executable, "-m", "napari_tinysam.runtime.prepare"]
    quiet: dict[str, Any] = dict.fromkeys(
        ("stdin", "stdout", "stderr"), subprocess.DEVNULL
    )
    if sys.platform == "win32":
        quiet["creationflags"] = (
            subprocess.BELOW_NORMAL_PRIORITY_CLASS | subprocess.CREATE_NO_WINDOW
        )
    try:
        subprocess.Popen([*command, str(name_or_path)], **quiet)
    except OSError:
        return False
    return True


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


def _converted(located: checkpoints.LocatedCheckpoint) -> Opened:
    """Open a model with OpenVINO, after converting it if need be."""
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
