"""Tasks are done in this process, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_tinysam.batch.tasks import Answer, Identity, Task
    from napari_tinysam.batch.work import Worker


class Here:
    """The runner of a single process.

    Parameters
    ----------
    worker : Worker
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._task: Task | None = None

    @property
    def identity(self) -> Identity:
        """Of the worker."""
        return self._worker.identity

    @property
    def has_room(self) -> bool:
        """Whether another task may be submitted now."""
        return self._task is None

    def submit(self, task: Task) -> None:
        """Give a task."""
        self._task = task

    def wait(self) -> list[tuple[Task, Answer]]:
        """Do the task."""
        task, self._task = self._task, None
        return [] if task is None else [(task, self._worker.perform(task))]

    def close(self) -> None:
        """Do nothing: the process goes on."""
