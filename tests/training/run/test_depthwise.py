"""Gradients of depthwise convolutions: float32's, whatever the forward pass computes in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinysam_training.run.depthwise import DepthwiseGradients


def gradients(
    layer: nn.Conv2d, x: Tensor, around: Callable[[], object], dtype: torch.dtype
) -> tuple[Tensor, list[Tensor]]:
    """The output, and the gradients of a weighted sum of it: of x, weight and bias."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", dtype=dtype), around():  # type: ignore[attr-defined]
        out = layer(x)
    generator = torch.Generator().manual_seed(1)
    target = (
        torch.randn(out.shape, generator=generator).to(torch.bfloat16).to(out.dtype)
    )
    (out * target).sum().backward()
    assert x.grad is not None
    return out, [x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "bias"),
    [(3, 1, 1, 1, False), (5, 2, 2, 1, True), (3, 2, 0, 1, False), (3, 1, 2, 2, True)],
)
def test_gradients_are_those_of_float32(
    kernel: int, stride: int, padding: int, dilation: int, bias: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 6, kernel, stride, padding, dilation, groups=6, bias=bias)
    with torch.no_grad():  # numbers that bfloat16 holds exactly
        for parameter in layer.parameters():
            parameter.copy_(parameter.bfloat16().float())
    x = torch.randn(3, 6, 17, 15).bfloat16().float()

    narrow, found = gradients(layer, x, DepthwiseGradients, torch.bfloat16)
    plain = F.conv2d(x, layer.weight, layer.bias, stride, padding, dilation, 6)
    exact = [p.requires_grad_() for p in (x.clone(), *layer.parameters())]
    out = F.conv2d(exact[0], exact[1], layer.bias, stride, padding, dilation, 6)
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(out.shape, generator=generator).bfloat16().float()
    expected = torch.autograd.grad((out * target).sum(), exact)

    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.float(), plain, rtol=0.01, atol=0.01)
    assert len(found) == len(expected)
    for each, other in zip(found, expected, strict=True):
        assert each.dtype == torch.float32
        # Only the result is rounded to bfloat16: half a unit in its last place.
        torch.testing.assert_close(each, other, rtol=1 / 256, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_convolutions_are_as_without_it(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 4, 3, padding="same", groups=2)
    x = torch.randn(2, 6, 9, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        expected = torch.autograd.grad(layer(x).sum(), layer.weight)[0]
        with DepthwiseGradients():
            found = torch.autograd.grad(layer(x).sum(), layer.weight)[0]

    assert torch.equal(found, expected)


def test_without_autocast_and_without_gradients_nothing_changes() -> None:
    layer = nn.Conv2d(6, 6, 3, groups=6)
    x = torch.randn(2, 6, 9, 8)
    with DepthwiseGradients():
        assert torch.equal(layer(x), F.conv2d(x, layer.weight, layer.bias, groups=6))
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
