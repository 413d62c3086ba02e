"""The paper's ablation on a small scale: which measures of the distillation help.

Run as ``python -m papers.ablation RECIPE --data DATA --teacher MODEL -o OUT``. The recipe trains
the student with all measures; each row of the table has those of the rows above it. All rows see
the same windows of the same images in the same order, for the same number of steps, and each is
repeated with several seeds. OUT gets a folder for each run, and ``ablation.csv`` and
``ablation.md`` of all runs in it. Runs that are there are not repeated, so the command can be
stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from napari_tinysam.files.atomic import write_text
from napari_tinysam.files.tables import markdown_table
from papers.shared import figure, judged, refusals, say, write_csv, write_json
from tinysam_training.commands.train import run_recipe
from tinysam_training.data.dataset import read_source
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.evaluation import before_after
from tinysam_training.recipe import load_recipe
from tinysam_training.run.starting import Hardware

if TYPE_CHECKING:
    from tinysam_training.labelled_image import ImageEntry
    from tinysam_training.recipe import Recipe

#: The rows of the table; each adds a measure. The paper's table 3 has a baseline, distillation
#: losses, hard prompts and hard mask weights; its table 4 separates the losses.
MEASURES = {
    "labels": "labels only",
    "output": "+ L_out",
    "embedding": "+ L_emb",
    "token": "+ L_token",
    "prompts": "+ hard prompts",
    "weights": "+ hard mask weights",
}

#: Figures of each run. Of automatic segmentation only the object head alone: it is what learns.
ROWS = {
    name: text
    for name, text in before_after.ROWS.items()
    if name not in ("msa", "ap50")
}

_COLUMNS = ("row", "seed", "steps", "minutes", *ROWS)


def row_recipe(recipe: Recipe, row: str, seed: int) -> Recipe:
    """Make the recipe of a row of the table.

    Parameters
    ----------
    recipe : Recipe
        With all measures.
    row : str
        A key of `MEASURES`.
    seed : int
        Of weights, data and prompts.
    """
    reached = list(MEASURES).index(row)
    has = {name: number <= reached for number, name in enumerate(MEASURES)}
    losses = recipe.losses
    return replace(
        recipe,
        name=f"{recipe.name}-{row}",
        seed=seed,
        # As in the paper, the student starts with the teacher's decoder and a new encoder.
        model=replace(recipe.model, decoder=recipe.teacher.model),
        losses=replace(
            losses,
            output=losses.output if has["output"] else 0.0,
            embedding=losses.embedding if has["embedding"] else 0.0,
            token=losses.token if has["token"] else 0.0,
            hard_mask_weights=has["weights"],
        ),
        stages=tuple(
            replace(stage, rounds=stage.rounds if has["prompts"] else 0)
            for stage in recipe.stages
        ),
    )


def run_ablation(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    rows: Sequence[str] = tuple(MEASURES),
    images: int = 8,
    objects: int = 8,
    hardware: Hardware | None = None,
) -> None:
    """Train and judge all rows with all seeds.

    Parameters
    ----------
    recipe : Recipe
        Of the student with all measures; names a teacher and the number of steps.
    data : Path
        The data root.
    out : Path
        Folder for runs and tables.
    seeds : sequence of int
    rows : sequence of str
        Of `MEASURES`.
    images, objects : int
        The most validation images of each set, and objects of each image.
    hardware : Hardware, optional

    Raises
    ------
    DataError
        If recipe or data cannot be used.
    """
    if not recipe.teacher.model or not recipe.steps:
        raise DataError(
            "An ablation's recipe names a teacher, and the number of steps."
        )
    # One cache for all runs: they distil the same teacher on the same images.
    cache = str((out / "teacher").resolve())
    recipe = replace(recipe, teacher=replace(recipe.teacher, cache=cache))
    entries: list[ImageEntry] = []
    for source in recipe.validation:
        entries += evenly_spaced(read_source(source, data), images)
    for seed in seeds:
        for row in rows:
            folder = out / f"{row}-{seed}"
            if not (folder / "figures.json").exists():
                begun = time.monotonic()
                # Without a checkpoint it starts from the beginning.
                started = folder.exists()
                outcome = run_recipe(
                    row_recipe(recipe, row, seed),
                    data,
                    folder,
                    hardware=hardware,
                    resume=started,
                )
                minutes = (time.monotonic() - begun) / 60
                figures = {"row": row, "seed": seed, "steps": outcome.steps}
                figures |= {"minutes": round(minutes, 1)}
                figures |= _judged(folder / "last.safetensors", entries, objects)
                write_json(folder / "figures.json", figures)
                say(" | ".join(f"{k} {figure(v)}" for k, v in figures.items()))
            write_tables(out)


def _judged(
    model: Path, entries: Sequence[ImageEntry], objects: int
) -> dict[str, float | None]:
    """Judge the model after the last step, so that no row profits from a lucky moment."""
    settings = before_after.judged_settings(objects, automatic=False)
    return judged(checkpoints.load(model).model, entries, settings, ROWS)


def write_tables(out: Path) -> None:
    """Write the figures of all runs in a folder: one line a run, and means over seeds.

    Parameters
    ----------
    out : Path
        Of `run_ablation`; gets ``ablation.csv`` and ``ablation.md``.
    """
    found = [json.loads(path.read_text("utf-8")) for path in out.glob("*/figures.json")]
    order = list(MEASURES)
    found.sort(key=lambda one: (order.index(one["row"]), one["seed"]))
    write_csv(out / "ablation.csv", _COLUMNS, found)
    rows = []
    for row, title in MEASURES.items():
        runs = [one for one in found if one["row"] == row]
        if runs:
            cells = [_mean_and_spread([run[name] for run in runs]) for name in ROWS]
            rows.append([title, str(len(runs)), *cells])
    table = markdown_table(["", "seeds", *ROWS.values()], rows)
    write_text(out / "ablation.md", table)


def _mean_and_spread(values: Sequence[float | None]) -> str:
    """Mean ± standard deviation over seeds."""
    there = [value for value in values if value is not None]
    if not there:
        return "–"
    spread = f" ± {np.std(there, ddof=1):.3f}" if len(there) > 1 else ""
    return f"{np.mean(there):.3f}{spread}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", required=True, help="a model's name or file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", default=list(MEASURES), choices=MEASURES)
    parser.add_argument("--steps", type=int, default=0, help="instead of the recipe's")
    parser.add_argument("--judged", type=int, default=8, help="images of each set")
    parser.add_argument("--device", default="auto")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    with refusals():
        recipe = load_recipe(arguments.recipe)
        recipe = replace(
            recipe,
            teacher=replace(recipe.teacher, model=arguments.teacher),
            steps=arguments.steps or recipe.steps,
        )
        run_ablation(
            recipe,
            arguments.data,
            arguments.output,
            seeds=arguments.seeds,
            rows=arguments.rows,
            images=arguments.judged,
            hardware=Hardware(arguments.device),
        )


if __name__ == "__main__":
    main()
