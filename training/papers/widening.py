"""A wider image encoder that begins with what a narrower one has learnt.

Run as ``python -m papers.widening MODEL ARCHITECTURE -o OUT.safetensors``.

Net2Net's wider operator (Chen et al., ICLR 2016, section 2.2) for TinyViT: the wide body has one or
more copies of every channel of the narrow one, and layers that read a channel divide its weight
among the copies, so that sums do not change. Only layer norms see other means and variances where
some channels have more copies than others; a few steps of training repair that.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from napari_tinysam.model import EFFICIENTNETS, SegmentAnything
from napari_tinysam.model.encoders.tiny_vit import TINY_VIT_CONFIGS
from papers.shared import refusals

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tinysam.model import Architecture

#: Copies of a channel get shares between 1 − this and 1 + this, which are then normalised to sum 1.
#: With equal shares they would get equal gradients and stay equal forever.
_UNEVEN = 0.5


def widened(model: SegmentAnything, architecture: Architecture) -> SegmentAnything:
    """Make a model with a wider encoder that answers (nearly) the same.

    Parameters
    ----------
    model : SegmentAnything
        With a TinyViT encoder. Left as it is.
    architecture : str
        A TinyViT with as many blocks, each as wide or wider, such as "tiny_vit_21m" for "tiny_vit".

    Returns
    -------
    SegmentAnything
        Its other parts are copies. The random shares follow torch's seed.

    Raises
    ------
    DataError
        If that encoder cannot be made of the model's.
    """
    if EFFICIENTNETS.keys() & {model.architecture, architecture}:
        raise DataError(
            f"A {architecture} encoder cannot be made from a {model.architecture} one: an "
            "EfficientNet cannot be widened. Start from its own weights, or from ImageNet's."
        )
    narrow, wide = (
        TINY_VIT_CONFIGS.get(name) for name in (model.architecture, architecture)
    )
    fits = (
        narrow is not None
        and wide is not None
        and narrow.depths == wide.depths
        and narrow.window_sizes == wide.window_sizes
        and all(n <= w for n, w in zip(narrow.embed_dims, wide.embed_dims, strict=True))
    )
    if not fits:
        raise DataError(
            f"A {architecture} encoder cannot be made from a {model.architecture} one: it must be "
            "a TinyViT with as many blocks, and nowhere narrower."
        )
    head = model.object_head
    found = SegmentAnything(
        architecture,
        model.image_size,
        object_head=head is not None,
        details=head is not None and head.detailed,
    )
    found.dense_prompts = model.dense_prompts
    state = model.state_dict()
    for name, tensor in found.state_dict().items():
        tensor.copy_(_widened(state[name], tensor.shape))
    return found


def _widened(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Repeat a tensor's channels along its first two axes until it has a shape.

    Copy i of n channels is channel i modulo n. That suits all layers at once: heads lie one after
    the other in queries, keys, values and their projection.
    """
    for axis in range(min(tensor.ndim, 2)):
        narrow, wide = tensor.shape[axis], shape[axis]
        if narrow == wide:
            continue
        origin = torch.arange(wide) % narrow
        tensor = tensor.index_select(axis, origin)
        if axis == 1:  # what a layer reads
            share = 1 + _UNEVEN * (2 * torch.rand(wide) - 1)
            total = torch.zeros(narrow).index_add_(0, origin, share)
            share = share / total[origin]
            tensor = tensor * share.view(1, -1, *(1,) * (tensor.ndim - 2))
    return tensor


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("architecture", choices=TINY_VIT_CONFIGS)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    with refusals():
        narrow = checkpoints.load(arguments.model).model
        checkpoints.save(widened(narrow, arguments.architecture), arguments.output)


if __name__ == "__main__":
    main()
