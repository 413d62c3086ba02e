"""Depthwise convolutions whose gradients a CPU computes in float32.

Under autocast, torch computes the gradients of a depthwise convolution in bfloat16 too. On a CPU
that takes two to five times as long as in float32, although the forward pass is faster: over half
of a training step of an EfficientNet. So the forward pass stays in bfloat16, and the backward pass
does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode


class DepthwiseGradients(TorchFunctionMode):
    """Within it, depthwise convolutions under bfloat16 autocast on a CPU have float32 gradients.

    Everything else is computed as without it.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace `torch.nn.functional.conv2d`; call all other functions."""
        options = dict(kwargs or {})
        if func is torch.nn.functional.conv2d and _applies(*args, **options):
            return _convolve(*args, **options)
        return func(*args, **options)


def _applies(
    x: Tensor, weight: Tensor, *others: Any, groups: int = 1, **options: Any
) -> bool:
    groups = others[4] if len(others) > 4 else groups
    padding = others[2] if len(others) > 2 else options.get("padding", 0)
    return (
        1 < groups == len(weight)
        and weight.shape[1] == 1
        and not isinstance(padding, str)
        and x.device.type == "cpu"
        and torch.is_grad_enabled()
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    narrow = torch.bfloat16
    geometry = _pair(stride), _pair(padding), _pair(dilation)
    narrow_bias = None if bias is None else bias.to(narrow)
    with torch.autocast("cpu", enabled=False):
        result = _Depthwise.apply(
            x.to(narrow), weight.to(narrow), narrow_bias, geometry
        )
    assert isinstance(result, Tensor)
    return result


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: tuple[list[int], list[int], list[int]],
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return torch.nn.functional.conv2d(x, weight, bias, *geometry, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.geometry
        # The kernels for channels that lie side by side are the fast ones.
        last = torch.channels_last
        needed = list(ctx.needs_input_grad[:3])
        found = torch.ops.aten.convolution_backward(
            gradient.float().contiguous(memory_format=last),
            x.float().contiguous(memory_format=last),
            weight.float(),
            [len(weight)],
            stride,
            padding,
            dilation,
            False,
            [0, 0],
            len(weight),
            needed,
        )
        narrow = [
            each.to(x.dtype) if wanted else None
            for each, wanted in zip(found, needed, strict=True)
        ]
        return (*narrow, None)
