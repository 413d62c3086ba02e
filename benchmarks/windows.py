"""Time decoding in windows beside decoding in the whole frame: ``python -m benchmarks.windows``.

On the machine's fastest runtime: prompts at once, and the searches of everything mode, on one
synthetic image. Seconds are the best of several rounds, which take turns; work is processor time,
which depends less on what else the machine does. About a minute on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.__main__ import POINTS, SCORE, STABILITY, image, machine
from napari_tinysam import Prompts, load_model
from napari_tinysam.everything import LabelSettings, Segmentation, Thresholds
from napari_tinysam.files.tables import markdown_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tinysam.inference.predictor import Predictor

#: Milliseconds a prompt, or seconds a search, on two idle cores.
TARGETS = {1: "≤ 5 ms", 8: "", 64: "≤ 2.5 ms"}


def best(*runs: Callable[[], Any], rounds: int) -> list[tuple[float, float]]:
    """Least seconds and least processor time of each run."""
    for run in runs:
        run()
    found = [(np.inf, np.inf)] * len(runs)
    for _ in range(rounds):
        for number, run in enumerate(runs):
            time.sleep(0.05)  # threads of the run before spin while they wait for work
            begun, worked = time.perf_counter(), time.process_time()
            run()
            taken = time.perf_counter() - begun, time.process_time() - worked
            found[number] = tuple(map(min, found[number], taken))  # type: ignore[assignment]
    return found


def figures(predictor: Predictor, rounds: int) -> list[dict[str, Any]]:
    """Give a row for each work: seconds and processor time, in the whole frame and in windows."""
    whole = predictor.without_windows()
    embedding = predictor.encode(image())
    rng, rows = np.random.default_rng(0), []

    def add(
        work: str, run: Callable[[Predictor], Any], share: int, times: int, target: str
    ) -> None:
        taken = best(lambda: run(whole), lambda: run(predictor), rounds=times)
        (before, work_before), (now, work_now) = np.array(taken) / share
        rows.append(
            {
                "work": work,
                "whole": before,
                "windows": now,
                "whole, work": work_before,
                "windows, work": work_now,
                "target": target,
            }
        )

    for count, target in TARGETS.items():
        xy = rng.uniform(50, 970, (count, 1, 2)).astype(np.float32)
        sides = rng.uniform(20, 60, (count, 2))
        boxes = np.hstack([xy[:, 0], xy[:, 0] + sides]).astype(np.float32)
        for kind, prompts in (
            ("click", Prompts(points=xy)),
            ("box", Prompts(boxes=boxes)),
        ):
            add(
                f"{kind}, {count} at once",
                lambda one, prompts=prompts: one.predict(embedding, prompts),  # type: ignore[misc]
                count,
                rounds,
                target,
            )
    own = Thresholds.from_notes(predictor.notes)
    grid = replace(
        own.search,
        points_per_side=POINTS,
        score_threshold=SCORE,
        stability_threshold=STABILITY,
    )
    everything = replace(own, search=grid, labels=LabelSettings(SCORE))
    searches: list[tuple[Any, Thresholds, str]] = [
        ("hierarchical", everything, "≤ 2 s")
    ]
    if predictor.has_object_head:
        searches.append(("guided", own, ""))
    for mode, thresholds, target in searches:
        add(
            f"{mode}, embedding given",
            lambda one, mode=mode, given=thresholds: Segmentation(  # type: ignore[misc]
                one, embedding, mode, thresholds=given
            ).run(),
            1,
            2,
            target,
        )
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.windows", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    predictor = load_model(
        arguments.model, device=arguments.device, convert=sys.stderr.write
    )
    rows = figures(predictor, arguments.rounds)
    columns = ("whole", "windows", "whole, work", "windows, work")
    cells = [
        [
            row["work"],
            *(f"{1000 * row[name]:,.1f} ms" for name in columns),
            row["target"],
        ]
        for row in rows
    ]
    table = markdown_table(("a prompt or a search", *columns, "target"), cells)
    sys.stdout.write(f"{machine(predictor)}\n\n{table}\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1), "utf-8")


if __name__ == "__main__":
    main()
