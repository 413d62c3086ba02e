"""The progress of a training in the background."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from default_model.columns import in_columns
from default_model.processes import ProcessRecord
from default_model.state import RefusedError

if TYPE_CHECKING:
    from default_model.state import State

#: Steps that a mean is taken over.
_RECENT = 50

_NO_LOSSES = ("step", "seconds", "rate", "norm")


def status(state: State) -> str:
    """Report state, progress, losses and validations.

    Raises
    ------
    RefusedError
        If no training was ever started, or its files are damaged.
    """
    orders = state.orders()
    if orders is None:
        raise RefusedError("No training was started on this machine yet.")
    record = ProcessRecord.read(state.process)
    condition = "gone" if record is None else record.condition
    rows = _table(state.run / "log.csv")
    lines = [
        "stopped"
        if condition == "gone"
        else f"{condition}, process {record.pid if record else 0}",
        f"commit {orders.commit[:10]}, {orders.threads} threads, data {orders.data}",
    ]
    if condition == "gone" and (said := state.last_words()):
        lines.append(f"last line of its log: {said}")
    lines += _steps(state.run, rows)
    lines += _validations(_table(state.run / "validation.csv"))
    return "\n".join(lines)


def _steps(run: Path, rows: list[dict[str, float]]) -> list[str]:
    if not rows:
        return ["no step done yet"]
    try:
        recipe = yaml.safe_load((run / "recipe.yaml").read_text("utf-8"))
        steps, minutes = int(recipe["steps"]), float(recipe["minutes"])
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise RefusedError(f"{run / 'recipe.yaml'} cannot be read.") from error
    done, last = int(rows[-1]["step"]), rows[-_RECENT:]
    spent = rows[-1]["seconds"]
    left = 60 * minutes - spent
    if steps:
        before = (
            rows[-_RECENT - 1] if len(rows) > _RECENT else {"step": 0, "seconds": 0}
        )
        pace = (spent - before["seconds"]) / max(done - before["step"], 1)
        left = min((steps - done) * pace, left) if minutes else (steps - done) * pace
    whole = f" of {steps:,}"
    if not steps:
        whole = f", {spent / 60:.0f} of {minutes:.0f} minutes"
    names = [n for n in last[-1] if n not in _NO_LOSSES and n in last[0]]
    means = {n: sum(row.get(n, 0.0) for row in last) / len(last) for n in names}
    losses = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
    return [
        f"step {done:,}{whole}",
        f"mean of the last {len(last)} steps: {losses}",
        "finished" if left <= 0 else f"time left at this pace: {_duration(left)}",
    ]


def _validations(rows: list[dict[str, float]]) -> list[str]:
    if not rows:
        return ["not validated yet"]
    names = ["step", *(n for n in rows[-1] if n not in ("step", "seconds"))]
    cells = [names] + [
        [
            f"{row['step']:.0f}",
            *(f"{row[n]:.3f}" if n in row else "–" for n in names[1:]),
        ]
        for row in rows
    ]
    return in_columns(cells).splitlines()


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return (
        f"{minutes // 60} h {minutes % 60:02d} min"
        if minutes >= 60
        else f"{minutes} min"
    )


def _table(path: Path) -> list[dict[str, float]]:
    """Read a log, without a last row that is still being written."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return []
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise RefusedError(f"{path} cannot be read.") from error
    found = []
    for row in rows:
        try:
            values = {k: float(v) for k, v in row.items() if k and v}
        except (ValueError, TypeError):
            continue
        if "step" in values and None not in row.values():
            found.append(values)
    return found
