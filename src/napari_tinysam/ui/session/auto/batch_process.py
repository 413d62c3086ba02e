"""The process that segments files beside the viewer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class Batch(Protocol):
    """A process that is running."""

    @property
    def lines(self) -> Iterator[str]:
        """What it says, until it ends."""

    def wait(self) -> int:
        """Return its exit code when it has ended."""

    def stop(self) -> None:
        """End it."""


class BatchProcess:
    """A batch in a process that gives way to others.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.

    Raises
    ------
    OSError
        If it cannot be started.
    """

    def __init__(self, command: Sequence[str]) -> None:
        options: dict[str, Any] = {}
        command = list(command)
        if sys.platform == "win32":
            options["creationflags"] = (
                subprocess.BELOW_NORMAL_PRIORITY_CLASS | subprocess.CREATE_NO_WINDOW
            )
        elif (nice := shutil.which("nice")) is not None:
            command = [nice, "-n", "10", *command]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            **options,
        )

    @property
    def lines(self) -> Iterator[str]:
        """What it says, until it ends."""
        assert self._process.stderr is not None
        with self._process.stderr as said:
            yield from said

    def wait(self) -> int:
        """Return its exit code when it has ended."""
        return self._process.wait()

    def stop(self) -> None:
        """End it: what is not finished is not written."""
        self._process.terminate()
