"""Post-training quantization of a whole model: from a few images to scales, and to a model.

Each search keeps the original's values in all other operations (PTQ4ViT calls this `parallel`), so
the model runs forwards and backwards over the images only once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from napari_tinysam.errors import DataError
from napari_tinysam.model.integers import (
    InputQuantization,
    LayerQuantization,
    along,
    to_integers,
    weight_axis,
)
from tinysam_training.quantize.calibration_data import Seen, see
from tinysam_training.quantize.folding import folded
from tinysam_training.quantize.operations import MatMul, Origins, with_products
from tinysam_training.quantize.products import Operation, collect
from tinysam_training.quantize.quantizers import AfterGelu, AfterSoftmax, Uniform
from tinysam_training.quantize.search import Operand, Scales, ScaleSearch, search
from tinysam_training.quantize.simulation import Rounding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_tinysam.model import SegmentAnything
    from tinysam_training.labelled_image import ImageEntry
    from tinysam_training.quantize.operations import Origin
    from tinysam_training.quantize.quantizers import Quantizer


@dataclass(frozen=True)
class Scheme:
    """Which operations are rounded, and to how many bits.

    Attributes
    ----------
    weight_bits, activation_bits : int
    linear : {"layer", "channel"}
        Which weights of a linear layer share a scale. Weights of convolutions always share one for
        each output channel.
    two_ranges : bool
        Whether activations after softmax and GELU get two ranges (`quantizers`).
    products : bool
        Whether products of two activations are rounded, with a scale for each head.
    fitted : bool
        Whether the range of one-range activations starts at the least value of the ReLU or GELU
        before it, for steps about half as wide. The paper's ranges are symmetric.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    linear: Literal["layer", "channel"] = "layer"
    two_ranges: bool = True
    products: bool = True
    fitted: bool = False

    def operands(self, operation: Operation, origin: Origin) -> tuple[Operand, Operand]:
        """Return how the two operands of an operation are rounded."""
        first = self._input(origin)
        if isinstance(operation.module, MatMul):
            second = Operand(Uniform(self.activation_bits), "head")
            return Operand(first, "head"), second
        linear = isinstance(operation.module, nn.Linear)
        granularity = self.linear if linear else "channel"
        weights = Operand(Uniform(self.weight_bits), granularity, operation.taps)
        return Operand(first), weights

    def _input(self, origin: Origin) -> Quantizer:
        bits = self.activation_bits
        if self.two_ranges and origin == "softmax":
            return AfterSoftmax(bits)
        if self.two_ranges and origin == "gelu":
            return AfterGelu(bits)
        if self.fitted and origin in ("relu", "softmax"):
            return Uniform(bits, "positive")
        if self.fitted and origin == "gelu":
            return Uniform(bits, "gelu")
        return Uniform(bits)


def paper_scheme(bits: int = 8) -> Scheme:
    """Return the paper's scheme, section 3.3, for this many bits."""
    return Scheme(bits, bits)


#: What integer kernels run: a scale for each output channel of weights, one for a layer's input.
INTEGERS = Scheme(linear="channel", two_ranges=False, products=False, fitted=True)


@dataclass(frozen=True, eq=False)
class Collected:
    """A model, and its operations' samples from the calibration images.

    Attributes
    ----------
    model : SegmentAnything
        The model to round, with folded norms.
    operations : list of Operation
    origins : dict of str to {"softmax", "gelu", "relu", "other"}
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
    origins = _origins(whole)
    operations = collect(
        whole, seen, seed=seed, progress=lambda d, t: report("Gradients", d, t)
    )
    return Collected(whole, operations, origins, seen, len(entries))


def _origins(model: SegmentAnything) -> dict[str, Origin]:
    """Find which function produces each operation's input, on a small empty frame."""
    explicit = with_products(model)
    side = min(256, model.image_size)
    frame = torch.zeros(1, 3, side, side)
    origins = Origins(explicit)
    with torch.no_grad(), origins:
        features = explicit.features(frame)
        if explicit.object_head is not None:
            explicit.object_maps(features)
        explicit.decode(
            features.embedding,
            details=features.details,
            boxes=torch.tensor([[0.0, 0.0, 9.0, 9.0]]),
            masks=torch.zeros(1, 1, side // 4, side // 4),
        )
    return origins.found


def searched(
    found: Collected,
    scheme: Scheme,
    settings: ScaleSearch | None = None,
    *,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, Scales]:
    """Search the scales of all operations that a scheme rounds.

    Parameters
    ----------
    found : Collected
    scheme : Scheme
    settings : ScaleSearch, optional
    report : callable

    Returns
    -------
    dict of str to Scales
        By names of operations.
    """
    chosen = [
        operation
        for operation in found.operations
        if scheme.products or not isinstance(operation.module, MatMul)
    ]
    scales = {}
    for number, operation in enumerate(chosen, start=1):
        operands = scheme.operands(operation, found.origins[operation.name])
        scales[operation.name] = search(operation.products, *operands, settings)
        report("Scales", number, len(chosen))
    return scales


def roundings(
    found: Collected, scheme: Scheme, scales: Mapping[str, Scales]
) -> dict[str, Rounding]:
    """Convert scales to the form that `simulation.simulated` takes."""
    rounded = {}
    for operation in found.operations:
        if operation.name not in scales:
            continue
        first, second = scheme.operands(operation, found.origins[operation.name])
        each = scales[operation.name]
        rounded[operation.name] = Rounding(
            first.quantizer,
            second.quantizer,
            _for_operand(operation.module, first, each.first, of_weights=False),
            _for_operand(operation.module, second, each.second, of_weights=True),
        )
    return rounded


def _for_operand(
    module: nn.Module, operand: Operand, parameter: torch.Tensor, *, of_weights: bool
) -> torch.Tensor:
    """Shape parameters so that they can be broadcast to a module's input."""
    if len(parameter) == 1:
        return parameter.view(())
    if isinstance(module, MatMul):
        return parameter.view(-1, 1, 1)  # heads
    assert of_weights
    assert operand.granularity == "channel"
    weight: Any = module.weight
    return along(parameter, weight, weight_axis(module))


def with_eight_bits(
    found: Collected, scales: Mapping[str, Scales], computed: Callable[[str], bool]
) -> SegmentAnything:
    """Make the model to save: weights in 8 bits, and the rounding of inputs.

    Parameters
    ----------
    found : Collected
    scales : mapping of str to Scales
        By `INTEGERS`.
    computed : callable
        Takes the name of a layer; returns whether it is computed with integers. Other layers only
        store their weights in 8 bits.
    """
    model = folded(found.model)  # which is a copy
    layers = {}
    for operation in found.operations:
        if operation.name not in scales or isinstance(operation.module, MatMul):
            continue
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
            quantizer: Any = INTEGERS.operands(operation, origin)[0].quantizer
            given = InputQuantization(
                float(each.first), int(quantizer.lowest(each.first))
            )
        layers[operation.name] = LayerQuantization(scale, given)
    model.quantization = layers
    return model


__all__ = [
    "INTEGERS",
    "Collected",
    "DataError",
    "Scheme",
    "collected",
    "paper_scheme",
    "roundings",
    "searched",
    "with_eight_bits",
]
