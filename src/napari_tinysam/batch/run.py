"""Segment many image files: all objects of each, as labels, a table and a picture.

The work is a list of tasks that a runner does in any order: in this process, in several, or on a
cluster. A second run of the same jobs goes on where the first one stopped, because files and planes
that are done are recognised by content and settings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from napari_tinysam.batch.settings import FileOutcome
from napari_tinysam.batch.work import Answer, Failed, Plan, PlaneMade, Task

if TYPE_CHECKING:
    from napari_tinysam.batch.jobs import Job
    from napari_tinysam.batch.runners.protocol import Runner

OnPlane = Callable[["Job", int, int], None]


def segment_files(
    jobs: Sequence[Job],
    runner: Runner,
    *,
    on_plane: OnPlane = lambda job, done, total: None,
) -> Iterator[FileOutcome]:
    """Segment files.

    Parameters
    ----------
    jobs : sequence of Job
    runner : Runner
        Does the tasks; the caller closes it.
    on_plane : callable
        Called after each plane with the job, the number of planes done, and of all planes.

    Yields
    ------
    FileOutcome
        For each file, in the order of `jobs`. A task that fails is tried once more; a file that
        fails does not stop the others.
    """
    board = _Board(jobs, on_plane)
    for number in range(len(jobs)):
        while number not in board.outcomes:
            while runner.has_room and (task := board.next_task()) is not None:
                runner.submit(task)
            for task, answer in runner.wait():
                board.take(task, answer)
        yield board.outcomes.pop(number)


class _Board:
    """Which tasks wait, and which files are done.

    Attributes
    ----------
    outcomes : dict of int to FileOutcome
        Of the files that are done, by their numbers, until the caller takes them.
    """

    def __init__(self, jobs: Sequence[Job], on_plane: OnPlane) -> None:
        self._jobs = jobs
        self._on_plane = on_plane
        self._begun = 0
        self._waiting: deque[Task] = deque()
        self._tried: set[tuple[int, bool, int | None]] = set()
        self._left: dict[int, int] = {}  # planes to be segmented
        self._settled: set[int] = set()
        self.outcomes: dict[int, FileOutcome] = {}

    def next_task(self) -> Task | None:
        """Return what to do next: finish what is begun before beginning another file."""
        while self._waiting:
            task = self._waiting.popleft()
            if task.number not in self._settled:
                return task
        if self._begun == len(self._jobs):
            return None
        self._begun += 1
        return Task(self._begun - 1, self._jobs[self._begun - 1])

    def take(self, task: Task, answer: Answer) -> None:
        """Note what became of a task."""
        number = task.number
        if number in self._settled:  # another plane of the file failed
            return
        if isinstance(answer, Failed):
            self._failed(task, answer.reason)
        elif isinstance(answer, Plan):
            self._planned(number, answer)
        elif isinstance(answer, PlaneMade):
            self._left[number] -= 1
            self._plane_done(task)
        else:
            if task.plan is None and answer.state != "failed":
                self._on_plane(task.job, 1, 1)
            self._settle(number, answer)

    def _planned(self, number: int, plan: Plan) -> None:
        self._left[number] = len(plan.missing)
        tasks = [Task(number, plan.job, plan, plane) for plane in plan.missing]
        self._waiting.extend(tasks or [Task(number, plan.job, plan)])

    def _plane_done(self, task: Task) -> None:
        number, plan = task.number, task.plan
        assert plan is not None
        left = self._left[number]
        self._on_plane(plan.job, plan.planes - left, plan.planes)
        if not left:
            self._waiting.appendleft(Task(number, plan.job, plan))

    def _failed(self, task: Task, reason: str) -> None:
        if task.name not in self._tried:
            self._tried.add(task.name)
            self._waiting.appendleft(task)
            return
        if task.plane is not None:
            reason = f"plane {task.plane}: {reason}"
        job = task.job if task.plan is None else task.plan.job
        self._settle(task.number, FileOutcome(job, "failed", reason=reason))

    def _settle(self, number: int, outcome: FileOutcome) -> None:
        self.outcomes[number] = outcome
        self._settled.add(number)
