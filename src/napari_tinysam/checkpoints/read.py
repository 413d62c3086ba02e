"""Files of weights to models.

Nothing in a file is ever executed: pickled objects other than plain tensors are refused.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from napari_tinysam.checkpoints.identify import (
    DETAILS,
    OBJECT_HEAD,
    UNUSED,
    architecture_of,
    kind_of_number,
    mlp_dim_of,
    official_weights,
)
from napari_tinysam.checkpoints.integers import folded_value, own_names
from napari_tinysam.checkpoints.sniff import (
    DENSE_PROMPTS,
    kind_of,
    read_notes,
    refusal,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from napari_tinysam.model import SegmentAnything

# Older files have no refiner. With weights of 0 it adds nothing to masks.
_REFINER = "mask_decoder.refiner."

# Files larger than this are mapped instead of read: ViT-H would need 5 GB otherwise.
_MAP_ABOVE_BYTES = 1 << 28


def read_model(path: Path) -> SegmentAnything:
    """Build the model in a weight file.

    Parameters
    ----------
    path : Path
        A safetensors file, or a zip file of `torch.save`, with the official tensor names, of any
        float type and saved on any device. Wrappers such as ``{"model": …}``, a common prefix such
        as ``module.`` and object heads of other projects are removed.

    Returns
    -------
    SegmentAnything
        On the CPU, float32, in eval mode; with its object head if the file holds one.

    Raises
    ------
    CheckpointError
        If it is anything else; the message names what the file is and what is accepted.
    """
    from napari_tinysam.model import SegmentAnything, from_official

    weights, layers = official_weights(_READERS[kind_of(path)](path), path)
    architecture = architecture_of(weights, path)
    model = SegmentAnything.uninitialized(
        architecture,
        object_head=any(name.startswith(OBJECT_HEAD) for name in weights),
        details=any(name.startswith(DETAILS) for name in weights),
        mlp_dim=mlp_dim_of(weights, architecture),
    )
    complete = _complete(weights, model, path, folded=bool(layers))
    model.load_state_dict(from_official(complete))  # copies, converting to float32
    _check_finite(model, path)
    model.dense_prompts = read_notes(path).get(DENSE_PROMPTS) == "true"
    model.quantization = own_names(layers, weights) or None
    return model.eval()


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise refusal(
            path, f"is a safetensors file, but damaged or incomplete ({error})"
        ) from error


def _read_zip(path: Path) -> object:
    """Read a zip file of `torch.save` without unpickling anything but tensors."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise refusal(
            path, "is a PyTorch or zip file, but damaged or incomplete"
        ) from error
    names = [entry.filename.rpartition("/")[2] for entry in entries]
    if "constants.pkl" in names:
        raise refusal(path, "is a TorchScript program, not plain weights")
    if "data.pkl" not in names:
        raise refusal(path, "is a zip file without weights")
    # torch asks the suffix too when it is given a path, which mapping needs.
    mappable = path.suffix != ".safetensors" and all(
        entry.compress_type == zipfile.ZIP_STORED for entry in entries
    )
    try:
        content: object
        if mappable and path.stat().st_size > _MAP_ABOVE_BYTES:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        else:
            with path.open("rb") as file:
                content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise refusal(
            path, f"holds {_name_pickled(error)}, not only weights"
        ) from error
    except Exception as error:  # a damaged pickle raises whatever it ran into
        raise refusal(path, "is a PyTorch file, but damaged or incomplete") from error
    return content


def _name_pickled(error: pickle.UnpicklingError) -> str:
    """Say what torch refused to unpickle."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    kind = f" ({found[1]})" if found else ""
    return f"pickled Python objects{kind}, which could run any program when opened"


_READERS: dict[str, Callable[[Path], object]] = {
    "safetensors": _read_safetensors,
    "zip": _read_zip,
}


def _complete(
    weights: Mapping[str, Tensor],
    model: SegmentAnything,
    path: Path,
    *,
    folded: bool,
) -> dict[str, Tensor]:
    """Check names, shapes and types; fill in tensors that are unused or known (folded norms).

    Raises
    ------
    CheckpointError
        If a tensor is missing, unknown, or has another shape or type.
    """
    from napari_tinysam.model import to_official

    wanted = to_official(model.state_dict())
    known = {n: folded_value(n, wanted) for n in wanted} if folded else {}
    filled = {
        n: known.get(n) or 0.0
        for n in wanted
        if UNUSED.match(n) or known.get(n) is not None
    }
    if not any(n.startswith(_REFINER) for n in weights):
        filled |= {n: 0.0 for n in wanted if n.startswith(_REFINER)}
    missing = [n for n in wanted if n not in weights and n not in filled]
    unknown = [n for n in weights if n not in wanted]
    unfit = [
        f"{n}: {tuple(weights[n].shape)} {kind_of_number(weights[n])} instead of "
        f"{tuple(wanted[n].shape)} {kind_of_number(wanted[n])}"
        for n in weights
        if n in wanted
        and (weights[n].shape, kind_of_number(weights[n]))
        != (wanted[n].shape, kind_of_number(wanted[n]))
    ]
    faults = [
        f"{what} {len(names)} ({_few(names)})"
        for what, names in (
            ("missing", missing),
            ("unknown", unknown),
            ("not fitting", unfit),
        )
        if names
    ]
    if faults:
        raise refusal(
            path,
            f"is not a whole {model.architecture} model; tensors " + "; ".join(faults),
        )
    return {
        n: weights[n] if n in weights else wanted[n].fill_(filled[n]) for n in wanted
    }


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _check_finite(model: SegmentAnything, path: Path) -> None:
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not is_finite(tensor):
            raise refusal(path, f"holds values that are not numbers (in {name})")


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite."""
    # Both ends are NaN if any value is. One pass, where isfinite() takes several.
    lowest, highest = tensor.aminmax()
    return bool(lowest.isfinite() and highest.isfinite())
