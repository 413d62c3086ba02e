"""How long work will still take, in words."""

from __future__ import annotations


def time_left(seconds: float, done: float, total: float) -> str:
    """Say how long the rest takes, if it goes on as so far.

    Parameters
    ----------
    seconds : float
        Since the work began.
    done, total : float
        In equal steps.

    Returns
    -------
    str
        Such as "about 3 min left"; "" while nothing is known.
    """
    if done <= 0 or seconds < 2:
        return ""
    return in_words(seconds * max(total - done, 0) / done)


def in_words(seconds: float) -> str:
    """Say how long this is, roughly: "about 3 min left"."""
    if seconds < 60:
        return "less than a minute left"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min left"
    return f"about {round(seconds / 3600)} h left"
