"""What is known of a run: its curves, why it stopped, how it ended."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinysam_training.commands.adaptation import Adaptation

#: Before and after; None where it was not measured.
Pair = tuple[float | None, float | None]

#: Less free space than this on the disk explains why a run ended.
_LITTLE_SPACE = 200_000_000


@dataclass
class Curve:
    """What is known of a run so far.

    Attributes
    ----------
    losses : list of (float, float)
        Progress from 0 to 1, and the loss there.
    scores : list of (float, float)
        Progress, and the mean figure on held-out images there; the first is the start's.
    """

    losses: list[tuple[float, float]] = field(default_factory=list)
    scores: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Adapted:
    """How a run ended.

    Attributes
    ----------
    text, caveat : str
        In sentences.
    model : str
        The new model's file; "" if the model as it is stays.
    name : str
        As the user called it.
    figures : dict
        On held-out images, before and after, by their names. After is None where there is no other
        model.
    comparison : Path or None
        The folder of held-out images and what both models see in them.
    table : dict
        All figures, as `figures`.
    remark : str
        What is to be said beside the figures, in sentences.
    held_out : int
        How many images the figures are from.
    """

    text: str
    model: str = ""
    name: str = ""
    figures: dict[str, Pair] = field(default_factory=dict)
    comparison: Path | None = None
    caveat: str = ""
    table: dict[str, Pair] = field(default_factory=dict)
    remark: str = ""
    held_out: int = 0


def adapted(run: Adaptation, end: Mapping[str, Any]) -> Adapted:
    """Read from its last event how a run ended."""
    text = str(end.get("text", ""))
    if end["event"] == "failed":
        text = f"Adapting failed. {text}"
    return Adapted(
        text,
        str(end.get("model", "")),
        run.order().name,
        _pairs(end.get("figures", {})),
        run.comparison if run.comparison.is_dir() else None,
        str(end.get("caveat", "")),
        _pairs(end.get("table", {})),
        str(end.get("remark", "")),
        int(end.get("held_out", 0)),
    )


def last_event(run: Adaptation) -> dict[str, Any]:
    """Return the last that happened; empty if nothing has."""
    events, _ = run.events()
    return events[-1] if events else {}


def why_interrupted(run: Adaptation) -> str:
    """Say why a run has not ended."""
    last = last_event(run)
    if last.get("event") == "stopped":
        return f"Adapting stopped: {last.get('text', '')}"
    if last.get("event") == "paused":
        return "Adapting was paused when napari was closed."
    try:
        if shutil.disk_usage(run.path).free < _LITTLE_SPACE:
            return "Adapting stopped: the disk is full. Free some space, then resume."
    except OSError:
        pass
    return "Adapting was interrupted; it can go on from where it was."


def _pairs(plain: Mapping[str, Any]) -> dict[str, Pair]:
    return {str(name): (pair[0], pair[1]) for name, pair in dict(plain).items()}
