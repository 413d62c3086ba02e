"""Files of weights: what they are, what they hold, how they are written.

A file is recognised by its content, never by its name, and nothing in it is ever executed: pickled
objects other than plain tensors are refused.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from napari_tinysam.checkpoints.integers import (
    folded_value,
    is_folded,
    own_names,
    put_together,
    taken_apart,
)
from napari_tinysam.errors import CheckpointError, sentence

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from napari_tinysam.model import Architecture, SegmentAnything
    from napari_tinysam.model.integers import LayerQuantization

#: What error messages say is accepted.
ACCEPTED = (
    "Accepted are .safetensors files and PyTorch weight files (.pth, .pt) of this plugin's own "
    "models, TinySAM, MobileSAM or SAM ViT-B/L/H"
)

#: How names of files end that are still being written.
UNFINISHED = ".part"

# The object head, which the segmentation itself does not need.
_OBJECT_HEAD = "object_head."
_DETAILS = "object_head.details."

# Under which keys training scripts put the weights beside other things.
_WRAPPERS = ("model", "state_dict", "model_state", "model_state_dict", "weights")

# The note that says how the model wants its prompts (`SegmentAnything.dense_prompts`).
_DENSE_PROMPTS = "dense_prompts"

# The note that says, before the weights are read, that they are 8-bit integers.
_EIGHT_BITS = "eight_bits"

# Never used when segmenting, so files without them are whole enough: the ImageNet classifier that
# TinyViT files carry along, batches a BatchNorm has seen, and what draws SAM's single mask.
_UNUSED = re.compile(
    r"image_encoder\.(norm_head|head)\.|.*\.num_batches_tracked$"
    r"|mask_decoder\.output_hypernetworks_mlps\.0\."
)

# What version 0.5 did not have yet: without it nothing is added to masks.
_REFINER = "mask_decoder.refiner."

# Width of the position embedding tells the plain ViTs apart (segment-anything, `build_sam.py`).
_VIT_WIDTHS: dict[int, Architecture] = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}

# The tensors whose first dimension is the width of one stage of a TinyViT.
_TINY_VIT_STAGES = (
    "image_encoder.patch_embed.seq.2.c.weight",
    "image_encoder.layers.0.downsample.conv3.c.weight",
    "image_encoder.layers.1.downsample.conv3.c.weight",
    "image_encoder.layers.2.downsample.conv3.c.weight",
)

# The tensors whose second dimension is what an EfficientNet has at strides 2, 4, 8, 16 and 32.
_EFFICIENTNET_STAGES = (
    "image_encoder.pyramid.2.from_fine.weight",
    "image_encoder.pyramid.1.from_fine.weight",
    "image_encoder.pyramid.0.from_fine.weight",
    "image_encoder.from_16.weight",
    "image_encoder.from_32.weight",
)
_EFFICIENTNET = "image_encoder.efficientnet."

# Files larger than this are mapped instead of read: ViT-H would need 5 GB otherwise.
_MAP_ABOVE_BYTES = 1 << 28

# The format's own limit on the length of its header.
_SAFETENSORS_HEADER_LIMIT = 100_000_000


def read(path: Path) -> SegmentAnything:
    """Build the model that a file of weights holds.

    Parameters
    ----------
    path : Path
        A safetensors file, or a zip file of `torch.save`, with the official tensor names, of any
        float type and saved on any device. A wrapping such as ``{"model": …}``, a common prefix
        such as ``module.`` and an object head of another make than `ObjectHead` are taken off.

    Returns
    -------
    SegmentAnything
        On the CPU, float32, in eval mode; with its object head if the file holds one.

    Raises
    ------
    CheckpointError
        If it is anything else; the message says what it is and what is accepted.
    """
    from napari_tinysam.model import SegmentAnything, from_official

    weights, layers = _official_weights(_READERS[kind_of(path)](path), path)
    model = SegmentAnything.uninitialized(
        _architecture(weights, path),
        object_head=any(name.startswith(_OBJECT_HEAD) for name in weights),
        details=any(name.startswith(_DETAILS) for name in weights),
    )
    complete = _complete(weights, model, path, folded=bool(layers))
    model.load_state_dict(from_official(complete))  # copies, converting to float32
    _check_finite(model, path)
    model.dense_prompts = read_notes(path).get(_DENSE_PROMPTS) == "true"
    model.quantization = own_names(layers, weights) or None
    return model.eval()


def kind_of(path: Path) -> str:
    """Look at the first bytes of a file: which kind of file of weights it is.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str
        "safetensors" or "zip". Whether weights are in it is not known yet.

    Raises
    ------
    CheckpointError
        If it is no such file, is not there or cannot be read.
    """
    if path.is_dir():
        raise _refusal(path, "is a folder, not a file of weights")
    head = _head(path)
    kind = _kind_of_file(head)
    if kind is None:
        raise _refusal(path, f"is {_name_unusable(head)}, not a file of weights")
    return kind


def read_notes(path: Path) -> dict[str, str]:
    """Read what a .safetensors file says about itself; empty for other files.

    Parameters
    ----------
    path : Path
        A file that `read` accepts.
    """
    notes = _safetensors_header(path).get("__metadata__")
    if not isinstance(notes, dict):
        return {}
    return {str(key): str(value) for key, value in notes.items()}


def holds_eight_bits(notes: Mapping[str, str]) -> bool:
    """Whether a file with such notes is of a quantized model."""
    return notes.get(_EIGHT_BITS) == "true"


def is_half(path: Path) -> bool:
    """Whether a .safetensors file holds 16-bit weights.

    Parameters
    ----------
    path : Path
        A file that `read` accepts.
    """
    tensors = [t for t in _safetensors_header(path).values() if isinstance(t, dict)]
    return any(tensor.get("dtype") in ("F16", "BF16") for tensor in tensors)


def _safetensors_header(path: Path) -> dict[str, Any]:
    """Read the header; empty if the file has none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= _SAFETENSORS_HEADER_LIMIT:
                return {}
            header = json.loads(file.read(length))
    except (OSError, ValueError):
        return {}
    return header if isinstance(header, dict) else {}


