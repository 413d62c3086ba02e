"""How long the user worked on each object: the time between what they do, without long pauses."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

#: A pause longer than this many seconds is no work.
_PAUSE = 60.0

#: Objects whose time is kept.
_KEPT = 1000


class WorkTime:
    """Adds up the time of work on objects.

    Parameters
    ----------
    clock : callable
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: float | None = None
        self._spent: OrderedDict[Hashable, float] = OrderedDict()

    def passed(self) -> float:
        """Return the seconds since the last call: 0 for the first one, and after a pause."""
        now, last = self._clock(), self._last
        self._last = now
        return 0.0 if last is None or now - last > _PAUSE else now - last

    def spend(self, key: Hashable, seconds: float) -> None:
        """Add to the time of an object."""
        self._spent[key] = self._spent.pop(key, 0.0) + seconds
        while len(self._spent) > _KEPT:
            self._spent.popitem(last=False)

    def take(self, key: Hashable) -> float:
        """Return the time of an object, and forget it."""
        return self._spent.pop(key, 0.0)
