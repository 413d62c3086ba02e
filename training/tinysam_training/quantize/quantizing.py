"""Post-training quantization of a whole model: from a few images to scales, and to a model.

Each search keeps the original's values in all other operations (PTQ4ViT calls this `parallel`), so
the model runs forwards and backwards over the images only once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_tinysam.model.integers import (
    QUANTIZABLE,
    InputQuantization,
    LayerQuantization,
    along,
    to_integers,
    weight_axis,
)
from tinysam_training.quantize.calibration_data import Seen, see
from tinysam_training.quantize.folding import folded
from tinysam_training.quantize.operations import Origins, operations
from tinysam_training.quantize.products import Operation, collect
from tinysam_training.quantize.quantizers import Uniform
from tinysam_training.quantize.search import Operand, Scales, ScaleSearch, search

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_tinysam.model import SegmentAnything
    from tinysam_training.labelled_image import ImageEntry
    from tinysam_training.quantize.operations import Origin
    from tinysam_training.quantize.quantizers import Range


#: The range of an input, by the function before it.
_RANGES: dict[Origin, Range] = {
    "softmax": "positive",
    "relu": "positive",
    "gelu": "gelu",
}


@dataclass(frozen=True, eq=False)
class Collected:
    """A model, and its operations' samples from the calibration images.

    Attributes
    ----------
    model : SegmentAnything
        The model to round, with folded norms.
    operations : list of Operation
    origins : dict of str to Origin
    seen : list of Seen
    images : int
    """

    model: SegmentAnything
    operations: list[Operation]
    origins: dict[str, Origin]
    seen: list[Seen]
    images: int


def collected(
    model: SegmentAnything,
    entries: Sequence[ImageEntry],
    *,
    seed: int = 0,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Collected:
    """Run a model over the calibration images.

    Parameters
    ----------
    model : SegmentAnything
        On the CPU, with a TinyViT or EfficientNet encoder; it is not changed.
    entries : sequence of ImageEntry
        Eight are enough; of the kinds that the model is for, and not used to judge it.
    seed : int
    report : callable

    Raises
    ------
    DataError
        If there are no images, or they cannot be used.
    ValueError
        If the model has another encoder.
    """
    if not model.encoder_kind.graph:
        raise ValueError(
            "Only models with a TinyViT or EfficientNet encoder can be quantized."
        )
    whole = folded(model)
    seen = see(whole, entries, lambda done, total: report("Images", done, total))
    origins = origins_of(whole)
    products = collect(
        whole, seen, seed=seed, progress=lambda d, t: report("Gradients", d, t)
    )
    return Collected(whole, products, origins, seen, len(entries))


def origins_of(
    model: SegmentAnything, kinds: tuple[type[nn.Module], ...] = QUANTIZABLE
) -> dict[str, Origin]:
    """Find which function produces each operation's input, on a small empty frame."""
    side = min(256, model.image_size)
    frame = torch.zeros(1, 3, side, side)
    origins = Origins(operations(model, kinds))
    with torch.no_grad(), origins:
        features = model.features(frame)
        if model.object_head is not None:
            model.object_maps(features)
        model.decode(
            features.embedding,
            details=features.details,
            boxes=torch.tensor([[0.0, 0.0, 9.0, 9.0]]),
            masks=torch.zeros(1, 1, side // 4, side // 4),
        )
    return origins.found


def integer_operands(operation: Operation, origin: Origin) -> tuple[Operand, Operand]:
    """Return how an operation is rounded for integer kernels.

    They have one scale for each output channel of the weights, and one for the input. The range of
    an input starts at the least value of the ReLU or GELU before it, for steps about half as wide
    as in the paper's symmetric ranges.
    """
    return (
        Operand(Uniform(range=_RANGES.get(origin, "signed"))),
        Operand(Uniform(), "channel", operation.taps),
    )


def searched(
    found: Collected,
    settings: ScaleSearch | None = None,
    *,
    operands: Callable[[Operation, Origin], tuple[Operand, Operand]] = integer_operands,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, Scales]:
    """Search the scales of all operations.

    Parameters
    ----------
    found : Collected
    settings : ScaleSearch, optional
    operands : callable
        How an operation is rounded.
    report : callable

    Returns
    -------
    dict of str to Scales
        By names of operations.
    """
    scales = {}
    for number, operation in enumerate(found.operations, start=1):
        each = operands(operation, found.origins[operation.name])
        scales[operation.name] = search(operation.products, *each, settings)
        report("Scales", number, len(found.operations))
    return scales


def with_eight_bits(
    found: Collected, scales: Mapping[str, Scales], computed: Callable[[str], bool]
) -> SegmentAnything:
    """Make the model to save: weights in 8 bits, and the rounding of inputs.

    Parameters
    ----------
    found : Collected
    scales : mapping of str to Scales
        By `integer_operands`.
    computed : callable
        Takes the name of a layer; returns whether it is computed with integers. Other layers only
        store their weights in 8 bits.
    """
    model = folded(found.model)  # which is a copy
    layers = {}
    for operation in found.operations:
        each = scales[operation.name]
        layer: Any = model.get_submodule(operation.name)
        axis = weight_axis(layer)
        # Half of the bytes; small values survive, unlike in float16.
        scale = each.second.bfloat16().float()
        with torch.no_grad():
            steps = to_integers(layer.weight, scale, axis)
            layer.weight.copy_(steps * along(scale, layer.weight, axis))
        given = None
        if computed(operation.name):
            origin = found.origins[operation.name]
            quantizer = integer_operands(operation, origin)[0].quantizer
            given = InputQuantization(
                float(each.first), int(quantizer.lowest(each.first))
            )
        layers[operation.name] = LayerQuantization(scale, given)
    model.quantization = layers
    return model