def write(
    model: SegmentAnything,
    path: Path,
    metadata: Mapping[str, str] | None = None,
    *,
    half: bool = False,
) -> None:
    """Write a model under the official tensor names; see `save`.

    A quantized model keeps its 8 bits in a .safetensors file, and becomes floats in others.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from napari_tinysam.model import to_official

    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise CheckpointError(
            f"Weights are saved as .safetensors or .pth, not as {path.name!r}."
        )
    small = bool(model.quantization) and path.suffix == ".safetensors"
    dtype = torch.float16 if half or small else torch.float32
    weights = {
        name: _portable(tensor, dtype, name)
        for name, tensor in to_official(model.state_dict()).items()
    }
    if small:
        exact = to_official(model.state_dict())
        weights |= put_together(model)
        weights = {
            name: tensor
            for name, tensor in weights.items()
            if not _UNUSED.match(name)
            and not (name in exact and is_folded(name, exact))
        }
    try:
        with replacing(path) as temporary:
            if path.suffix == ".safetensors":
                mode = temporary.stat().st_mode
                notes = {key: str(value) for key, value in (metadata or {}).items()}
                for note, holds in (
                    (_DENSE_PROMPTS, model.dense_prompts),
                    (_EIGHT_BITS, small),
                ):
                    notes.pop(note, None)
                    if holds:
                        notes[note] = "true"
                save_file(weights, str(temporary), {"format": "pt", **notes})
                temporary.chmod(mode)  # safetensors lets only the owner read its files
            else:
                torch.save(weights, temporary)
    except (OSError, RuntimeError, SafetensorError) as error:
        what = f"The model cannot be saved as {path}"
        raise CheckpointError(sentence(error, what)) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path` that takes its place if nothing is raised."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def describe(path: Path) -> str:
    """Say in a few words what a file is, by its first bytes."""
    head = _head(path)
    kind = _kind_of_file(head)
    return f"a {kind} file" if kind else _name_unusable(head)


def _portable(tensor: Tensor, dtype: Any, name: str) -> Tensor:
    """On the CPU, contiguous, floats as `dtype`."""
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.to(dtype)
        if not _is_finite(tensor):
            raise CheckpointError(
                f"The model is not saved: {name} holds values that are not numbers or too large "
                "for this precision."
            )
    return tensor.contiguous()


def _refusal(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path.name} {reason}. {ACCEPTED}.")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no file {path}.") from error
    except OSError as error:
        raise CheckpointError(sentence(error, f"{path} cannot be read")) from error


def _kind_of_file(head: bytes) -> str | None:
    """Return a key of `_READERS`, or None for a file that none of them reads."""
    if head[:4] == b"PK\x03\x04":
        return "zip"
    header = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and header <= _SAFETENSORS_HEADER_LIMIT:
        return "safetensors"
    return None


def _name_unusable(head: bytes) -> str:
    if not head:
        return "an empty file"
    if head[:1] == b"\x80" or head[257:262] == b"ustar":
        return "a bare Python pickle (or a PyTorch file older than version 1.6)"
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        return "a web page, perhaps of a download that failed"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer without the file that it points to"
    if not head.translate(None, bytes(range(32, 127)) + b"\t\r\n"):
        return "a text file"
    return "a file of an unknown kind"


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _refusal(
            path, f"is a safetensors file, but damaged or incomplete ({error})"
        ) from error


def _read_zip(path: Path) -> object:
    """Read a zip file of `torch.save` without unpickling anything but tensors."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _refusal(
            path, "is a PyTorch or zip file, but damaged or incomplete"
        ) from error
    names = [entry.filename.rpartition("/")[2] for entry in entries]
    if "constants.pkl" in names:
        raise _refusal(path, "is a TorchScript program, not plain weights")
    if "data.pkl" not in names:
        raise _refusal(path, "is a zip file without weights")
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
        raise _refusal(
            path, f"holds {_name_pickled(error)}, not only weights"
        ) from error
    except Exception as error:  # a damaged pickle raises whatever it ran into
        raise _refusal(path, "is a PyTorch file, but damaged or incomplete") from error
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


