"""A narrower mask decoder that answers the same.

Run as ``python -m papers.narrowing MODEL DATA… -o OUT.safetensors``.

Each of the decoder's two layers has an MLP of 2,048 hidden units for its tokens, as every Segment
Anything has. It sees a handful of tokens of an object, never the image, and a few of its units do
the work. The others are removed one by one, each time the one that the output misses least, and the
remaining ones take over what it did: Optimal Brain Surgeon (Hassibi & Stork, 1992) for the mean
squared error of the MLP's output, which is quadratic in the second layer's weights, so the formula
is exact.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from napari_tinysam.model import DetailedMaskDecoder, SegmentAnything
from papers.shared import images_of_folders, in_torch, refusals, say
from tinysam_training.evaluation.evaluate import EvaluationSettings, evaluate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinysam_training.labelled_image import ImageEntry

#: Hidden units of the bundled model.
WIDTH = 128

#: Images of each set whose objects are prompted.
IMAGES = 8

#: Added to the diagonal of the second moments, as a share of their mean: some units never fire.
_RIDGE = 1e-4


def mlp_width(model: SegmentAnything) -> int:
    """Return the number of hidden units of the mask decoder's MLPs for tokens."""
    width: int = model.mask_decoder.transformer.layers[0].mlp.lin1.out_features
    return width


def can_be_narrower(model: SegmentAnything, width: int) -> bool:
    """Whether a model may have a decoder of this width: one of this project's own, of floats."""
    own = isinstance(model.mask_decoder, DetailedMaskDecoder)
    return own and not model.quantization and 0 < width < mlp_width(model)


def narrowed(
    model: SegmentAnything, entries: Sequence[ImageEntry], width: int = WIDTH
) -> SegmentAnything:
    """Make a model whose decoder has narrower MLPs and answers (nearly) the same.

    Parameters
    ----------
    model : SegmentAnything
        With a decoder of this project's own; not quantized. Left as it is.
    entries : sequence of ImageEntry
        Labelled images. Clicks and boxes on their objects show which units are needed.
    width : int
        Hidden units to keep in each MLP.

    Returns
    -------
    SegmentAnything
        In eval mode; its other parts are copies.

    Raises
    ------
    DataError
        If the model does not fit, or the images have no objects.
    """
    if not can_be_narrower(model, width):
        raise DataError(
            f"A decoder of {mlp_width(model)} hidden units cannot be made one of {width}: it must "
            "get narrower, and be of a float model with an EfficientNet; official programs read "
            "the others."
        )
    head = model.object_head
    found = SegmentAnything(
        model.architecture,
        model.image_size,
        object_head=head is not None,
        details=head is not None and head.detailed,
        mlp_dim=width,
    )
    state = model.state_dict()
    for number, seen in enumerate(tokens_seen(model, entries)):
        name = f"mask_decoder.transformer.layers.{number}.mlp"
        mlp = model.get_submodule(name)
        state |= {
            f"{name}.{part}": value
            for part, value in without_hidden_units(mlp, seen, width).items()
        }
    found.load_state_dict(state)
    found.dense_prompts = model.dense_prompts
    return found.eval()


def tokens_seen(
    model: SegmentAnything, entries: Sequence[ImageEntry]
) -> tuple[Tensor, ...]:
    """Prompt the objects of images, and collect what each MLP gets.

    Parameters
    ----------
    model : SegmentAnything
    entries : sequence of ImageEntry

    Returns
    -------
    tuple of Tensor
        (tokens, 256) float32, of each layer.

    Raises
    ------
    DataError
        If there is no object.
    """
    layers = model.mask_decoder.transformer.layers
    seen: list[list[Tensor]] = [[] for _ in layers]

    def note(number: int, given: Tensor) -> None:
        seen[number].append(given.detach().float().flatten(0, -2).cpu())

    hooks = [
        layer.mlp.register_forward_pre_hook(
            lambda _, given, number=number: note(number, given[0])
        )
        for number, layer in enumerate(layers)
    ]
    try:
        settings = EvaluationSettings(clicks=3, automatic=False)
        evaluate(in_torch(model), entries, settings)
    finally:
        for hook in hooks:
            hook.remove()
    if not all(seen):
        raise DataError("There is no object whose prompts could show what is needed.")
    return tuple(map(torch.cat, seen))


def without_hidden_units(mlp: nn.Module, seen: Tensor, width: int) -> dict[str, Tensor]:
    """Remove the hidden units of a two-layer MLP that its output misses least.

    Parameters
    ----------
    mlp : MLPBlock
        With ``lin1``, ``act`` and ``lin2``.
    seen : Tensor
        (N, channels), inputs that it must still answer alike.
    width : int
        Hidden units to keep.

    Returns
    -------
    dict of str to Tensor
        The narrower MLP's weights and biases by name.
    """
    first, second = mlp.get_submodule("lin1"), mlp.get_submodule("lin2")
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    with torch.no_grad():
        hidden = mlp.get_submodule("act")(first(seen))
        # The bias is the weight of one more unit, which is always 1 and never removed.
        hidden = torch.cat([hidden, torch.ones(len(hidden), 1)], dim=1).double()
        moments = hidden.T @ hidden / len(hidden)  # (units + 1, units + 1)
        weights = torch.cat([second.weight, second.bias[:, None]], dim=1).double()
        kept, refitted = _kept_units(moments, weights, width)
        return {
            "lin1.weight": first.weight[kept].clone(),
            "lin1.bias": first.bias[kept].clone(),
            "lin2.weight": refitted[:, :-1].float().contiguous(),
            "lin2.bias": refitted[:, -1].float().contiguous(),
        }


def _kept_units(moments: Tensor, weights: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Choose the units to keep, and fit the weights of the next layer to them.

    Removing unit j with the others refitted adds ‖w_j‖² / (M⁻¹)_jj to the squared error, and the
    inverse without it follows from the one with it (Hassibi & Stork, equations 5 and 9).
    """
    units = len(moments)
    ridge = _RIDGE * moments.diagonal().mean()
    moments = moments + ridge * torch.eye(units, dtype=moments.dtype)
    inverse, reduced = torch.linalg.inv(moments), weights.clone()
    gone = torch.zeros(units, dtype=torch.bool)
    for _ in range(units - 1 - width):
        scale = inverse.diagonal().clamp(min=1e-30)
        cost = reduced.square().sum(0) / scale
        cost[-1] = torch.inf
        cost[gone] = torch.inf
        least = int(cost.argmin())
        row = inverse[least] / inverse[least, least]
        reduced -= reduced[:, least, None] * row
        inverse.addr_(inverse[:, least].clone(), row, alpha=-1)
        gone[least] = True
    kept = torch.nonzero(~gone).flatten()
    # Fitted anew: rounding has gathered in the updates.
    inner, target = moments[kept][:, kept], moments[kept] @ weights.T
    return kept[:-1], torch.linalg.solve(inner, target).T


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--width", type=int, default=WIDTH, help="hidden units to keep")
    parser.add_argument("--images", type=int, default=IMAGES, help="of each set")
    arguments = parser.parse_args()
    with refusals():
        wide = checkpoints.load(arguments.model)
        entries = images_of_folders(arguments.data, "train", arguments.images)
        narrow = narrowed(wide.model, entries, arguments.width)
        checkpoints.save(narrow, arguments.output, wide.notes, half=True)
        say(f"{arguments.output}: {arguments.width} instead of {mlp_width(wide.model)}")


if __name__ == "__main__":
    main()
