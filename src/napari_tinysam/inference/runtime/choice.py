"""Choose and open the runtime of a model; convert models for OpenVINO."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam import checkpoints
from napari_tinysam.errors import CheckpointError, ConversionError, sentence
from napari_tinysam.inference.runtime.hardware import cpu_name, may_have_gpu
from napari_tinysam.inference.runtime.openvino import store
from napari_tinysam.inference.runtime.protocol import PRECISIONS

if TYPE_CHECKING:
    from napari_tinysam.inference.runtime.openvino.runtime import OpenVinoRuntime
    from napari_tinysam.inference.runtime.protocol import (
        Precision,
        Runtime,
        RuntimeName,
    )

Progress = Callable[[int, int], None]

#: In bytes. The largest TinyViT (21 million weights) has 100 million, SAM's ViT-B 375 million.
_LARGEST_CONVERTIBLE = 200_000_000

#: Images that integers and floats are timed with.
_TURNS = 5


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
        Notes from the checkpoint file.
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
    *,
    precision: Precision = "auto",
    threads: int = 0,
) -> Opened:
    """Load a model into the requested runtime, or the one that suits this computer.

    Parameters
    ----------
    name_or_path, device, runtime, progress, convert, precision, threads
        As for `napari_tinysam.load_model`.

    Raises
    ------
    napari_tinysam.errors.CheckpointError
        If the file cannot be had or is not a checkpoint.
    ValueError
        If the device or the runtime is not available, or there is no such precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f'Unknown precision {precision!r}; use "auto", "f32", "bf16" or "int8".'
        )
    if runtime not in ("auto", "torch", "openvino"):
        raise ValueError(
            f'Unknown runtime {runtime!r}; use "auto", "torch" or "openvino".'
        )
    if runtime == "openvino" and device not in ("auto", "cpu"):
        raise ValueError(f"OpenVINO runs on the CPU here, not on {device!r}.")
    if runtime == "openvino":
        located = checkpoints.locate(name_or_path, progress=progress)
        return _converted(located, precision, threads)
    if runtime == "torch":  # the reference: exact, unless something else is asked for
        exact: Precision = "bf16" if precision == "bf16" else "f32"
        return _with_torch(name_or_path, device, progress, exact, fast=False)
    if not store.is_installed() or not _runs_on_cpu(device):
        return _with_torch(name_or_path, device, progress, precision)
    located = checkpoints.locate(name_or_path, progress=progress)
    integers = _with_integers(located, precision)
    if integers is not None and store.is_whole(
        folder := store.folder_of(located.fingerprint, integers=integers)
    ):
        try:
            return _opened(
                located, _read(folder, precision, threads, integers=integers)
            )
        except Exception:  # noqa: BLE001 - damaged, in whichever way: torch is always there
            store.discard(folder)
    elif integers is False and store.has_template(located.path):
        with contextlib.suppress(ValueError):  # torch is always there
            return _converted(located, precision, threads)
    elif convert is not None and _is_convertible(located.path):
        convert("Preparing the model for this computer, once…")
        try:
            return _converted(located, precision, threads)
        except ValueError as error:
            convert(f"{error} PyTorch runs it instead.")
    return _with_torch(located, device, progress, precision)


def needs_preparing(
    name_or_path: str | Path, device: str = "auto", precision: Precision = "auto"
) -> bool:
    """Whether a model is not converted yet, nor in a moment, so that torch runs it on this CPU.

    Parameters
    ----------
    name_or_path, device, precision
        As for `napari_tinysam.load_model`. Nothing is downloaded.
    """
    if not store.is_installed():
        return False
    try:
        if name_or_path in checkpoints.REGISTRY and not (
            checkpoints.is_available_offline(str(name_or_path))
        ):
            return False
        if not _is_convertible(checkpoints.path_of(name_or_path)):
            return False
        if not _runs_on_cpu(device):
            return False
        located = checkpoints.locate(name_or_path)
        integers = _with_integers(located, precision)
    except (CheckpointError, OSError, ValueError):
        return False  # loading reports the error
    if store.failed_lately(located.fingerprint):
        return False
    if integers is None:
        return True
    folder = store.folder_of(located.fingerprint, integers=integers)
    return not store.is_whole(folder) and (
        integers or not store.has_template(located.path)
    )