def _official_weights(
    content: object, path: Path
) -> tuple[dict[str, Tensor], dict[str, LayerQuantization]]:
    """Take off wrappers, prefix, 8 bits and heads of other makes: official names → tensors."""
    import torch

    from napari_tinysam.model import from_official, to_official

    state_dict = _unwrapped(content)
    prefixes = {
        name.partition("image_encoder.")[0] for name in _encoder_names(state_dict)
    }
    if not prefixes:
        shown = ", ".join(map(str, list(state_dict)[:3])) or "nothing"
        raise _refusal(path, f"holds no Segment Anything model, but {shown}")
    if len(prefixes) > 1:
        shown = ", ".join(repr(prefix) for prefix in sorted(prefixes))
        raise _refusal(path, f"holds more than one model (prefixes {shown})")
    prefix = prefixes.pop()
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in state_dict.items()
        if isinstance(name, str) and isinstance(tensor, torch.Tensor)
    }
    try:
        weights, layers = taken_apart(weights)
    except ValueError as error:
        raise _refusal(path, f"is a damaged 8-bit model: {error}") from error
    # There and back leaves out the buffers that follow from the architecture.
    weights = to_official(from_official(weights))
    head = {n: t for n, t in weights.items() if n.startswith(_OBJECT_HEAD)}
    if head and not _is_object_head(
        head, _architecture(weights, path), folded=bool(layers)
    ):
        weights = {n: t for n, t in weights.items() if n not in head}
    return weights, layers


def _is_object_head(
    head: Mapping[str, Tensor], architecture: Architecture, *, folded: bool
) -> bool:
    """Whether these are an object head that fits the encoder, by names, shapes and kinds."""
    import torch

    from napari_tinysam.model import (
        DETAIL_CHANNELS,
        EFFICIENTNET_CONFIGS,
        TINY_VIT_CONFIGS,
        DetailedObjectHead,
        FineObjectHead,
        ObjectHead,
    )

    module: ObjectHead | FineObjectHead
    config = TINY_VIT_CONFIGS.get(architecture)
    with torch.device("meta"):
        if architecture in EFFICIENTNET_CONFIGS:
            module = FineObjectHead(DETAIL_CHANNELS[-1])
        elif config is not None and any(name.startswith(_DETAILS) for name in head):
            module = DetailedObjectHead(config.detail_channels)
        else:
            module = ObjectHead()
        wanted = module.state_dict(prefix=_OBJECT_HEAD)
    needed = {name for name in wanted if not _UNUSED.match(name)}
    if folded:
        needed = {n for n in needed if folded_value(n, wanted) is None}
    return needed <= head.keys() <= wanted.keys() and all(
        head[name].shape == tensor.shape
        and (_UNUSED.match(name) or _kind(head[name]) == "float")
        for name, tensor in wanted.items()
        if name in head
    )


def _unwrapped(content: object) -> Mapping[Any, Any]:
    """Return the first mapping that holds an image encoder, or the content itself."""
    inner = content
    for _ in range(3):
        if not isinstance(inner, Mapping):
            break
        if _encoder_names(inner):
            return inner
        inner = next((inner[key] for key in _WRAPPERS if key in inner), None)
    return (
        content if isinstance(content, Mapping) else {type(content).__name__: content}
    )


