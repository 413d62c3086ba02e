"""The precision of loss computations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

#: Where a smooth ℓ1 of values between 0 and 1 changes from square to linear.
SMOOTH_BETA = 0.2


def exact(values: Tensor) -> Tensor:
    """Return the values as float32: sums over many bfloat16 values would lose most of them."""
    return values if values.dtype == torch.float64 else values.float()
