"""What a batch costs: time and memory by pixels, objects and workers. The tables of docs/scale.md.

``python -m benchmarks.scale`` segments fields of nuclei as the workers of a batch do, task by task,
with one thread, and notes what each kind of task takes. Of planes with more than ``--searched``
tiles only so many are really searched; the others get the true nuclei, so that joining, labelling
and writing have all their work. Then it times tasks of a Dask scheduler that do nothing, and
simulates more workers. ``--pairs`` times the command itself with one and two workers.
"""

from __future__ import annotations

import argparse
import heapq
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr

from benchmarks.auto_in_tiles import FIELD, NUCLEI, nuclei
from napari_tinysam.batch.jobs import jobs_for
from napari_tinysam.batch.run import segment_files
from napari_tinysam.batch.runners.here import Here
from napari_tinysam.batch.settings import BatchSettings
from napari_tinysam.batch.tasks import Answer, InTiles, Task, TilesMade
from napari_tinysam.batch.work import Worker
from napari_tinysam.everything import Proposal
from napari_tinysam.files.tables import markdown_table
from napari_tinysam.inference.load import load_model
from napari_tinysam.labels import object_masks

#: Tiles that a task searches.
_AT_ONCE = 4


class Cost(NamedTuple):
    """What a slide costs one thread, in seconds of the processor unless it says otherwise."""

    side: int
    objects: int
    tiles: int
    load: float
    begin: float
    tile: float
    finish: float
    wall: float
    memory: float  # MB
    kept: float  # MB on disk while it is not finished


# --- measuring ------------------------------------------------------------------------------------


class Field:
    """A square field of nuclei of any side, of which parts are made when they are asked for."""

    def __init__(self, side: int) -> None:
        height, self._width = FIELD
        image, labels = nuclei(max(FIELD))
        self._image, self._labels = image[:height], labels[:height]
        self.shape = side, side

    def part(self, rows: slice, columns: slice) -> tuple[Any, Any]:
        """Return pixels and labels."""
        down = np.arange(rows.start, rows.stop)
        right = np.arange(columns.start, columns.stop)
        height, width = self._labels.shape[0], self._width
        place = np.ix_(down % height, right % width)
        along = 1 + self.shape[1] // width
        cells = down[:, None] // height * along + right // width
        labels = self._labels[place]
        return self._image[place], np.where(labels > 0, labels + cells * NUCLEI, 0)

    def nuclei(self, look: Any) -> list[Proposal]:
        """Return the nuclei that a tile shows as a perfect model would."""
        _, labels = self.part(look.rows, look.columns)
        _, own = np.unique(labels, return_inverse=True)
        found = []
        for _, mask in object_masks(own.reshape(labels.shape)):
            placed = mask.moved(look.y0, look.x0, self.shape)
            x0, y0, x1, y1 = placed.box
            middle = (x0 + x1) / 2, (y0 + y1) / 2
            found.append(Proposal(placed, 0.9, middle, "prompt"))
        return found


