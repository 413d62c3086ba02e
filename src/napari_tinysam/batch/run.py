"""Segment many image files: all objects of each, as labels, a table and a picture.

The work is a list of tasks that a runner does in any order: in this process, in several, or on a
cluster. A second run of the same jobs goes on where the first one stopped, because files, planes
and tiles that are done are recognised by content and settings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_tinysam.batch.settings import FileOutcome
from napari_tinysam.batch.tasks import (
    Answer,
    Choosing,
    Failed,
    InTiles,
    Plan,
    PlaneMade,
    Task,
    TilesMade,
)

if TYPE_CHECKING:
    from napari_tinysam.batch.jobs import Job
    from napari_tinysam.batch.runners.protocol import Runner

#: Called with a job, how much of it is done, of how much, and in which unit: plane or tile.
OnStep = Callable[["Job", int, int, str], None]


def segment_files(
    jobs: Sequence[Job],
    runner: Runner,
    *,
    on_step: OnStep = lambda job, done, total, unit: None,
) -> Iterator[FileOutcome]:
    """Segment files.

    Parameters
    ----------
    jobs : sequence of Job
    runner : Runner
        Does the tasks; the caller closes it.
    on_step : callable
        Called after each plane, and after each few tiles of a large one: see `OnStep`.

    Yields
    ------
    FileOutcome
        For each file, in the order of `jobs`. A task that fails is tried once more; a file that
        fails does not stop the others.
    """
    board = _Board(jobs, on_step)
    for number in range(len(jobs)):
        while number not in board.outcomes:
            while runner.has_room and (task := board.next_task()) is not None:
                runner.submit(task)
            for task, answer in runner.wait():
                board.take(task, answer)
        yield board.outcomes.pop(number)


@dataclass
class _Tiles:
    """How many tiles a plane has, and how many are searched."""

    count: int
    done: int


class _Board:
    """Which tasks wait, and which files are done.

    Attributes
    ----------
    outcomes : dict of int to FileOutcome
        Of the files that are done, by their numbers, until the caller takes them.
    """

    def __init__(self, jobs: Sequence[Job], on_step: OnStep) -> None:
        self._jobs = jobs
        self._on_step = on_step
        self._begun = 0
        self._waiting: deque[Task] = deque()
        self._tried: set[tuple[Any, ...]] = set()
        self._left: dict[int, int] = {}  # planes to be segmented
        self._tiles: dict[tuple[int, int], _Tiles] = {}  # of files and planes
        self._samples: dict[
            tuple[int, int], int
        ] = {}  # likewise, that are not searched yet
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
        if number in self._settled:  # another part of the file failed
            return
        if isinstance(answer, Failed):
            self._failed(task, answer.reason)
            return
        self._tried.discard(task.name)
        if isinstance(answer, Plan):
            self._planned(number, answer)
        elif isinstance(answer, Choosing):
            self._choosing(task, answer)
        elif isinstance(answer, InTiles):
            self._cut(task, answer)
        elif isinstance(answer, TilesMade) and task.side is not None:
            self._sample_done(task)
        elif isinstance(answer, TilesMade):
            self._tiles_done(task)
        elif isinstance(answer, PlaneMade):
            self._left[number] -= 1
            self._plane_done(task)
        else:
            if task.plan is None and answer.state != "failed":
                self._on_step(task.job, 1, 1, "plane")
            self._settle(number, answer)

    def _planned(self, number: int, plan: Plan) -> None:
        self._left[number] = len(plan.missing)
        tasks = [Task(number, plan.job, plan, plane) for plane in plan.missing]
        self._waiting.extend(tasks or [Task(number, plan.job, plan)])

    def _plane_done(self, task: Task) -> None:
        number, plan = task.number, task.plan
        assert plan is not None
        left = self._left[number]
        self._on_step(plan.job, plan.planes - left, plan.planes, "plane")
        if not left:
            self._waiting.appendleft(Task(number, plan.job, plan))

    def _choosing(self, task: Task, answer: Choosing) -> None:
        """Search some tiles, then ask again which tiles the plane has."""
        assert task.plane is not None
        self._samples[task.number, task.plane] = len(answer.missing)
        parts = [replace(task, tiles=(n,), side=answer.side) for n in answer.missing]
        self._waiting.extendleft(reversed(parts))

    def _sample_done(self, task: Task) -> None:
        assert task.plane is not None
        which = task.number, task.plane
        self._samples[which] -= 1
        if not self._samples[which]:
            self._waiting.appendleft(replace(task, tiles=None, side=None))

    def _cut(self, task: Task, found: InTiles) -> None:
        """Search the tiles of a plane before the next plane."""
        assert task.plane is not None
        tiles = _Tiles(found.count, found.count - sum(map(len, found.missing)))
        self._tiles[task.number, task.plane] = tiles
        parts = [replace(task, tiles=some) for some in found.missing]
        self._waiting.extendleft(reversed(parts or [self._joining(task)]))

    def _tiles_done(self, task: Task) -> None:
        assert task.plan is not None
        assert task.plane is not None
        assert task.tiles is not None
        tiles = self._tiles[task.number, task.plane]
        tiles.done += len(task.tiles)
        planes = task.plan.planes
        before = (planes - self._left[task.number]) * tiles.count
        self._on_step(task.plan.job, before + tiles.done, planes * tiles.count, "tile")
        if tiles.done == tiles.count:
            self._waiting.appendleft(self._joining(task))

    def _joining(self, task: Task) -> Task:
        """Return what follows when all tiles of a plane are made; a single plane is written."""
        assert task.plan is not None
        if task.plan.planes == 1:
            return Task(task.number, task.plan.job, task.plan)
        return replace(task, tiles=())

    def _failed(self, task: Task, reason: str) -> None:
        if task.name not in self._tried:
            self._tried.add(task.name)
            self._waiting.appendleft(task)
            return
        if task.plane is not None and task.plan is not None and task.plan.planes > 1:
            reason = f"plane {task.plane}: {reason}"
        job = task.job if task.plan is None else task.plan.job
        self._settle(task.number, FileOutcome(job, "failed", reason=reason))

    def _settle(self, number: int, outcome: FileOutcome) -> None:
        self.outcomes[number] = outcome
        self._settled.add(number)
