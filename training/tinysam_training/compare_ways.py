"""Which way of fine-tuning is the best within some minutes: measured on sets the start never saw.

Run as ``python -m tinysam_training.compare_ways --data DIR --start MODEL --sets A B C -o OUT``.
From each set a few training images are taken, evenly spaced, and the model is judged on its
validation images before and after. OUT gets the models, ``ways.csv`` and ``ways.md``.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import torch

from napari_tinysam.predictor import Predictor
from napari_tinysam.runtime.torch_runtime import TorchRuntime
from tinysam_training.before_after import ROWS, compare
from tinysam_training.data import check_data, find_pairs
from tinysam_training.finetune import FinetuneSettings, Way, finetune
from tinysam_training.pipeline import evenly_spaced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COLUMNS = ("set", "way", "steps", "minutes", "peak_mb", *ROWS)


def compare_ways(
    data: Path,
    start: str,
    sets: Sequence[str],
    out: Path,
    *,
    ways: Sequence[Way] = get_args(Way),
    images: int = 10,
    minutes: float = 10.0,
    judged: int = 6,
    clock: Callable[[], float] = time.monotonic,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, object]]:
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
    images : int
        Training images of each set.
    minutes : float
        For the training of each model, embedding included, judging not.
    judged : int
        At most so many validation images of each set.
    clock : callable
        Seconds.
    say : callable
        Called with lines about what was found.

    Returns
    -------
    list of dict
        A row for each set and way (``before`` first), with `COLUMNS`.
    """
    rows: list[dict[str, object]] = []
    out.mkdir(parents=True, exist_ok=True)
    for name in sets:
        train = evenly_spaced(find_pairs(data / name, "train"), images)
        held_out = evenly_spaced(find_pairs(data / name, "val"), judged)
        report = check_data(train, held_out)
        entries = list(report.usable_val)
        for way in ways:
            settings = FinetuneSettings(model=start, way=way, minutes=minutes)
            output = out / f"{name}-{way}.safetensors"
            begun = clock()
            result = finetune(
                report.usable_train,
                entries,
                output,
                settings,
                fingerprint=report.fingerprint,
                clock=clock,
            )
            spent = (clock() - begun) / 60
            before, after = (
                Predictor(TorchRuntime(m, torch.device("cpu")), name=n, model_id=n)
                for m, n in ((result.before, "before"), (result.after, way))
            )
            comparison = compare(before, after, entries)
            (out / f"{name}-{way}.md").write_text(comparison.table(), "utf-8")
            if way == ways[0]:
                first = {n: b for n, (b, _) in comparison.figures.items()}
                rows.append({"set": name, "way": "before", **first})
                say(_line(rows[-1]))
            rows.append(
                {
                    "set": name,
                    "way": way,
                    "steps": result.outcome.steps,
                    "minutes": round(spent, 2),
                    "peak_mb": _peak_megabytes(),
                    **{n: a for n, (_, a) in comparison.figures.items()},
                }
            )
            say(_line(rows[-1]))
            _write(out, rows)
    return rows


def _line(row: dict[str, object]) -> str:
    return " | ".join(_cell(row.get(column)) for column in COLUMNS)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _write(out: Path, rows: list[dict[str, object]]) -> None:
    with (out / "ways.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    header = [" | ".join(COLUMNS), "|".join("---" for _ in COLUMNS)]
    lines = [f"| {line} |" for line in (*header, *map(_line, rows))]
    (out / "ways.md").write_text("\n".join(lines) + "\n", "utf-8")


def _peak_megabytes() -> int | None:
    """Largest memory of this process so far; None where the system does not say."""
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
    parser.add_argument("--ways", nargs="+", default=list(get_args(Way)))
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--judged", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="measure the minutes as processor time over the threads: on a machine that "
        "does other things too",
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
        judged=arguments.judged,
        clock=processor_seconds if arguments.cpu_time else time.monotonic,
        say=_say,
    )


if __name__ == "__main__":
    main()
