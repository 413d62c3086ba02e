"""Models to files of weights, which appear under their name only when they are whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tinysam.checkpoints.identify import UNUSED
from napari_tinysam.checkpoints.integers import is_folded, put_together
from napari_tinysam.checkpoints.read import is_finite
from napari_tinysam.checkpoints.sniff import DENSE_PROMPTS, EIGHT_BITS
from napari_tinysam.errors import CheckpointError, sentence
from napari_tinysam.files.atomic import unfinished

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tinysam.model import SegmentAnything


def save(
    model: SegmentAnything,
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    *,
    half: bool = False,
) -> None:
    """Save a model so that official code can read it: flat, with the official tensor names.

    A quantized model keeps its 8 bits in a .safetensors file, and becomes floats in others.

    Parameters
    ----------
    model : SegmentAnything
        On any device, in any precision.
    path : str or Path
        Ending in .safetensors, .pth or .pt. An existing file is replaced when the new one is
        complete.
    metadata : mapping of str to str, optional
        Notes for the header of a .safetensors file; .pth files have none.
    half : bool
        Save in 16 instead of 32 bits.

    Raises
    ------
    CheckpointError
        If the file cannot be written, or weights are not finite.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from napari_tinysam.model import to_official

    path = Path(path).expanduser()
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
            if not UNUSED.match(name) and not (name in exact and is_folded(name, exact))
        }
    try:
        with unfinished(path) as temporary:
            if path.suffix == ".safetensors":
                temporary.touch()
                mode = temporary.stat().st_mode
                notes = {key: str(value) for key, value in (metadata or {}).items()}
                for note, holds in (
                    (DENSE_PROMPTS, model.dense_prompts),
                    (EIGHT_BITS, small),
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


def _portable(tensor: Tensor, dtype: Any, name: str) -> Tensor:
    """On the CPU, contiguous, floats as `dtype`."""
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.to(dtype)
        if not is_finite(tensor):
            raise CheckpointError(
                f"The model is not saved: {name} holds values that are not numbers or too large "
                "for this precision."
            )
    return tensor.contiguous()