class Timed(Worker):
    """Notes what each task takes; searches some tiles only."""

    truth: Field
    searched: int
    spent: list[tuple[str, float]]
    seen: int

    def perform(self, task: Task) -> Answer:
        """Do a task, and note its kind and its seconds."""
        begun = time.process_time()
        answer = super().perform(task)
        kind = (
            "tiles"
            if task.tiles
            else "finish"
            if task.plane is None and task.plan
            else "begin"
        )
        self.spent.append((kind, time.process_time() - begun))
        if isinstance(answer, InTiles):
            answer = self._some(task, answer)
        if isinstance(answer, TilesMade):
            self.seen += len(task.tiles or ())
        return answer

    def _some(self, task: Task, answer: InTiles) -> InTiles:
        """Leave out most tiles, evenly; the true nuclei are kept for them."""
        groups = len(answer.missing)
        wanted = max(1, min(groups, self.searched // _AT_ONCE))
        chosen = set(np.linspace(0, groups - 1, wanted).astype(int).tolist())
        assert task.plan is not None
        large = self._large_plane(task.plan, 0)
        for number in range(groups):
            if number in chosen:
                continue
            for tile in answer.missing[number]:
                look = large._tiles[tile]
                large._parts.keep(tile, self.truth.nuclei(look))
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
        for kind in ("begin", "tiles", "finish")
    }
    tiles = len(worker_grid(side))
    each = sum(of["tiles"]) / worker.seen if worker.seen else sum(of["begin"])
    begin = sum(of["begin"]) if worker.seen else 0.0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cost(
        side,
        outcome.objects,
        tiles,
        load,
        begin,
        each,
        sum(of["finish"]),
        wall,
        memory,
        kept[0],
    )


def worker_grid(side: int) -> Any:
    """Return the tiles of a plane of this side; one for a small plane."""
    from napari_tinysam.everything import is_tiled, tiles

    return tiles((side, side)) if is_tiled((side, side), "auto") else [None]


def write_slide(path: Path, field: Field) -> Path:
    """Write a field of nuclei as OME-Zarr 0.5, without a pyramid."""
    how = [{"type": "scale", "scale": [1.0, 1.0]}]
    axes = [{"name": axis, "type": "space"} for axis in "yx"]
    scales = {
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": how}],
    }
    described = {"ome": {"version": "0.5", "multiscales": [scales]}}
    group = zarr.open_group(str(path), mode="w")
    group.attrs.update(described)
    array: Any = group.create_array(
        "0", shape=field.shape, chunks=(1024, 1024), dtype="uint8"
    )
    side = field.shape[0]
    for y, x in product(range(0, side, 1024), repeat=2):
        place = slice(y, min(y + 1024, side)), slice(x, min(x + 1024, side))
        array[place] = field.part(*place)[0]
    return path


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
    left: dict[int, int] = {}
    begun = idle = 0
    now = scheduler = 0.0
    groups = [min(_AT_ONCE, cost.tiles - n) for n in range(0, cost.tiles, _AT_ONCE)]
    seconds = {"begin": cost.begin, "finish": cost.finish}
    while running:
        event = heapq.heappop(running)
        now = event.time
        idle += 1
        if event.kind == "begin":
            left[event.slide] = cost.tiles
            waiting.extendleft(_Event(0, "tiles", event.slide, n) for n in groups)
        elif event.kind == "tiles":
            left[event.slide] -= event.tiles
            if not left[event.slide]:
                waiting.appendleft(_Event(0, "finish", event.slide))
        while idle and (waiting or begun < slides):
            task = waiting.popleft() if waiting else _Event(0, "begin", begun)
            begun += task.kind == "begin"
            idle -= 1
            scheduler = max(scheduler, now) + dispatch
            task.time = scheduler + seconds.get(task.kind, cost.tile * task.tiles)
            heapq.heappush(running, task)
    return now


# --- printing -------------------------------------------------------------------------------------


def pairs(side: int, model: str) -> None:
    """Time the command with one and two workers on one slide, and on as many small images."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = folder / "images"
        images.mkdir()
        write_slide(images / "slide.ome.zarr", Field(side))
        command = [
            sys.executable,
            "-m",
            "napari_tinysam",
            "auto",
            str(images),
            "--model",
            model,
        ]
        rows, first = [], 0.0
        for workers, threads in ((1, 1), (1, 2), (2, 2)):
            out = folder / f"{workers}-{threads}"
            begun = time.perf_counter()
            subprocess.run(
                [
                    *command,
                    "-o",
                    str(out),
                    "--workers",
                    str(workers),
                    "--threads",
                    str(threads),
                ],
                check=True,
                capture_output=True,
            )
            spent = time.perf_counter() - begun
            first = first or spent
            rows.append([workers, threads, f"{spent:.1f} s", f"{first / spent:.2f} ×"])
        say(f"\nThe command on one slide of {side}² pixels:\n")
        say(markdown_table(["workers", "threads together", "time", "faster"], rows))


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
    parser.add_argument("--one", type=int, metavar="SIDE", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        say(json.dumps(measure(chosen.one, chosen.searched, chosen.model)))
        return
    if chosen.pairs:
        pairs(chosen.pairs, chosen.model)
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
        "begin",
        "a tile",
        "all tiles",
        "join and write",
    ]
    rows = [
        [
            f"{c.side:,}²",
            f"{c.side**2 / 1e6:,.0f}",
            f"{c.objects:,}",
            c.tiles,
            f"{c.begin:.1f}",
            f"{c.tile:.2f}",
            f"{c.tile * c.tiles:,.0f}",
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
    core = (c.begin + c.tile * c.tiles + c.finish) / 3600
    tasks = 2 + -(-c.tiles // _AT_ONCE)
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
