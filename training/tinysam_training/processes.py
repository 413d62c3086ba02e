"""Processes that do the work of a processor while a GPU trains."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Made = TypeVar("Made")

#: With fewer cores the training itself needs them all.
_LEAST_CORES = 4


def side_by_side(
    function: Callable[[Item], Made], items: Iterable[Item], device: torch.device
) -> Iterator[Made]:
    """Call a function for each item, in several processes if a GPU trains.

    Parameters
    ----------
    function : callable
        Of a module, with neither torch nor threads in it: a forked process must not use them.
    items : iterable
    device : torch.device
        Of the training. On a processor, which trains with all its cores, this is `map`.

    Yields
    ------
    object
        The results, in order.
    """
    pool = _pool() if device.type == "cuda" else None
    if pool is None:
        yield from map(function, items)
        return
    items = list(items)
    done = 0
    try:
        for made in pool.map(function, items):
            yield made
            done += 1
    except BrokenProcessPool:  # a process was killed
        _pool.cache_clear()
        yield from map(function, items[done:])


@cache
def _pool() -> ProcessPoolExecutor | None:
    cores = os.cpu_count() or 1
    # Other ways to start a process would import everything again, minutes after the start.
    if cores < _LEAST_CORES or "fork" not in multiprocessing.get_all_start_methods():
        return None
    return ProcessPoolExecutor(cores - 2, multiprocessing.get_context("fork"))
