"""Tasks are done by several processes of this computer, which share its cores.

A process that ends in the middle, because memory ran out or somebody killed it, is replaced, and
its task counts as failed: the batch tries it once more.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from napari_tinysam.batch.tasks import Failed
from napari_tinysam.batch.work import Worker
from napari_tinysam.errors import TinySAMError, sentence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from napari_tinysam.batch.runners.protocol import Load
    from napari_tinysam.batch.settings import BatchSettings
    from napari_tinysam.batch.tasks import Answer, Identity, Task

#: Libraries read these when they are imported. With more threads than cores, those of BLAS wait
#: actively in the way of the other processes: two were 1.2 times as fast as one, not 1.7 times.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_DIED = "The process that worked on it was killed, or its memory ran out."


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(eq=False)
class _Member:
    process: Any
    connection: Connection
    task: Task | None = None
    greeted: bool = False


class Processes:
    """The runner of several processes, each with a model of its own.

    Parameters
    ----------
    count : int
        How many.
    load, settings, stems
        See `Load` and `Worker`.
    threads : int
        Of all processes together; 0 takes the cores of the computer.
    at_once : bool
        Whether the model is prepared for this computer, so that all may load it at once. Otherwise
        the first prepares it for the others.

    Raises
    ------
    TinySAMError
        If the model cannot be loaded.
    """

    def __init__(
        self,
        count: int,
        load: Load,
        settings: BatchSettings,
        stems: frozenset[str],
        threads: int = 0,
        *,
        at_once: bool = False,
    ) -> None:
        each = max(1, (threads or usable_cores()) // count)
        self._made_of = load, settings, stems, each
        self._context = multiprocessing.get_context("spawn")
        self._members: list[_Member] = []
        self._identity: Identity | None = None
        self._lost_at_start = 0
        try:
            for _ in range(count if at_once else 1):
                self._start()
            while not any(member.greeted for member in self._members):
                self._listen()
            for _ in range(count - len(self._members)):
                self._start()
        except BaseException:
            self.close()
            raise

    @property
    def identity(self) -> Identity:
        """Of the first; all load the same model on the same computer."""
        assert self._identity is not None
        return self._identity

    @property
    def process_ids(self) -> list[int]:
        """Of the processes that live now."""
        return [member.process.pid for member in self._members]

    @property
    def has_room(self) -> bool:
        """Whether a process has nothing to do."""
        return any(member.task is None for member in self._members)

    def submit(self, task: Task) -> None:
        """Give a task to a process that has none; one that is ready, if there is one."""
        idle = [member for member in self._members if member.task is None]
        member = max(idle, key=lambda member: member.greeted)
        member.task = task
        with suppress(OSError):  # it died; `wait` finds that out
            member.connection.send(task)

    def wait(self) -> list[tuple[Task, Answer]]:
        """Wait until a task is done or lost."""
        done: list[tuple[Task, Answer]] = []
        while not done:
            done = self._listen()
        return done

    def close(self) -> None:
        """End the processes; what they have not finished is not written."""
        for member in self._members:
            member.process.terminate()
        for member in self._members:
            member.process.join()
            member.connection.close()
        self._members = []

    def _start(self) -> _Member:
        here, there = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(there, *self._made_of), daemon=True
        )
        with _threads_in_environment(self._made_of[-1]):
            process.start()
        there.close()  # or the end of the process would not be seen
        member = _Member(process, here)
        self._members.append(member)
        return member

    def _listen(self) -> list[tuple[Task, Answer]]:
        """Wait until a process says something, or ends."""
        ready = wait([member.connection for member in self._members])
        done: list[tuple[Task, Answer]] = []
        for member in [one for one in self._members if one.connection in ready]:
            done += self._hear(member)
        return done

    def _hear(self, member: _Member) -> list[tuple[Task, Answer]]:
        """Receive what a process says; replace it if it is gone."""
        try:
            said = member.connection.recv()
        except (EOFError, OSError):
            return self._replace(member)
        if isinstance(said, str):
            raise TinySAMError(said)
        if not member.greeted:
            member.greeted = True
            if self._identity not in (
                None,
                said,
            ):  # installed anew while this run goes on
                raise TinySAMError(
                    "A process has another model or version than the others; run the same command "
                    "again to continue."
                )
            self._identity = said
            self._lost_at_start = 0
            return []
        task, member.task = member.task, None
        return [] if task is None else [(task, said)]

    def _replace(self, member: _Member) -> list[tuple[Task, Answer]]:
        self._members.remove(member)
        member.process.join()
        member.connection.close()
        self._lost_at_start += not member.greeted
        if self._lost_at_start > 2:
            raise TinySAMError(
                "The processes end before they have loaded the model, perhaps because memory runs "
                "out: use fewer --workers."
            )
        self._start()
        return [] if member.task is None else [(member.task, Failed(_DIED))]


@contextmanager
def _threads_in_environment(count: int) -> Iterator[None]:
    """Let processes that are started meanwhile have this number of threads."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(
    connection: Connection,
    load: Load,
    settings: BatchSettings,
    stems: frozenset[str],
    threads: int,
) -> None:
    """Do the tasks that come, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches the whole group
    try:
        try:
            worker = Worker(load(threads), settings, stems)
        except Exception as error:  # noqa: BLE001  # said by the process that asked
            connection.send(sentence(error))
            return
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
        connection.send(worker.identity)
        while True:
            connection.send(worker.perform(connection.recv()))
    except (EOFError, OSError):
        return  # the batch has ended
