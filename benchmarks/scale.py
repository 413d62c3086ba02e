"""What a batch costs: time and memory by pixels, objects and workers. The tables of docs/scale.md.

``python -m benchmarks.scale`` segments fields of nuclei as the workers of a batch do, task by task,
with one thread, and notes what each kind of task takes. Of planes with more than ``--searched``
tiles only so many are really searched; the others get the true nuclei, so that joining, labelling
and writing have all their work. Then it times tasks of a Dask scheduler that do nothing, and
simulates more workers.

``--pairs 8192`` times the command itself on one slide with one worker on one core, and with two
workers on two; ``--pairs 512 --images 200`` on so many small images.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.fields import Field, write_images, write_slide
from napari_tinysam.batch.jobs import jobs_for
from napari_tinysam.batch.run import segment_files
from napari_tinysam.batch.runners.here import Here
from napari_tinysam.batch.settings import BatchSettings
from napari_tinysam.batch.tasks import Answer, Choosing, InTiles, Task, TilesMade
from napari_tinysam.batch.work import Worker
from napari_tinysam.files.tables import markdown_table
from napari_tinysam.inference.load import load_model

#: Tiles that a task searches at most, and least number of tasks of a slide.
_AT_ONCE, _LEAST_TASKS = 4, 32


class Cost(NamedTuple):
    """What a slide costs one thread, in seconds of the processor unless it says otherwise."""

    side: int
    objects: int
    tiles: int
    tile_side: int
    left: int  # tiles that the choice of their side left to be searched
    load: float
    begin: float
    choice: float  # of the tiles' side
    samples: int  # tasks of the choice
    rounds: int  # times that the choice had to wait for them
    tile: float
    finish: float
    wall: float
    memory: float  # MB
    kept: float  # MB on disk while it is not finished


# --- measuring ------------------------------------------------------------------------------------


class Timed(Worker):
    """Notes what each task takes; searches some tiles only."""

    truth: Field
    searched: int
    spent: list[tuple[str, float]]
    seen: int
    tiles, tile_side, left, samples, rounds = 1, 0, 1, 0, 0

    def perform(self, task: Task) -> Answer:
        """Do a task, and note its kind and its seconds."""
        begun = time.process_time()
        answer = super().perform(task)
        kind = "begin"
        if task.side is not None or isinstance(answer, Choosing):
            kind = "choice"
        elif task.tiles:
            kind = "tiles"
        elif task.plane is None and task.plan:
            kind = "finish"
        self.spent.append((kind, time.process_time() - begun))
        self.rounds += isinstance(answer, Choosing)
        self.samples += task.side is not None
        if isinstance(answer, InTiles):
            self.tiles, self.left = answer.count, sum(map(len, answer.missing))
            answer = self._some(task, answer)
        if isinstance(answer, TilesMade) and task.side is None:
            self.seen += len(task.tiles or ())
        return answer

    def _some(self, task: Task, answer: InTiles) -> InTiles:
        """Leave out most tiles, evenly; the true nuclei are kept for them."""
        groups = len(answer.missing)
        each = max(1, len(answer.missing[0])) if groups else 1
        wanted = max(1, min(groups, self.searched // each))
        chosen = set(np.linspace(0, groups - 1, wanted).astype(int).tolist())
        assert task.plan is not None
        large = self._large_plane(task.plan, 0)
        grid = large._plan.grid
        self.tile_side = grid.side
        looks = list(grid)
        for number in range(groups):
            if number in chosen:
                continue
            for tile in answer.missing[number]:
                large._parts.keep(grid, tile, self.truth.nuclei(looks[tile]))
        left = tuple(answer.missing[number] for number in sorted(chosen))
        return InTiles(left, answer.count)


def measure(side: int, searched: int, model: str) -> Cost:
    """Segment a field of nuclei of this side with one thread."""
    truth = Field(side)
    begun, wall = time.process_time(), time.perf_counter()
    predictor = load_model(model, threads=1)
    predictor.encode(np.eye(64, dtype=np.uint8))
    load = time.process_time() - begun
    worker = Timed(predictor, BatchSettings(labels_form="ome-zarr"))
    worker.truth, worker.searched, worker.spent, worker.seen = truth, searched, [], 0
    kept = [0.0]
    with tempfile.TemporaryDirectory() as temporary:
        image = write_slide(Path(temporary) / "slide.ome.zarr", truth)
        out = Path(temporary) / "out"
        out.mkdir()

        def note(*_: Any) -> None:
            files = (out / ".tinysam-planes").rglob("*")
            kept[0] = max(
                kept[0], sum(f.stat().st_size for f in files if f.is_file()) / 2**20
            )

        wall = time.perf_counter()
        (outcome,) = segment_files(jobs_for([image], out), Here(worker), on_step=note)
        wall = time.perf_counter() - wall
    if outcome.state != "written":
        sys.exit(outcome.reason)
    of = {
        kind: [s for one, s in worker.spent if one == kind]
        for kind in ("begin", "choice", "tiles", "finish")
    }
    each = sum(of["tiles"]) / worker.seen if worker.seen else sum(of["begin"])
    begin = sum(of["begin"]) if worker.seen else 0.0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cost(
        side,
        outcome.objects,
        worker.tiles,
        worker.tile_side,
        worker.left,
        load,
        begin,
        sum(of["choice"]),
        worker.samples,
        worker.rounds,
        each,
        sum(of["finish"]),
        wall,
        memory,
        kept[0],
    )


def overhead(count: int = 400) -> float:
    """Return the seconds that a Dask scheduler needs for a task that does nothing."""
    from distributed import Client, LocalCluster, as_completed

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        client.submit(int, 0).result()
        begun = time.perf_counter()
        done = as_completed([client.submit(int, n, pure=False) for n in range(2)])
        for n in range(2, count):
            next(done)
            done.add(client.submit(int, n, pure=False))
        return (time.perf_counter() - begun) / count


# --- simulating -----------------------------------------------------------------------------------


@dataclass(order=True)
class _Event:
    time: float
    kind: str
    slide: int
    tiles: int = 0


def simulate(cost: Cost, workers: int, slides: int, dispatch: float) -> float:
    """Return the seconds that a number of workers need, each with a core of its own.

    A task begins when a worker is free, what it waits for is done, and the scheduler, which
    dispatches one after the other, has come to it. What is begun is finished first.
    """
    running = [_Event(cost.load, "loaded", -1) for _ in range(workers)]
    waiting: deque[_Event] = deque()
    left: dict[int, int] = {}  # tiles or samples of slides that are not done
    rounds: dict[int, int] = {}
    begun = idle = 0
    now = scheduler = 0.0
    most = min(_AT_ONCE, max(1, cost.left // _LEAST_TASKS))
    groups = [min(most, cost.left - n) for n in range(0, cost.left, most)]
    samples = round(cost.samples / max(1, cost.rounds))
    sample = cost.choice / max(1, samples * cost.rounds)
    seconds = {"begin": cost.begin, "finish": cost.finish, "sample": sample}
    while running:
        event = heapq.heappop(running)
        now = event.time
        idle += 1
        slide = event.slide
        if event.kind == "begin":
            rounds[slide], left[slide] = cost.rounds, 0
        elif event.kind in ("tiles", "sample"):
            left[slide] -= event.tiles
        if event.kind not in ("loaded", "finish") and not left[slide]:
            if rounds[slide] > 0:
                left[slide] = samples
                waiting.extendleft(
                    _Event(0, "sample", slide, 1) for _ in range(samples)
                )
            elif rounds[slide] == 0:
                left[slide] = cost.left
                waiting.extendleft(_Event(0, "tiles", slide, n) for n in groups)
            else:
                waiting.appendleft(_Event(0, "finish", slide))
            rounds[slide] -= 1
        while idle and (waiting or begun < slides):
            task = waiting.popleft() if waiting else _Event(0, "begin", begun)
            begun += task.kind == "begin"
            idle -= 1
            scheduler = max(scheduler, now) + dispatch
            task.time = scheduler + seconds.get(task.kind, cost.tile * task.tiles)
            heapq.heappush(running, task)
    return now


# --- printing -------------------------------------------------------------------------------------


def pairs(side: int, images: int, model: str) -> None:
    """Time the command on one slide, or on small images, with one worker and with two.

    Each run has as many cores as workers, unless it says otherwise: a single worker with all cores
    would use more than one, because reading and writing have threads of their own.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("Two cores are needed.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if images:
            many = write_images(folder / "images", Field(8 * side), side, images)
            what = f"{images} images of {side}² pixels"
        else:
            many = folder / "images"
            many.mkdir()
            write_slide(many / "slide.ome.zarr", Field(side))
            what = f"one slide of {side:,}² pixels"
        few = write_images(folder / "few", Field(1024), 512, 2)

        def run(source: Path, workers: int, own: int) -> float:
            command = [sys.executable, "-m", "napari_tinysam", "auto", str(source)]
            command += ["-o", str(folder / f"{source.name}-{workers}-{own}")]
            command += ["--model", model, "--workers", str(workers)]
            begun = time.perf_counter()
            subprocess.run(
                command,
                check=True,
                capture_output=True,
                preexec_fn=lambda: os.sched_setaffinity(0, cores[:own]),
            )
            return time.perf_counter() - begun

        run(few, 2, 2)  # the model's files are in memory from here on
        rows, first = [], 0.0
        for workers, own in ((1, 1), (1, 2), (2, 2)):
            spent = run(many, workers, own)
            first = first or spent
            rows.append([workers, own, f"{spent:.1f} s", f"{first / spent:.2f} ×"])
    say(f"\nThe command on {what}:\n")
    say(markdown_table(["workers", "cores", "time", "faster"], rows))


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--sides", type=int, nargs="*", default=[1024, 4096, 16384])
    parser.add_argument("--searched", type=int, default=40, metavar="TILES")
    parser.add_argument("--pairs", type=int, metavar="SIDE")
    parser.add_argument("--images", type=int, default=0, metavar="COUNT")
    parser.add_argument("--one", type=int, metavar="SIDE", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        say(json.dumps(measure(chosen.one, chosen.searched, chosen.model)))
        return
    if chosen.pairs:
        pairs(chosen.pairs, chosen.images, chosen.model)
        return
    costs = []
    for side in chosen.sides:  # each in a process of its own, for its memory
        command = [sys.executable, "-m", "benchmarks.scale", "--one", str(side)]
        command += ["--searched", str(chosen.searched), "--model", chosen.model]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        costs.append(Cost(*json.loads(done.stdout.splitlines()[-1])))
    say("One worker with one thread, in seconds of the processor:\n")
    head = [
        "plane",
        "Mpx",
        "objects",
        "tiles",
        "their side",
        "open",
        "choose the side",
        "a tile",
        "the other tiles",
        "join and write",
    ]
    rows = [
        [
            f"{c.side:,}²",
            f"{c.side**2 / 1e6:,.0f}",
            f"{c.objects:,}",
            c.tiles,
            c.tile_side or "–",
            f"{c.begin:.1f}",
            f"{c.choice:.1f}",
            f"{c.tile:.2f}",
            f"{c.tile * c.left:,.0f}",
            f"{c.finish:.1f}",
            f"{c.memory:,.0f} MB",
            f"{c.kept:.1f} MB",
        ]
        for c in costs
    ]
    say(markdown_table([*head, "memory", "kept on disk meanwhile"], rows))
    load = statistics.median(c.load for c in costs)
    dispatch = overhead()
    say(
        f"\nLoading the model: {load:.1f} s. A task of the scheduler: {dispatch * 1000:.1f} ms.\n"
    )
    say("Simulated, each worker with a core of its own:\n")
    counts = [1, 2, 8, 16, 32, 64, 256]
    rows = []
    for c in costs:
        for slides in (1, 100):
            times = [simulate(c, n, slides, dispatch) for n in counts]
            name = f"{slides} × {c.side:,}²"
            rows.append([name, *(f"{t:,.0f} s, {times[0] / t:.1f} ×" for t in times)])
    say(
        markdown_table(
            ["images", *(f"{n} worker{'s' * (n > 1)}" for n in counts)], rows
        )
    )
    c = costs[-1]
    core = (c.begin + c.choice + c.tile * c.left + c.finish) / 3600
    tasks = 2 + c.samples + c.rounds + -(-c.tiles // _AT_ONCE)
    say(
        f"\nA million slides of {c.side:,}²: {core * 1e6:,.0f} hours of one core, "
        f"{core * 1e6 / 1000 / 24:,.0f} days on 1,000 cores; {tasks * 1e6:,.0f} tasks, "
        f"{tasks * 1e6 * dispatch / 86400:,.1f} days of one scheduler, which keeps "
        f"{c.tile * _AT_ONCE / dispatch:,.0f} workers busy."
    )
    names = [Path(f"/slides/{n}.tif") for n in range(100_000)]
    begun = time.process_time()
    made = jobs_for(names, Path("/out"))
    say(f"The list of {len(made):,} jobs takes {time.process_time() - begun:.1f} s.")


if __name__ == "__main__":
    main()
