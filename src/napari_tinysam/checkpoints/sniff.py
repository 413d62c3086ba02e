"""The kind of a file, from its first bytes and never from its name; and the notes in its header."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_tinysam.errors import CheckpointError, sentence

if TYPE_CHECKING:
    from pathlib import Path

#: The accepted files, for the end of error messages.
ACCEPTED = (
    "Accepted are .safetensors files and PyTorch weight files (.pth, .pt) of this plugin's own "
    "models, TinySAM, MobileSAM or SAM ViT-B/L/H"
)

#: The note that the model wants its prompts drawn (`SegmentAnything.dense_prompts`).
DENSE_PROMPTS = "dense_prompts"

#: The note that the weights are 8-bit integers, known before they are read.
EIGHT_BITS = "eight_bits"

# The format's own limit on the length of its header.
_SAFETENSORS_HEADER_LIMIT = 100_000_000


def kind_of(path: Path) -> str:
    """Return which kind of weight file it is, by its first bytes.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str
        "safetensors" or "zip". Whether it holds weights is not known yet.

    Raises
    ------
    CheckpointError
        If it is neither, does not exist or cannot be read.
    """
    if path.is_dir():
        raise refusal(path, "is a folder, not a file of weights")
    head = _head(path)
    kind = _kind_of_file(head)
    if kind is None:
        raise refusal(path, f"is {_name_unusable(head)}, not a file of weights")
    return kind


def read_notes(path: Path) -> dict[str, str]:
    """Read what a .safetensors file says about itself; empty for other files.

    Parameters
    ----------
    path : Path
        A file that `read_model` accepts.
    """
    notes = _safetensors_header(path).get("__metadata__")
    if not isinstance(notes, dict):
        return {}
    return {str(key): str(value) for key, value in notes.items()}


def holds_eight_bits(notes: Mapping[str, str]) -> bool:
    """Whether a file with such notes is of a quantized model."""
    return notes.get(EIGHT_BITS) == "true"


def is_half(path: Path) -> bool:
    """Whether a .safetensors file holds 16-bit weights.

    Parameters
    ----------
    path : Path
        A file that `read_model` accepts.
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


def describe(path: Path) -> str:
    """Say in a few words what a file is, by its first bytes."""
    head = _head(path)
    kind = _kind_of_file(head)
    return f"a {kind} file" if kind else _name_unusable(head)


def refusal(path: Path, reason: str) -> CheckpointError:
    """Return the error for a file that is not accepted: "NAME holds only text. Accepted are …"."""
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
    """Return "zip", "safetensors", or None for other files."""
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
