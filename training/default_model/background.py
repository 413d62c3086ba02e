"""Start, pause, resume and stop a training in the background; never two at once."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from default_model.beginning import (
    begun_with,
    fitting_start,
    plain_recipe,
)
from default_model.code_copy import copy_code
from default_model.processes import ProcessRecord
from default_model.state import Orders, RefusedError, State
from napari_tinysam.errors import sentence
from tinysam_training.recipe import find_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Other work on the machine goes first.
NICENESS = 10

#: Seconds within which a process that cannot start has ended.
_FIRST = 2.0


def start(
    state: State,
    *,
    data: Path | None = None,
    threads: int | None = None,
    new_code: bool = False,
    recipe: Path | None = None,
) -> str:
    """Begin a training, or continue the one that is there.

    Parameters
    ----------
    state : State
    data : Path, optional
        The data root. Default: as the last time.
    threads : int, optional
        Default: as the last time, and all cores the first time.
    new_code : bool
        Whether to train with the commit that is checked out now. Otherwise a run continues with
        the code that it began with.
    recipe : Path, optional
        Of a new run. Default: the bundled model's.

    Returns
    -------
    str
        A sentence about what happens now.

    Raises
    ------
    RefusedError
        If one runs already, or there are no data.
    """
    with _alone(state):
        if running := _process(state):
            raise RefusedError(
                f"A training is {running.condition} already, as process {running.pid}."
            )
        before = state.orders()
        root = _data(data, before)
        count = threads or (before.threads if before else 0) or os.cpu_count() or 1
        goes_on = state.checkpoint.exists()
        if before is None or new_code or not goes_on or not state.code.is_dir():
            commit = copy_code(state.code)
        else:
            commit = before.commit
        if not (goes_on and state.recipe.exists()):
            _write_recipe(state, recipe or find_recipe("default"))
        state.keep(Orders(str(root), count, commit))
        record = _launched(state, root, count)
    what = "continues from its checkpoint" if goes_on else "begins"
    return (
        f"The training {what} as process {record.pid}, {count} threads, commit {commit[:10]}; "
        f"it writes to {state.folder}."
    )


def pause(state: State) -> str:
    """Halt the process, which keeps its memory. Raises `RefusedError` if none runs."""
    record = _needed(state)
    if record.condition == "paused":
        raise RefusedError(f"The training (process {record.pid}) is paused already.")
    os.kill(record.pid, signal.SIGSTOP)
    _await(record, "paused", 10)
    return f"The training (process {record.pid}) is paused."


def resume(state: State) -> str:
    """Continue a paused process. Raises `RefusedError` if there is none."""
    record = _needed(state)
    if record.condition != "paused":
        raise RefusedError(f"The training (process {record.pid}) is not paused.")
    os.kill(record.pid, signal.SIGCONT)
    return f"The training (process {record.pid}) continues."


def stop(state: State, *, patience: float = 300) -> str:
    """End the process after a checkpoint, and wait for it.

    Parameters
    ----------
    state : State
    patience : float
        Seconds to wait at most.

    Raises
    ------
    RefusedError
        If none runs, or it does not end.
    """
    record = _needed(state)
    os.kill(record.pid, signal.SIGTERM)
    os.kill(record.pid, signal.SIGCONT)  # a paused process gets no signal
    if not _await(record, "gone", patience):
        raise RefusedError(
            f"The training (process {record.pid}) did not end within {patience:.0f} seconds."
        )
    state.process.unlink(missing_ok=True)
    kept = "its checkpoint is kept" if state.checkpoint.exists() else "no step was done"
    return f"The training is stopped; {kept}."


def _process(state: State) -> ProcessRecord | None:
    """Return the process that trains, if there is one."""
    record = ProcessRecord.read(state.process)
    return None if record is None or record.condition == "gone" else record


def _needed(state: State) -> ProcessRecord:
    record = _process(state)
    if record is None:
        raise RefusedError("No training is running.")
    return record


def _await(record: ProcessRecord, wanted: str, seconds: float) -> bool:
    ends = time.monotonic() + seconds
    while record.condition != wanted:
        if time.monotonic() > ends:
            return False
        time.sleep(0.1)
    return True


def _data(given: Path | None, before: Orders | None) -> Path:
    if given is None and before is None:
        raise RefusedError(
            "Name the folder of the images the first time: --data FOLDER."
        )
    root = Path(before.data if given is None else given)  # type: ignore[union-attr]
    root = root.expanduser().absolute()
    if not root.is_dir():
        raise RefusedError(f"There is no data: {root} is not a folder.")
    return root


def _write_recipe(state: State, path: Path) -> None:
    content = plain_recipe(path)
    begun = begun_with(content, fitting_start(content))
    text = yaml.safe_dump(begun, sort_keys=False, allow_unicode=True)
    state.recipe.write_text(text, "utf-8")


def _launched(state: State, data: Path, threads: int) -> ProcessRecord:
    """Start the process, and record it before another can start."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [str(state.code / n) for n in ("src", "training")]
        ),
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # the code of a run may be older than the command line's
        "PYTHONUNBUFFERED": "1",
    }
    asked = ["nice", "-n", str(NICENESS), sys.executable]
    asked += ["-m", "napari_tinysam", "train", str(state.recipe)]
    asked += ["--data", str(data), "-o", str(state.run), "--resume"]
    with state.log.open("ab") as log:
        process = subprocess.Popen(
            asked,
            cwd=state.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    record = ProcessRecord.of(process.pid)
    if record is not None:
        record.write(state.process)
    try:
        process.wait(_FIRST)
    except subprocess.TimeoutExpired:
        assert record is not None
        # It outlives this command, which must not warn about that.
        process.returncode = 0
        return record
    state.process.unlink(missing_ok=True)
    raise RefusedError(
        f"The training ended immediately: {state.last_words() or 'no reason given'}"
    )


@contextmanager
def _alone(state: State) -> Iterator[None]:
    """Keep other commands from starting a training meanwhile."""
    try:
        state.folder.mkdir(parents=True, exist_ok=True)
        file = (state.folder / "starting.lock").open("w")
    except OSError as error:
        raise RefusedError(
            sentence(error, f"{state.folder} cannot be written to")
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RefusedError("Another command is starting a training now.") from error
        yield
