"""Compare the ways of fine-tuning in the same few minutes, on sets that the start never saw.

Run as ``python -m papers.compare_ways --data DIR --start MODEL --sets A B C -o OUT``. A few
training images of each set are taken, evenly spaced; a fifth of them decides which model of the run
is the best, as in ``napari-tinysam finetune``. Start and result are judged on the set's validation
images, which nothing else has seen. OUT gets the models, a row for each as json, and all rows in it
as ``ways.csv`` and ``ways.md``, so several processes can share the work.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch

from napari_tinysam import checkpoints
from napari_tinysam.files.atomic import write_text
from napari_tinysam.files.tables import markdown_table
from papers.shared import figure, judged, say, write_csv
from tinysam_training.commands.finetune import FinetuneSettings, Way, finetune
from tinysam_training.data import check_data, find_pairs
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.evaluation.before_after import ROWS, judged_settings
from tinysam_training.run.held_out import hold_out

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: The start itself, as if it were a way.
BEFORE = "before"

COLUMNS = ("set", "way", "images", "steps", "minutes", "peak_mb", *ROWS)


def compare_ways(
    data: Path,
    start: str,
    sets: Sequence[str],
    out: Path,
    *,
    ways: Sequence[str] = (BEFORE, *get_args(Way)),
    images: int = 10,
    minutes: float = 9.5,
    judge_images: int = 6,
    clock: Callable[[], float] = time.monotonic,
) -> list[dict[str, Any]]:
    """Fine-tune in all ways on all sets.

    Parameters
    ----------
    data : Path
        Folder with a folder for each set, which have ``train`` and ``val``.
    start : str
        Model to begin with.
    sets : sequence of str
        Names of the folders.
    out : Path
        Where models and tables go.
    ways : sequence of str
        Of `Way`, and `BEFORE` for the start itself.
    images : int
        Annotated images of each set.
    minutes : float
        For each model: reading, embedding, training and validation. Of its ten minutes,
        ``napari-tinysam finetune`` reserves half a minute for the table and the picture.
    judge_images : int
        The most validation images of each set.
    clock : callable
        Seconds.

    Returns
    -------
    list of dict
        A row for each set and way, with `COLUMNS`.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in sets:
        annotated = evenly_spaced(find_pairs(data / name, "train"), images)
        unseen = evenly_spaced(find_pairs(data / name, "val"), judge_images)
        report = check_data(annotated, unseen)
        train, held_out = hold_out(report.usable_train)
        for way in ways:
            row: dict[str, Any] = {"set": name, "way": way}
            if way == BEFORE:
                model = checkpoints.load(start).model
            else:
                begun = clock()
                result = finetune(
                    train,
                    held_out,
                    out / f"{name}-{way}.safetensors",
                    FinetuneSettings(model=start, way=way, minutes=minutes),  # type: ignore[arg-type]
                    fingerprint=report.fingerprint,
                    clock=clock,
                )
                row["steps"] = result.outcome.steps
                row["minutes"] = round((clock() - begun) / 60, 2)
                row["peak_mb"] = _peak_megabytes()
                model = result.after
            row["images"] = len(report.usable_val)
            row |= judged(model, report.usable_val, judged_settings(), ROWS)
            rows.append(row)
            (out / f"{name}-{way}.json").write_text(json.dumps(row), "utf-8")
            _write_tables(out)
            say(" | ".join(_cells(row)))
    return rows


def _write_tables(out: Path) -> None:
    """Write all rows in a folder as one table."""
    found = [json.loads(path.read_text("utf-8")) for path in out.glob("*-*.json")]
    order = (BEFORE, *get_args(Way))
    rows = sorted(found, key=lambda row: (row["set"], order.index(row["way"])))
    write_csv(out / "ways.csv", COLUMNS, rows)
    write_text(out / "ways.md", markdown_table(COLUMNS, map(_cells, rows)))


def _cells(row: dict[str, Any]) -> list[str]:
    return [figure(row.get(column)) for column in COLUMNS]


def _peak_megabytes() -> int | None:
    """Peak memory of this process; None if the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return int(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--start", default="default")
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--ways", nargs="+", default=[BEFORE, *get_args(Way)])
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=9.5)
    parser.add_argument("--judged", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count processor time divided by threads, for a machine that also does other work",
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    def processor_seconds() -> float:
        seconds: float = time.process_time() / arguments.threads
        return seconds

    compare_ways(
        arguments.data,
        arguments.start,
        arguments.sets,
        arguments.output,
        ways=arguments.ways,
        images=arguments.images,
        minutes=arguments.minutes,
        judge_images=arguments.judged,
        clock=processor_seconds if arguments.cpu_time else time.monotonic,
    )


if __name__ == "__main__":
    main()