def prepare_in_background(
    name_or_path: str | Path,
    model_id: str,
    on_end: Callable[[], None] | None = None,
) -> bool:
    """Convert a model that torch runs on this CPU, in another process, for the next start.

    Parameters
    ----------
    name_or_path : str or Path
        As for `napari_tinysam.load_model`.
    model_id : str
        Of the predictor that runs it now.
    on_end : callable, optional
        Called in another thread when the process has ended, successfully or not.

    Returns
    -------
    bool
        Whether such a process was started.
    """
    if not model_id.endswith("/cpu") or not store.is_installed():
        return False
    if is_prepared(model_id) or store.failed_lately(model_id.partition("/")[0]):
        return False
    try:
        if not _is_convertible(checkpoints.path_of(name_or_path)):
            return False
    except (CheckpointError, OSError):  # removed since it was loaded
        return False
    command = [sys.executable, "-m", "napari_tinysam", "prepare", "--"]
    quiet: dict[str, Any] = dict.fromkeys(
        ("stdin", "stdout", "stderr"), subprocess.DEVNULL
    )
    if sys.platform == "win32":
        quiet["creationflags"] = (
            subprocess.BELOW_NORMAL_PRIORITY_CLASS | subprocess.CREATE_NO_WINDOW
        )
    try:
        process = subprocess.Popen([*command, str(name_or_path)], **quiet)
    except OSError:
        return False
    if on_end is not None:
        # A daemon: the process continues when this one ends.
        threading.Thread(target=_await, args=(process, on_end), daemon=True).start()
    return True


def _await(process: subprocess.Popen[Any], on_end: Callable[[], None]) -> None:
    process.wait()
    on_end()


def is_prepared(model_id: str) -> bool:
    """Whether a model that torch runs on this CPU was converted since it was loaded.

    Parameters
    ----------
    model_id : str
        Of the predictor that runs it now.
    """
    if not model_id.endswith("/cpu") or not store.is_installed():
        return False
    fingerprint = model_id.partition("/")[0]
    integers = bool(store.noted_choice(fingerprint, cpu_name()))
    return store.is_whole(store.folder_of(fingerprint, integers=integers))


def prepare(located: checkpoints.LocatedCheckpoint) -> Path:
    """Convert a model for this CPU, and open it once, so that OpenVINO compiles it.

    For a quantized model both integers and floats are tried, and the slower one is removed.

    Parameters
    ----------
    located : LocatedCheckpoint

    Returns
    -------
    Path
        Folder of its graphs.

    Raises
    ------
    napari_tinysam.errors.ConversionError
        If it cannot be converted.
    """
    loaded: list[Any] = []

    def model() -> Any:
        loaded[:] = loaded or [checkpoints.load(located).model]
        return loaded[0]

    integers = _with_integers(located, "auto")
    if integers is None:
        folders = [
            store.ensure(located.fingerprint, model, integers=kind)
            for kind in (False, True)
        ]
        loaded.clear()
        integers = _faster(*folders)
        store.note_choice(located.fingerprint, cpu_name(), integers=integers)
        store.discard(folders[not integers])
        return folders[integers]
    # OpenVINO keeps what it compiles beside the graphs.
    _made(located, "auto", 0, integers=integers)
    return store.folder_of(located.fingerprint, integers=integers)


def _with_integers(
    located: checkpoints.LocatedCheckpoint, precision: Precision
) -> bool | None:
    """Whether to compute a model with integers; None if that must be measured.

    Raises
    ------
    ValueError
        If integers are requested and the model is not quantized.
    """
    if not located.quantized:
        if precision == "int8":
            raise ValueError(
                f"The model {located.name} is not quantized, so there is no int8; "
                "'napari-tinysam quantize' makes such a model."
            )
        return False
    if precision != "auto":
        return precision == "int8"
    return store.noted_choice(located.fingerprint, cpu_name())


