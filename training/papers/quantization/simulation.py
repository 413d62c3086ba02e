"""A rounded model in torch, for study: any number of bits, scales for any groups of values.

Everything is computed in float32 with rounded operands, so it is slower than the model itself.
`napari_tinysam.model.integers` describes the real integer computation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.inference.runtime.protocol import DecodedPrompts
from napari_tinysam.model.integers import along, weight_axis
from papers.quantization.explicit import MatMul, WatchingProducts, with_products
from papers.quantization.two_ranges import AfterGelu, AfterSoftmax
from tinysam_training.quantize.calibration_data import as_tensor, as_tensors, see
from tinysam_training.quantize.folding import folded
from tinysam_training.quantize.products import collect
from tinysam_training.quantize.quantizers import Uniform
from tinysam_training.quantize.quantizing import Collected, origins_of
from tinysam_training.quantize.search import Operand

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from napari_tinysam.model import ImageFeatures, SegmentAnything
    from tinysam_training.labelled_image import ImageEntry
    from tinysam_training.quantize.operations import Origin
    from tinysam_training.quantize.products import Operation
    from tinysam_training.quantize.search import Scales

#: Prompts decoded at once.
_BATCH = 8


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

    def _input(self, origin: Origin) -> Uniform:
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


def collected(
    model: SegmentAnything,
    entries: Sequence[ImageEntry],
    *,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Collected:
    """See `tinysam_training.quantize.quantizing.collected`; with products of activations."""
    whole = folded(model)
    seen = see(whole, entries, lambda done, total: report("Images", done, total))
    explicit = with_products(whole)
    operations = collect(
        explicit,
        seen,
        progress=lambda done, total: report("Gradients", done, total),
        watching=WatchingProducts,
    )
    origins = origins_of(explicit, WatchingProducts.kinds)
    return Collected(whole, operations, origins, seen, len(entries))


@dataclass(frozen=True, eq=False)
class Rounding:
    """How one operation's two operands are rounded.

    Attributes
    ----------
    first, second : Uniform
        Of the input, and of the weights or the other activation.
    first_parameter, second_parameter : Tensor
        Of a shape that can be broadcast to the operand.
    """

    first: Uniform
    second: Uniform
    first_parameter: Tensor
    second_parameter: Tensor


def roundings(
    found: Collected, scheme: Scheme, scales: Mapping[str, Scales]
) -> dict[str, Rounding]:
    """Give scales the form that `simulated` takes."""
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


def simulated(
    model: SegmentAnything, roundings: Mapping[str, Rounding]
) -> SegmentAnything:
    """Copy a model, with its operations rounded.

    Parameters
    ----------
    model : SegmentAnything
        As it was searched on (`tinysam_training.quantize.folding.folded`).
    roundings : mapping of str to Rounding
        By names of operations; the others are not rounded.
    """
    copied = with_products(model)
    for name, rounding in roundings.items():
        module: Any = copied.get_submodule(name)
        weight = getattr(module, "weight", None)
        if weight is not None:
            with torch.no_grad():
                weight.copy_(rounding.second.rounded(weight, rounding.second_parameter))
        module.register_forward_pre_hook(_rounding_hook(rounding, weight is None))
    return copied


def _rounding_hook(rounding: Rounding, both: bool) -> Any:
    def hook(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        first = rounding.first.rounded(given[0], rounding.first_parameter)
        if not both:
            return (first, *given[1:])
        return first, rounding.second.rounded(given[1], rounding.second_parameter)

    return hook


class PlainRuntime:
    """Runs a model's own modules as they are, hooks included; a `Runtime`.

    Parameters
    ----------
    model : SegmentAnything
        On the CPU.
    name : str
        For messages.
    """

    def __init__(self, model: SegmentAnything, name: str) -> None:
        self._model = model.eval()
        self.name = name
        self.image_size = model.image_size
        self.has_object_head = model.object_head is not None
        self.dense_prompts = model.dense_prompts

    @torch.no_grad()
    def encode(self, rgb: npt.NDArray[np.uint8]) -> tuple[ImageFeatures, Tensor | None]:
        """See `Runtime.encode`."""
        model = self._model
        features = model.features(model.normalize_and_pad(as_tensor(rgb)))
        if not self.has_object_head:
            return features, None
        return features, model.object_maps(features)[0].sigmoid()

    @torch.no_grad()
    def maps_of_half(
        self, rgb: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.float32] | None:
        """See `Runtime.maps_of_half`."""
        model, side = self._model, self.image_size // 2
        if not model.sees_halves:
            return None
        frame = model.normalize_and_pad(as_tensor(rgb))[..., :side, :side]
        found = model.object_maps(model.features(frame))[0].sigmoid()
        return np.asarray(found.numpy(), np.float32)

    @torch.no_grad()
    def decode(
        self,
        features: tuple[ImageFeatures, Tensor | None],
        *,
        points: npt.NDArray[np.float32] | None,
        labels: npt.NDArray[np.int32] | None,
        boxes: npt.NDArray[np.float32] | None,
        masks: npt.NDArray[np.float32] | None,
        least_scores: npt.NDArray[np.float32] | None = None,
        exact: bool = True,
        corners: npt.NDArray[np.intp] | None = None,
    ) -> DecodedPrompts:
        """See `Runtime.decode`; everything is drawn, in float32 and in the whole frame."""
        assert corners is None, "a predictor without windows is needed"
        given = {"points": points, "labels": labels, "boxes": boxes, "masks": masks}
        tensors = as_tensors(given)
        count = next(len(each) for each in tensors.values())
        logits, scores = [], []
        seen, _ = features
        for start in range(0, count, _BATCH):
            part = {k: t[start : start + _BATCH] for k, t in tensors.items()}
            found = self._model.decode(seen.embedding, details=seen.details, **part)
            logits.append(found[0].numpy())
            scores.append(found[1].numpy())
        return DecodedPrompts(np.concatenate(logits), np.concatenate(scores))

    def object_maps(
        self, features: tuple[ImageFeatures, Tensor | None]
    ) -> npt.NDArray[np.float32] | None:
        """See `Runtime.object_maps`."""
        return None if features[1] is None else features[1].numpy()


def simulated_predictor(
    model: SegmentAnything,
    roundings: Mapping[str, Rounding],
    *,
    name: str,
    notes: Mapping[str, str] | None = None,
) -> Predictor:
    """Make a predictor of a rounded model, to be judged like any other.

    Parameters
    ----------
    model, roundings
        As for `simulated`.
    name : str
        For messages.
    notes : mapping of str to str, optional
        Of the model's file: thresholds are among them.
    """
    runtime = PlainRuntime(simulated(model, roundings), f"{name}, simulated in torch")
    return Predictor(
        runtime,
        name=name,
        model_id=f"simulated/{name}",
        notes=notes,
        windows=False,  # the official modules read whole frames
    )
