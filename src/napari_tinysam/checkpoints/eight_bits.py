"""Quantized models in files: weights as 8-bit integers, with the scales that belong to them.

Beside the weights of a layer, ``X.weight`` in int8, lie ``X.weight_scale`` in bfloat16 or float32,
one for each output channel, with as many dimensions as the weights, and, if the layer is computed
with integers, ``X.input_scale``, (2,) float32: the step of its input and the lowest of 256 steps.
Everything else is as in other files, in float16, but for what is known: see `folded_value`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_tinysam.model import SegmentAnything
    from napari_tinysam.model.quantization import InputQuantization, LayerQuantization

#: What norms hold that were folded into layers (`tinysam_training.quantize.folding`), by how the
#: official names end. Files leave it out.
_FOLDED = {
    ".bn.weight": 1.0,
    ".bn.running_mean": 0.0,
    ".bn.running_var": 1.0 - 1e-5,  # with epsilon it is 1
    ".attn.norm.weight": 1.0,
    ".attn.norm.bias": 0.0,
    ".mlp.norm.weight": 1.0,
    ".mlp.norm.bias": 0.0,
}

_WEIGHT, _WEIGHT_SCALE, _INPUT_SCALE = ".weight", ".weight_scale", ".input_scale"


class DamagedScales(ValueError):
    """Scales do not fit their weights. The message says which."""


def taken_apart(
    weights: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, LayerQuantization]]:
    """Turn 8-bit weights into floats.

    Parameters
    ----------
    weights : mapping of str to Tensor
        As they are in a file, under whatever names; those of other models pass unchanged.

    Returns
    -------
    weights : dict of str to Tensor
        Without integers and scales.
    layers : dict of str to LayerQuantization
        By the names of layers, as they are in the file; empty for a model that is not quantized.

    Raises
    ------
    DamagedScales
        If scales are missing, of another shape, or no positive numbers.
    """
    import torch

    from napari_tinysam.model.quantization import LayerQuantization

    found = {
        name: tensor
        for name, tensor in weights.items()
        if not name.endswith((_WEIGHT_SCALE, _INPUT_SCALE))
    }
    layers = {}
    for name, tensor in weights.items():
        if not name.endswith(_WEIGHT_SCALE):
            continue
        layer = name.removesuffix(_WEIGHT_SCALE)
        steps = weights.get(layer + _WEIGHT)
        if steps is None or steps.dtype is not torch.int8:
            raise DamagedScales(f"{name} belongs to no 8-bit weights")
        scale = _checked(tensor, steps, name)
        found[layer + _WEIGHT] = steps.float() * scale
        given = weights.get(layer + _INPUT_SCALE)
        layers[layer] = LayerQuantization(
            scale.flatten(), None if given is None else _input(given, layer)
        )
    return found, layers


def folded_value(name: str) -> float | None:
    """Return what a tensor of a quantized model holds throughout if its file leaves it out."""
    if not name.startswith("image_encoder."):
        return None
    values = (value for end, value in _FOLDED.items() if name.endswith(end))
    return next(values, None)


def is_folded(name: str, tensor: Tensor) -> bool:
    """Whether a tensor holds nothing but its `folded_value`."""
    value = folded_value(name)
    return value is not None and bool((tensor.float() == value).all())


def put_together(model: SegmentAnything) -> dict[str, Tensor]:
    """Turn the weights of a quantized model's layers into integers.

    Parameters
    ----------
    model : SegmentAnything
        With `quantization`.

    Returns
    -------
    dict of str to Tensor
        By official names: int8 weights and float32 scales, of these layers alone.
    """
    import torch

    from napari_tinysam.model import to_official
    from napari_tinysam.model.quantization import along, to_integers, weight_axis

    found = {}
    for name, how in (model.quantization or {}).items():
        layer: Any = model.get_submodule(name)
        weight = layer.weight.detach().float().cpu()
        scale, axis = how.weight_scale.float().cpu(), weight_axis(layer)
        found[name + _WEIGHT] = to_integers(weight, scale, axis).contiguous()
        # Its shape says along which dimension of the weights it is.
        shaped = along(scale, weight, axis).contiguous()
        short = shaped.bfloat16()
        found[name + _WEIGHT_SCALE] = short if bool((short == shaped).all()) else shaped
        if how.input is not None:
            numbers = [how.input.scale, float(how.input.lowest)]
            found[name + _INPUT_SCALE] = torch.tensor(numbers)
    return to_official(found)


def own_names(
    layers: Mapping[str, LayerQuantization], weights: Mapping[str, object]
) -> dict[str, LayerQuantization]:
    """Rename layers of a file, which holds such weights, to those of its model."""
    from napari_tinysam.model import from_official

    # The other names say which kind of model it is.
    marked = dict.fromkeys(weights) | {n + _WEIGHT: how for n, how in layers.items()}
    renamed = from_official(marked)
    return {
        name.removesuffix(_WEIGHT): how
        for name, how in renamed.items()
        if how is not None
    }


def _checked(scale: Tensor, steps: Tensor, name: str) -> Tensor:
    """Scales that fit such weights, in float32."""
    fits = scale.ndim == steps.ndim and all(
        size in (1, of_weights)
        for size, of_weights in zip(scale.shape, steps.shape, strict=True)
    )
    if not (fits and max(scale.shape) == scale.numel()):
        raise DamagedScales(f"{name} does not fit its weights")
    if not (scale.is_floating_point() and bool((scale > 0).all())) or not bool(
        scale.isfinite().all()
    ):
        raise DamagedScales(f"{name} holds no scales")
    return scale.float()


def _input(numbers: Tensor, layer: str) -> InputQuantization:
    from napari_tinysam.model.quantization import InputQuantization

    try:
        scale, lowest = numbers.tolist()
        return InputQuantization(float(scale), int(lowest))
    except (ValueError, TypeError, OverflowError) as error:
        raise DamagedScales(f"{layer}{_INPUT_SCALE} holds no scale") from error