def _faster(floats: Path, integers: Path) -> bool:
    """Whether the encoder is faster with integers, by the shortest of several times."""
    from napari_tinysam.inference.runtime.openvino.runtime import OpenVinoRuntime

    runtimes = [
        OpenVinoRuntime(folder, precision="auto") for folder in (floats, integers)
    ]
    side = runtimes[0].image_size
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    taken: list[list[float]] = [[], []]
    for _ in range(_TURNS):
        for runtime, times in zip(runtimes, taken, strict=True):
            begun = time.perf_counter()
            runtime.encode(image)
            times.append(time.perf_counter() - begun)
    return min(taken[1]) < min(taken[0])


def _runs_on_cpu(device: str) -> bool:
    """Whether torch would run on the CPU; torch is only imported if there may be a GPU."""
    if device == "auto" and may_have_gpu():
        from napari_tinysam.inference.runtime.torch_runtime import choose_device

        # A driver is not enough: torch may be built without CUDA, or be too new for it.
        return choose_device("auto").type == "cpu"
    return device in ("auto", "cpu")


def _is_convertible(path: Path) -> bool:
    """Whether a file may be convertible, by its size: torch runs plain ViTs."""
    return path.stat().st_size < _LARGEST_CONVERTIBLE


def _with_torch(
    source: str | Path | checkpoints.LocatedCheckpoint,
    device: str,
    progress: Progress | None,
    precision: Precision,
    *,
    fast: bool = True,
) -> Opened:
    from napari_tinysam.inference.runtime.torch_runtime import (
        TorchRuntime,
        choose_device,
        computes_bfloat16,
    )

    chosen = choose_device(device)
    loaded = checkpoints.load(source, progress=progress)
    # Only OpenVINO computes with integers; torch uses the floats of such a model.
    short = precision == "bf16" or (precision != "f32" and computes_bfloat16(chosen))
    kind = f"bf16/{chosen.type}" if short else chosen.type
    return Opened(
        TorchRuntime(loaded.model, chosen, fast=fast, bfloat16=short),
        loaded.name,
        # Embeddings of another precision are not quite the same.
        f"{loaded.fingerprint}/{kind}",
        loaded.notes,
    )


def _converted(
    located: checkpoints.LocatedCheckpoint, precision: Precision, threads: int
) -> Opened:
    """Open a model with OpenVINO; convert it if necessary."""
    try:
        integers = _with_integers(located, precision)
        if integers is None:
            prepare(located)
            integers = bool(_with_integers(located, precision))
        runtime = _made(located, precision, threads, integers=integers)
    except ConversionError as error:
        raise ValueError(str(error)) from error
    return _opened(located, runtime)


def _made(
    located: checkpoints.LocatedCheckpoint,
    precision: Precision,
    threads: int,
    *,
    integers: bool,
) -> OpenVinoRuntime:
    """Convert a model if necessary, and open its graphs; a second time if they do not load."""
    for attempt in range(2):
        folder = store.ensure(
            located.fingerprint,
            lambda: checkpoints.load(located).model,
            integers=integers,
            # Graphs of a template are of the OpenVINO that made it.
            weights=None if attempt else located.path,
        )
        try:
            return _read(folder, precision, threads, integers=integers)
        except Exception as error:  # OpenVINO raises whatever it ran into
            store.discard(folder)  # damaged, although all sizes are right
            if attempt:
                what = "The converted model does not load"
                raise ConversionError(sentence(error, what)) from error
    raise AssertionError


def _read(
    folder: Path, precision: Precision, threads: int, *, integers: bool
) -> OpenVinoRuntime:
    from napari_tinysam.inference.runtime.openvino.runtime import OpenVinoRuntime

    beside: Precision = "auto" if integers else precision
    runtime = OpenVinoRuntime(folder, precision=beside, threads=threads)
    store.note_use(folder)
    return runtime


def _opened(located: checkpoints.LocatedCheckpoint, runtime: OpenVinoRuntime) -> Opened:
    # Embeddings of another precision are not quite the same.
    model_id = f"{located.fingerprint}/openvino-{runtime.precision}"
    return Opened(runtime, located.name, model_id, located.notes)
