"""Output of commands on stderr: sentences, lines and progress bars."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tinysam_training.run.loop import Training


def note(message: str) -> None:
    """Print a sentence on one line."""
    typer.echo(" ".join(message.split()), err=True)


def say(text: str) -> None:
    """Print lines as they are: a report has columns."""
    typer.echo(text, err=True)


def counted(count: int, noun: str) -> str:
    """Return ``"1 file"`` or ``"1,234 files"``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Align the cells of rows."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def progress_bar(**options: Any) -> Any:
    """Return a tqdm bar that disappears at the end, and is silent where nobody watches."""
    from tqdm import tqdm

    return tqdm(file=sys.stderr, leave=False, **{"disable": None, **options})


def download_progress() -> Callable[[int, int], None] | None:
    """Return a callback that shows how far a download is; None where nobody watches."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        percent = f" {100 * done // total} %" if total else ""
        end = "\n" if 0 < total <= done else ""
        text = f"\rDownloading: {done / 1e6:.0f} MB{percent}{end}"
        typer.echo(text, nl=False, err=True)

    return show


class _Bar:
    """A progress bar that appears with the first report."""

    _bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        if self._bar is not None:
            self._bar.close()


class PartsBar(_Bar):
    """A progress bar for each part of some work, one after the other."""

    _part: tuple[str, int] | None = None

    def report(self, part: str, done: int, total: int) -> None:
        """Show how far a part is."""
        if (part, total) != self._part:
            self.__exit__()
            self._part = part, total
            self._bar = progress_bar(total=total, desc=part)
        self._bar.update(done - self._bar.n)


class TrainingBar(_Bar):
    """A progress bar of a training run, and sentences above it.

    In a run with several processes only the first one prints.

    Attributes
    ----------
    training : Training or None
        The run, once it has made a step.
    """

    training: Training | None = None

    def say(self, message: str) -> None:
        """Print lines above the bar."""
        if speaks():
            if self._bar is not None:
                self._bar.clear()
            say(message)

    def step(self, training: Training, figures: Mapping[str, float]) -> None:
        """Show a step."""
        self.training = training
        if self._bar is None:
            self._bar = progress_bar(
                total=1000,
                disable=None if speaks() else True,
                bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}",
            )
        self._bar.update(int(1000 * training.progress) - self._bar.n)
        best = training.best.get("score")
        shown = "" if best is None else f", best score {best:.3f}"
        text = f"step {training.steps}, loss {figures['loss']:.2f}{shown}"
        self._bar.set_postfix_str(text, refresh=False)


def speaks() -> bool:
    """Whether this is the one process of a run that talks to the user."""
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    return not getattr(rank_zero_only, "rank", 0)
