"""Tasks are done by the workers of a Dask cluster, on this computer or on many.

Each worker loads the model once and writes results itself, so all of them and this process need
the same paths: shared storage. Dask gives the task of a worker that is gone to another one.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_tinysam.batch.tasks import Failed
from napari_tinysam.batch.work import Worker
from napari_tinysam.errors import TinySAMError, UsageError, sentence

if TYPE_CHECKING:
    from napari_tinysam.batch.runners.protocol import Load
    from napari_tinysam.batch.settings import BatchSettings
    from napari_tinysam.batch.tasks import Answer, Identity, Task

#: Tasks that wait at the scheduler for each worker, so that none waits for us.
_AHEAD = 2

#: Seconds to wait for a scheduler, for the first worker of a cluster that runs, and for the first
#: one of a cluster that is started: a queue may be long.
_REACH, _JOIN, _QUEUE = 10, 600, 7 * 86_400

#: Seconds without any worker after which that is said, and between two looks whether one is done.
_ALONE, _LOOK = 60.0, 0.02

_INSTALL = "install napari-tinysam[cluster] for that."


@dataclass(frozen=True)
class _Setup:
    """What a worker needs to begin; `run` tells runs apart."""

    run: str
    load: Load
    settings: BatchSettings
    stems: frozenset[str]


class _Refused(NamedTuple):
    """A worker that joined later is not like the others; the task was not tried."""

    address: str
    why: str


class Cluster:
    """The runner of a Dask cluster.

    Parameters
    ----------
    address : str
        Of the scheduler, such as ``tcp://10.0.0.5:8786``; or a kind of `CLUSTERS`, which is started
        and stopped with this runner.
    load, settings, stems
        See `Load` and `Worker`.
    count : int
        How many workers to start, if `address` is a kind.
    say : callable
        Called with a sentence before it waits for workers, and when one that joined later is left
        out.

    Raises
    ------
    UsageError
        If a package is missing.
    TinySAMError
        If the scheduler cannot be reached, there are no workers, or a worker lacks this version of
        the plugin or the model.
    """

    def __init__(
        self,
        address: str,
        load: Load,
        settings: BatchSettings,
        stems: frozenset[str],
        count: int = 1,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        try:
            from distributed import Client, as_completed
        except ImportError as error:
            text = f"A cluster needs the package distributed: {_INSTALL}"
            raise UsageError(text) from error
        self._setup = _Setup(uuid.uuid4().hex, load, settings, stems)
        self._say = say
        self._checked: set[str] = set()  # addresses of workers
        self._started = CLUSTERS[address](count) if address in CLUSTERS else None
        self._client: Any = None
        try:
            try:
                self._client = Client(self._started or address, timeout=_REACH)
            except (OSError, ValueError) as error:
                text = f"The scheduler {address} cannot be reached."
                raise TinySAMError(text) from error
            if not self._client.nthreads():
                say("Waiting for the first worker of the cluster.")
            self._identity = self._agreed()
        except BaseException:
            self.close()
            raise
        self._done: Any = as_completed()
        self._tasks: dict[str, Task] = {}

    @property
    def identity(self) -> Identity:
        """Of all workers."""
        return self._identity

    @property
    def has_room(self) -> bool:
        """Whether another task may be submitted now."""
        return len(self._tasks) < max(1, _AHEAD * len(self._workers()))

    def submit(self, task: Task) -> None:
        """Give a task to the scheduler."""
        self._check_newcomers()
        future = self._client.submit(
            _perform, self._setup, self._identity, task, pure=False
        )
        self._tasks[future.key] = task
        self._done.add(future)

    def wait(self) -> list[tuple[Task, Answer]]:
        """Wait until a task is done; also for another worker if all are gone, which is said."""
        while True:
            self._wait_for_one()
            future = next(self._done)
            task = self._tasks.pop(future.key)
            if future.status not in ("finished", "error"):
                raise TinySAMError(
                    "The connection to the scheduler was lost; run the same command to continue."
                )
            answer: Answer | _Refused
            if future.status == "finished":
                answer = future.result()
            else:
                answer = Failed(_reason(future.exception()))
            if isinstance(answer, _Refused):
                self._leave_out(answer)
            elif not (isinstance(answer, Failed) and self._check_newcomers()):
                return [(task, answer)]
            self.submit(task)  # it was not its fault

    def _wait_for_one(self) -> None:
        """Wait until a future is done."""
        seen = looked = time.monotonic()
        said = False
        while not self._done.has_ready():
            time.sleep(_LOOK)
            now = time.monotonic()
            if now - looked < min(1.0, _ALONE):
                continue
            looked = now
            if self._workers():
                seen, said = now, False
            elif now - seen > _ALONE and not said:
                said = True
                self._say(
                    "The cluster has no workers left; the run goes on when one joins, or later "
                    "with the same command."
                )

    def _workers(self) -> list[str]:
        """Return the addresses of the workers."""
        if self._client.status != "running":
            return []
        try:
            return list(self._client.nthreads())
        except OSError:  # the scheduler is gone, which `wait` says
            return []

    def _check_newcomers(self) -> bool:
        """Leave out workers that joined with another version; return whether there were some."""
        new = [address for address in self._workers() if address not in self._checked]
        if not new:
            return False
        try:
            versions = self._client.run(_version, workers=new, on_error="return")
        except OSError:  # the scheduler is gone, which `wait` says
            return False
        self._checked.update(new)
        wrong = {one: v for one, v in versions.items() if v != self._identity.version}
        for address, version in wrong.items():
            found = version if isinstance(version, str) else "none"
            self._leave_out(
                _Refused(address, f"it has another version of napari-tinysam, {found}")
            )
        return bool(wrong)

    def _leave_out(self, refused: _Refused) -> None:
        """Let a worker leave the cluster: being idle, it would take task after task."""
        if refused.address in self._workers():
            self._say(f"The worker {refused.address} is left out: {refused.why}.")
            with suppress(OSError):  # likewise
                self._client.retire_workers([refused.address], close_workers=True)

    def close(self) -> None:
        """Leave the cluster; stop it if this runner started it."""
        if self._client is not None:
            self._client.close()
        if self._started is not None:
            self._started.close()

    def _agreed(self) -> Identity:
        """Let each worker load the model, and check that all loaded the same one."""
        from napari_tinysam import __version__

        try:
            seconds = _JOIN if self._started is None else _QUEUE
            self._client.wait_for_workers(1, timeout=seconds)
        except TimeoutError as error:
            raise TinySAMError("The cluster has no workers.") from error
        versions = self._client.run(_version, on_error="return")
        for address, version in versions.items():
            if version != __version__:
                found = version if isinstance(version, str) else "none"
                raise TinySAMError(
                    f"The worker {address} has another version of napari-tinysam: {found} instead "
                    f"of {__version__}."
                )
        found = self._client.run(_identity_of_worker, self._setup, on_error="return")
        for address, answer in found.items():
            if isinstance(answer, BaseException):
                raise TinySAMError(
                    f"The worker {address} cannot load the model: {sentence(answer)}"
                )
        if len(set(found.values())) > 1:
            ids = ", ".join(sorted({identity.model_id for identity in found.values()}))
            raise TinySAMError(
                f"The workers run the model differently ({ids}), so results would depend on the "
                "worker; use --precision f32, or workers of one kind."
            )
        self._checked.update(found)
        identity: Identity = next(iter(found.values()))
        return identity


# --- on the workers ------------------------------------------------------------------------------


class _Loaded:
    """The model of a worker process, for the run that it works for."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.run = ""
        self.worker: Worker | None = None


