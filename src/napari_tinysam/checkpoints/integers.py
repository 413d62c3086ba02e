"""Quantized models in files: weights as 8-bit integers, with the scales that belong to them.

The scales of all int8 layers, in the order of their names, are in two tensors, because the name of
a tensor takes more bytes than most scales:

- ``quantization.weight_scales``, bfloat16 or float32: the steps of all output channels of the
  first layer, then of the second…
- ``quantization.layers``, (L, 3) float32: which dimension of a layer's weights is its output
  channels; the step of its input; and the lowest of 256 steps. The last two are NaN for a layer
  that computes with floats.

Other tensors are float16, as in other files. Those with a `folded_value` are left out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from torch import Tensor

    from napari_tinysam.model import SegmentAnything
    from napari_tinysam.model.integers import InputQuantization, LayerQuantization

#: Values of LayerNorms that were folded into layers (`tinysam_training.quantize.folding`), by how
#: the official names end.
_FOLDED = {
    ".attn.norm.weight": 1.0,
    ".attn.norm.bias": 0.0,
    ".mlp.norm.weight": 1.0,
    ".mlp.norm.bias": 0.0,
}

#: Tensors of BatchNorms. The variance of a folded one is such that with epsilon it is 1.
_WEIGHT, _MEAN, _VARIANCE = ".weight", ".running_mean", ".running_var"

#: Torch's epsilon of BatchNorms; some encoders have others (`EncoderKind.epsilons`).
_EPSILON = 1e-5

_WEIGHT_SCALES, _LAYERS = "quantization.weight_scales", "quantization.layers"


def taken_apart(
    weights: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, LayerQuantization]]:
    """Turn 8-bit weights into floats.

    Parameters
    ----------
    weights : mapping of str to Tensor
        As in a file, under any names; those of models that are not quantized pass unchanged.

    Returns
    -------
    weights : dict of str to Tensor
        Without integers and scales.
    layers : dict of str to LayerQuantization
        By their names in the file; empty for a model that is not quantized.

    Raises
    ------
    ValueError
        If scales are missing, too few, too many, or not positive numbers.
    """
    import torch

    from napari_tinysam.model.integers import LayerQuantization, along

    found = dict(weights)
    scales, table = found.pop(_WEIGHT_SCALES, None), found.pop(_LAYERS, None)
    if scales is None and table is None:
        return found, {}
    names = sorted(
        name
        for name, tensor in found.items()
        if name.endswith(_WEIGHT) and tensor.dtype is torch.int8
    )
    if scales is None or table is None or table.shape != (len(names), 3):
        raise ValueError("its scales do not fit its layers")
    scales = _checked(scales)
    layers, read = {}, 0
    for name, (axis, *given) in zip(names, table.tolist(), strict=True):
        steps, layer = found[name], name.removesuffix(_WEIGHT)
        if axis not in range(steps.ndim):
            raise ValueError(f"{layer} has no dimension {axis}")
        scale = scales[read : read + steps.shape[int(axis)]]
        read += steps.shape[int(axis)]
        if len(scale) != steps.shape[int(axis)]:
            raise ValueError("its scales do not fit its layers")
        found[name] = steps.float() * along(scale, steps, int(axis))
        layers[layer] = LayerQuantization(scale, _input(*given, layer=layer))
    if read != scales.numel():
        raise ValueError("its scales do not fit its layers")
    return found, layers


def folded_value(name: str, names: Container[str]) -> float | None:
    """Return the one value of a tensor that files of quantized models leave out, or None.

    Parameters
    ----------
    name : str
        Official name of the tensor.
    names : container of str
        Those of all tensors of the model, which tell BatchNorms from other layers.
    """
    if not name.startswith(("image_encoder.", "object_head.")):
        return None
    layer, _, kind = name.rpartition(".")
    if layer + _VARIANCE in names:
        norm = {_WEIGHT: 1.0, _MEAN: 0.0, _VARIANCE: 1.0 - _epsilon(name)}
        return norm.get(f".{kind}")
    values = (value for end, value in _FOLDED.items() if name.endswith(end))
    return next(values, None)


def _epsilon(name: str) -> float:
    from napari_tinysam.model import ENCODERS

    others = (each.epsilons.items() for each in ENCODERS.values())
    known = (e for pairs in others for start, e in pairs if name.startswith(start))
    return next(known, _EPSILON)


def is_folded(name: str, weights: Mapping[str, Tensor]) -> bool:
    """Whether all values of a tensor are its `folded_value`."""
    value = folded_value(name, weights)
    return value is not None and bool((weights[name].float() == value).all())


def put_together(model: SegmentAnything) -> dict[str, Tensor]:
    """Turn the weights of a quantized model's layers into integers.

    Parameters
    ----------
    model : SegmentAnything
        With `quantization`.

    Returns
    -------
    dict of str to Tensor
        By official names: int8 weights of these layers, and all scales.
    """
    import torch

    from napari_tinysam.model import to_official
    from napari_tinysam.model.integers import to_integers, weight_axis

    integers, rows = {}, {}
    for name, how in (model.quantization or {}).items():
        layer: Any = model.get_submodule(name)
        weight = layer.weight.detach().float().cpu()
        scale, axis = how.weight_scale.float().cpu(), weight_axis(layer)
        integers[name + _WEIGHT] = to_integers(weight, scale, axis).contiguous()
        given = how.input
        row = [torch.nan] * 2 if given is None else [given.scale, given.lowest]
        rows[name + _WEIGHT] = (scale, [axis, *row])
    rows = to_official(rows)
    ordered = [rows[name] for name in sorted(rows)]
    scales = torch.cat([scale for scale, _ in ordered])
    short = scales.bfloat16()
    return to_official(integers) | {
        _WEIGHT_SCALES: short if bool((short == scales).all()) else scales,
        _LAYERS: torch.tensor([row for _, row in ordered], dtype=torch.float32),
    }


def own_names(
    layers: Mapping[str, LayerQuantization], weights: Mapping[str, object]
) -> dict[str, LayerQuantization]:
    """Rename layers of a file with these weights to the names in the model."""
    from napari_tinysam.model import from_official

    # The names of all tensors tell which kind of model it is.
    marked = dict.fromkeys(weights) | {n + _WEIGHT: how for n, how in layers.items()}
    renamed = from_official(marked)
    return {
        name.removesuffix(_WEIGHT): how
        for name, how in renamed.items()
        if how is not None
    }


def _checked(scales: Tensor) -> Tensor:
    """Return scales in float32, if they are positive numbers."""
    usable = scales.is_floating_point() and scales.ndim == 1
    if not (usable and bool((scales > 0).all() and scales.isfinite().all())):
        raise ValueError("its scales are not positive numbers")
    return scales.float()


def _input(scale: float, lowest: float, *, layer: str) -> InputQuantization | None:
    from napari_tinysam.model.integers import InputQuantization

    if math.isnan(scale) and math.isnan(lowest):
        return None
    try:
        return InputQuantization(scale, int(lowest))
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"the scale of {layer}'s input is not a positive number"
        ) from error
