"""Processes by number and start time: a number alone may belong to another process now."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from default_model.state import RefusedError, write_json

Condition = Literal["running", "paused", "gone"]


@dataclass(frozen=True)
class ProcessRecord:
    """One process, never mistaken for a later one of the same number.

    Attributes
    ----------
    pid : int
    begun : str
        When it began, as the system writes it.
    """

    pid: int
    begun: str

    @classmethod
    def of(cls, pid: int) -> ProcessRecord | None:
        """Describe a running process; None if there is none."""
        found = _looked_up(pid)
        return None if found is None else cls(pid, found[1])

    @classmethod
    def read(cls, path: Path) -> ProcessRecord | None:
        """Read a record; None if there is none.

        Raises
        ------
        RefusedError
            If the file is damaged.
        """
        try:
            content = json.loads(path.read_text("utf-8"))
            return cls(int(content["pid"]), str(content["begun"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RefusedError(
                f"{path} cannot be read, so it is unknown whether a training runs. "
                "Delete the file if none does."
            ) from error

    def write(self, path: Path) -> None:
        """Write the record."""
        write_json(path, asdict(self))

    @property
    def condition(self) -> Condition:
        """Whether it runs, is paused, or has ended."""
        found = _looked_up(self.pid)
        if found is None or found[1] != self.begun:
            return "gone"
        return "paused" if found[0] in "Tt" else "running"


def _looked_up(pid: int) -> tuple[str, str] | None:
    """Return state and start of a process; None if it has ended, even if it is a zombie."""
    if Path("/proc/self/stat").exists():
        try:
            text = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()  # the name may contain anything
        state, begun = fields[0], fields[19]
    else:
        asked = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
        said = subprocess.run(asked, capture_output=True, text=True, check=False)
        state, _, begun = said.stdout.strip().partition(" ")
        begun = begun.strip()
    return None if not state or state[0] in "ZXx" else (state[0], begun)
