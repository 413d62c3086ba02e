"""The process that adapts a model: it goes on when napari is closed, or killed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Starts the work on the folder of an adaptation; returns what tells whether it still runs.
Start = Callable[[Path], Callable[[], bool]]


def start_process(folder: Path) -> Callable[[], bool]:
    """Start ``napari-tinysam adapt`` for a folder, in a process that gives way to others.

    What it prints goes into ``log.txt`` there: a pipe would end with this process.

    Returns
    -------
    callable
        Whether it still runs.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    command = [sys.executable, "-m", "napari_tinysam", "adapt", str(folder)]
    options: dict[str, Any] = {}
    if sys.platform == "win32":
        options["creationflags"] = (
            subprocess.BELOW_NORMAL_PRIORITY_CLASS
            | subprocess.CREATE_NO_WINDOW
            | subprocess.CREATE_NEW_PROCESS_GROUP
        )
    else:
        options["start_new_session"] = True  # closing a terminal does not end it
        if (nice := shutil.which("nice")) is not None:
            command = [nice, "-n", "10", *command]
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
        )
    return lambda: process.poll() is None
