"""What a batch asks of those who do its tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from napari_tinysam.batch.tasks import Answer, Identity, Task
    from napari_tinysam.inference.predictor import Predictor

#: Loads the model for a worker that has this many threads; 0 is as many as are fastest.
#: Pickled on its way to other processes.
Load = Callable[[int], "Predictor"]


class Runner(Protocol):
    """Does tasks, in any order."""

    @property
    def identity(self) -> Identity:
        """Of all its workers."""

    @property
    def has_room(self) -> bool:
        """Whether another task may be submitted now."""

    def submit(self, task: Task) -> None:
        """Give a task."""

    def wait(self) -> list[tuple[Task, Answer]]:
        """Wait until a task is done, or several; there is at least one.

        Raises
        ------
        TinySAMError
            If nobody is left to do them.
        """

    def close(self) -> None:
        """Stop all workers."""