def _encoder_names(state_dict: Mapping[Any, Any]) -> list[str]:
    return [
        name
        for name in state_dict
        if isinstance(name, str) and re.search(r"(^|\.)image_encoder\.", name)
    ]


def _architecture(weights: Mapping[str, Tensor], path: Path) -> Architecture:
    from napari_tinysam.model import is_tiny_vit

    if is_tiny_vit(weights):
        return _tiny_vit_architecture(weights)
    if any(name.startswith(_EFFICIENTNET) for name in weights):
        return _efficientnet_architecture(weights)
    positions = weights.get("image_encoder.pos_embed")
    width = positions.shape[-1] if positions is not None and positions.ndim else 0
    if width not in _VIT_WIDTHS:
        raise _refusal(path, "holds an image encoder that is not known here")
    return _VIT_WIDTHS[width]


def _tiny_vit_architecture(weights: Mapping[str, Tensor]) -> Architecture:
    """Return the size of TinyViT that most of the stages' widths speak for.

    Of a file that is none of them, `_complete` says what does not fit.
    """
    from napari_tinysam.model import TINY_VIT_CONFIGS

    def agreements(name: str) -> int:
        widths = TINY_VIT_CONFIGS[name].embed_dims
        return sum(
            stage in weights and weights[stage].shape[:1] == (width,)
            for stage, width in zip(_TINY_VIT_STAGES, widths, strict=True)
        )

    return cast("Architecture", max(TINY_VIT_CONFIGS, key=agreements))


def _efficientnet_architecture(weights: Mapping[str, Tensor]) -> Architecture:
    """Do the same for an EfficientNet, by what its pyramid reads."""
    from napari_tinysam.model import EFFICIENTNET_CONFIGS

    def agreements(name: str) -> int:
        widths = EFFICIENTNET_CONFIGS[name].widths
        return sum(
            stage in weights and weights[stage].shape[1:2] == (width,)
            for stage, width in zip(_EFFICIENTNET_STAGES, widths, strict=True)
        )

    return cast("Architecture", max(EFFICIENTNET_CONFIGS, key=agreements))


def _complete(
    weights: Mapping[str, Tensor],
    model: SegmentAnything,
    path: Path,
    *,
    folded: bool,
) -> dict[str, Tensor]:
    """Compare names, shapes and kinds; fill in what is never used, or known of folded norms.

    Raises
    ------
    CheckpointError
        If a tensor is missing, unknown, of another shape or of another kind of number.
    """
    from napari_tinysam.model import to_official

    wanted = to_official(model.state_dict())
    known = {n: folded_value(n, wanted) for n in wanted} if folded else {}
    filled = {
        n: known.get(n) or 0.0
        for n in wanted
        if _UNUSED.match(n) or known.get(n) is not None
    }
    if not any(n.startswith(_REFINER) for n in weights):
        filled |= {n: 0.0 for n in wanted if n.startswith(_REFINER)}
    missing = [n for n in wanted if n not in weights and n not in filled]
    unknown = [n for n in weights if n not in wanted]
    unfit = [
        f"{n}: {tuple(weights[n].shape)} {_kind(weights[n])} instead of "
        f"{tuple(wanted[n].shape)} {_kind(wanted[n])}"
        for n in weights
        if n in wanted
        and (weights[n].shape, _kind(weights[n])) != (wanted[n].shape, _kind(wanted[n]))
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
        raise _refusal(
            path,
            f"is not a whole {model.architecture} model; tensors " + "; ".join(faults),
        )
    return {
        n: weights[n] if n in weights else wanted[n].fill_(filled[n]) for n in wanted
    }


def _kind(tensor: Tensor) -> str:
    import torch

    if tensor.is_meta or tensor.layout is not torch.strided:
        return "without values or sparse"
    return "float" if tensor.is_floating_point() else str(tensor.dtype)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _check_finite(model: SegmentAnything, path: Path) -> None:
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not _is_finite(tensor):
            raise _refusal(path, f"holds values that are not numbers (in {name})")


def _is_finite(tensor: Tensor) -> bool:
    # Both ends are NaN if any value is. One pass, where isfinite() takes several.
    lowest, highest = tensor.aminmax()
    return bool(lowest.isfinite() and highest.isfinite())