_loaded = _Loaded()


def _version() -> str:
    from napari_tinysam import __version__

    return __version__


def _identity_of_worker(setup: _Setup, dask_worker: Any) -> Identity:
    with _loaded.lock:  # Dask fills in `dask_worker`
        return _worker_of(setup, dask_worker).identity


def _perform(setup: _Setup, expected: Identity, task: Task) -> Answer | _Refused:
    from distributed import get_worker

    here = get_worker()
    # One at a time with all threads of the worker: the model is not for several.
    with _loaded.lock:
        try:
            worker = _worker_of(setup, here)
        except Exception as error:  # noqa: BLE001  # whatever is missing, it joined later
            why = sentence(error).rstrip(".")
            return _Refused(here.address, f"it cannot load the model: {why}")
        own = worker.identity
        if own.version != expected.version:
            return _Refused(
                here.address,
                f"it has another version of napari-tinysam, {own.version}",
            )
        if own != expected:
            return _Refused(here.address, f"it runs another model, {own.model_id}")
        return worker.perform(task)


def _worker_of(setup: _Setup, dask_worker: Any) -> Worker:
    if _loaded.worker is None or _loaded.run != setup.run:
        _loaded.worker = None  # not two models at a time
        threads = int(dask_worker.state.nthreads)
        _loaded.worker = Worker(setup.load(threads), setup.settings, setup.stems)
        _loaded.run = setup.run
    return _loaded.worker


# --- clusters that are started for a run ---------------------------------------------------------


def _slurm(count: int) -> Any:
    """Start workers as jobs of Slurm, as ~/.config/dask/jobqueue.yaml describes them."""
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        text = f"Slurm needs the package dask-jobqueue: {_INSTALL}"
        raise UsageError(text) from error
    try:
        cluster = SLURMCluster()
        cluster.scale(jobs=count)
    except (ValueError, OSError, RuntimeError) as error:
        raise TinySAMError(sentence(error, "Slurm cannot be used")) from error
    return cluster


def _local(count: int) -> Any:
    """Start workers as processes of this computer."""
    from distributed import LocalCluster

    # Any free port, also beside another cluster.
    return LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=":0")


#: Kinds of clusters that can be started.
CLUSTERS: dict[str, Callable[[int], Any]] = {"slurm": _slurm, "local": _local}


def _reason(error: BaseException | None) -> str:
    if type(error).__name__ == "KilledWorker":
        return "The workers that tried it were killed, or their memory ran out."
    return sentence(error or RuntimeError("The task was lost."))
