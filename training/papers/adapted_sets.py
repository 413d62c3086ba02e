"""What adapting gives on sets that the start never saw: some sets, some seeds, before and after.

Run as ``python -m papers.adapted_sets --data DIR --start MODEL --sets A B C -o OUT``. The start
must have been trained without these sets (`recipes/unseen_sets.yaml`): the bundled model has learnt
from all of them, so its figures say little. Each run takes other training images of the
set; a fifth of them chooses the best moment. Start and result are judged on the set's validation
images, which nothing else has seen. OUT gets a row for each run as json, and ``adapted.csv`` and
``adapted.md``; runs whose row is there are not repeated, so the work can be done in pieces.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_tinysam import checkpoints
from napari_tinysam.files.atomic import write_text
from napari_tinysam.files.tables import markdown_table
from papers.shared import figure, judged, say, write_csv
from tinysam_training.commands.finetune import DEFAULT_WAY, FinetuneSettings, finetune
from tinysam_training.data import check_data, find_pairs
from tinysam_training.data.parting import part_image
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.evaluation.before_after import ROWS, judged_settings
from tinysam_training.run.held_out import hold_out

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS = ("set", "seed", "images", "steps", "best", *ROWS)
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
        Annotated images of each run; 1 cuts a part off it to choose the best moment.
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
                model = checkpoints.load(start).model
                if seed is not None:
                    found = find_pairs(data / name, "train")
                    order = np.random.default_rng(seed).permutation(len(found))[:images]
                    report = check_data([found[i] for i in sorted(order)])
                    parts = part_image(report.usable_train[0]) if images == 1 else None
                    train, held = (
                        hold_out(report.usable_train, seed)
                        if parts is None
                        else ([parts[0]], [parts[1]])
                    )
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
                    row |= {"images": len(report.usable_train)}
                    row |= {
                        "steps": result.outcome.steps,
                        "best": result.outcome.best["step"],
                    }
                row |= judged(model, unseen, judged_settings(), ROWS)
                write_text(path, json.dumps(row))
            rows.append(json.loads(path.read_text("utf-8")))
            cells = [[figure(each.get(column)) for column in COLUMNS] for each in rows]
            write_csv(out / "adapted.csv", COLUMNS, rows)
            write_text(out / "adapted.md", markdown_table(COLUMNS, cells))
            say(" | ".join(cells[-1]))
    return rows


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
