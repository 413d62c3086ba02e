"""What adapting gives on sets that the start never saw: some sets, some seeds, before and after.

Run as ``python -m papers.adapted_sets --data DIR --start MODEL --sets A B C -o OUT``. The start
must have been trained without these sets (`recipes/unseen_sets.yaml`): the bundled model has learnt
from all of them, so its figures say little. Each run takes other training images of the
set; a fifth of them chooses the best moment, and Auto-segment is calibrated on them, as the dock
does. Start and result are judged on the set's validation images, which nothing else has seen. OUT
gets a row for each run as json, and ``adapted.csv`` and ``adapted.md``; runs whose row is there are
not repeated, so the work can be done in pieces.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_tinysam import checkpoints
from napari_tinysam.everything import Thresholds
from napari_tinysam.everything.thresholds import NOTE
from napari_tinysam.files.atomic import write_text
from napari_tinysam.files.tables import markdown_table
from papers.shared import figure, in_torch, judged, say, write_csv
from tinysam_training.calibration.calibrate import calibrate_guided_search
from tinysam_training.commands.adapt import CALIBRATED
from tinysam_training.commands.finetune import DEFAULT_WAY, FinetuneSettings, finetune
from tinysam_training.data import check_data, find_pairs
from tinysam_training.data.parting import part_image
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.evaluation.before_after import ROWS, judged_settings
from tinysam_training.run.held_out import hold_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_tinysam.model import SegmentAnything
    from tinysam_training.labelled_image import ImageEntry

COLUMNS = ("set", "seed", "images", "objects", "steps", "best", *ROWS)

#: A single image is one with about this many objects.
OBJECTS = 30

_BEFORE = "before"


def adapted_sets(
    data: Path,
    start: str,
    sets: Sequence[str],
    out: Path,
    *,
    seeds: int = 3,
    images: int = 10,
    minutes: float = 9.5,
    steps: int = 0,
    way: str = DEFAULT_WAY,
) -> list[dict[str, Any]]:
    """Adapt a start to each set with each seed.

    Parameters
    ----------
    data : Path
        Folder with a folder for each set, which have ``train`` and ``val``.
    start : str
        Model to begin with.
    sets : sequence of str
        Names of the folders.
    out : Path
        Where rows, models and tables go.
    seeds : int
        Runs of each set.
    images : int
        Annotated images of each run; 1 takes one with about `OBJECTS` objects and cuts a part off
        it to choose the best moment.
    minutes : float
        For each run.
    steps : int
        Fixes the length instead, for machines that do other work.
    way : {"frozen", "lora", "whole"}

    Returns
    -------
    list of dict
        A row for each run, and one for each set before.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in sets:
        unseen = check_data(
            evenly_spaced(find_pairs(data / name, "val"), 6)
        ).usable_train
        for seed in (None, *range(seeds)):
            path = out / f"{name}-{_BEFORE if seed is None else seed}.json"
            if not path.exists():
                row: dict[str, Any] = {
                    "set": name,
                    "seed": _BEFORE if seed is None else seed,
                }
                loaded = checkpoints.load(start)
                model, notes = loaded.model, dict(loaded.notes)
                if seed is not None:
                    train, held = _drawn(data / name, images, seed)
                    settings = FinetuneSettings(
                        model=start,
                        way=way,  # type: ignore[arg-type]
                        minutes=minutes,
                        seed=seed,
                        steps=steps,
                    )
                    target = path.with_suffix(".safetensors")
                    result = finetune(train, held, target, settings)
                    model = result.after
                    if result.better:
                        notes |= _calibrated(model, notes, [*train, *held])
                    row |= {
                        "images": images,
                        "objects": sum(
                            len(entry.read().boxes) for entry in [*train, *held]
                        ),
                        "steps": result.outcome.steps,
                        "best": result.outcome.best["step"],
                    }
                row |= judged(model, unseen, judged_settings(), ROWS, notes)
                write_text(path, json.dumps(row))
            rows.append(json.loads(path.read_text("utf-8")))
            cells = [[figure(each.get(column)) for column in COLUMNS] for each in rows]
            write_csv(out / "adapted.csv", COLUMNS, rows)
            write_text(out / "adapted.md", markdown_table(COLUMNS, cells))
            say(" | ".join(cells[-1]))
    return rows


def _drawn(
    folder: Path, images: int, seed: int
) -> tuple[list[ImageEntry], list[ImageEntry]]:
    """Draw training images, and part them into those to learn from and those that choose."""
    found = check_data(find_pairs(folder, "train")).usable_train
    if images > 1:
        order = np.random.default_rng(seed).permutation(len(found))[:images]
        return hold_out([found[i] for i in sorted(order)], seed)
    # Few annotators begin with an empty image, or one with a hundred objects.
    off = [abs(len(entry.read().boxes) - OBJECTS) for entry in found]
    entry = found[int(np.argsort(off, kind="stable")[seed])]
    parts = part_image(entry)
    return hold_out([entry], seed) if parts is None else ([parts[0]], [parts[1]])


def _calibrated(
    model: SegmentAnything, notes: Mapping[str, str], entries: Sequence[ImageEntry]
) -> dict[str, str]:
    """Measure the thresholds of Auto-segment, as the dock does."""
    known = Thresholds.from_notes(notes) if NOTE in notes else Thresholds.uncalibrated()
    predictor = in_torch(model, notes)
    chosen = evenly_spaced(entries, CALIBRATED)
    return {
        NOTE: calibrate_guided_search(predictor, chosen, known).thresholds.to_note()
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--start", default="default")
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=9.5)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--way", default=DEFAULT_WAY)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    adapted_sets(
        given.data,
        given.start,
        given.sets,
        given.output,
        seeds=given.seeds,
        images=given.images,
        minutes=given.minutes,
        steps=given.steps,
        way=given.way,
    )


if __name__ == "__main__":
    main()
