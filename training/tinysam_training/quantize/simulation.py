"""A rounded model in torch, for study: any number of bits, scales for any groups of values.

Everything is computed in float32 with rounded operands, so it is slower than the model itself.
`napari_tinysam.model.integers` describes the real integer computation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.inference.runtime.protocol import DecodedPrompts
from tinysam_training.quantize.operations import with_products

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from napari_tinysam.model import ImageFeatures, SegmentAnything
    from tinysam_training.quantize.quantizers import Quantizer

#: Prompts decoded at once.
_BATCH = 8


@dataclass(frozen=True, eq=False)
class Rounding:
    """How one operation's two operands are rounded.

    Attributes
    ----------
    first, second : Quantizer
        Of the input, and of the weights or the other activation.
    first_parameter, second_parameter : Tensor
        Of a shape that can be broadcast to the operand.
    """

    first: Quantizer
    second: Quantizer
    first_parameter: Tensor
    second_parameter: Tensor


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
    ) -> DecodedPrompts:
        """See `Runtime.decode`; everything is drawn, in float32."""
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


def as_tensor(rgb: npt.NDArray[np.uint8]) -> Tensor:
    """(h, w, 3) uint8 to (1, 3, h, w) float32."""
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None].float()


def as_tensors(prompts: Mapping[str, npt.NDArray[Any] | None]) -> dict[str, Tensor]:
    """Prompts of `Runtime.decode` to those of `SegmentAnything.decode`."""
    found = {}
    for name, array in prompts.items():
        if array is not None:
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            found[name] = tensor[:, None] if name == "masks" else tensor
    return found


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
    return Predictor(runtime, name=name, model_id=f"simulated/{name}", notes=notes)
