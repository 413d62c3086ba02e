"""Evenly spaced choice from a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_Item = TypeVar("_Item")


def evenly_spaced(items: Sequence[_Item], count: int) -> list[_Item]:
    """Choose at most this many elements of a list, including the first and the last."""
    places = np.linspace(0, max(len(items) - 1, 0), min(count, len(items)))
    return [items[i] for i in places.round().astype(int)]
