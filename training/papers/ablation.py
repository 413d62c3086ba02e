"""The paper's ablation: which of the distillation's measures helps, at what scale there is.

Run as ``python -m papers.ablation RECIPE --data DATA --teacher MODEL -o OUT``. The recipe
is that of the student with all measures; rows leave out what is after them. All rows see the same
windows of the same images, in the same order, for the same number of steps, and each is repeated
with several seeds. OUT gets a folder for each run and, of all runs that are in it, ``ablation.csv``
and ``ablation.md``; runs that are there already are not repeated, so that it may be stopped and
started again.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError, TinySAMError
from napari_tinysam.files.atomic import replacing
from napari_tinysam.files.tables import markdown_table
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.inference.runtime.torch_runtime import TorchRuntime
from tinysam_training.commands.train import run_recipe
from tinysam_training.data.dataset import read_source
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.evaluation import before_after
from tinysam_training.evaluation.evaluate import evaluate
from tinysam_training.evaluation.report import means
from tinysam_training.recipe import load_recipe
from tinysam_training.run.starting import Hardware

if TYPE_CHECKING:
    from tinysam_training.labelled_image import ImageEntry
    from tinysam_training.recipe import Recipe

#: The rows of the table: each has what the rows above it have. The paper's table 3 has a baseline,
#: distillation losses, hard prompts and hard mask weights; its table 4 takes the losses apart.
MEASURES = {
    "labels": "labels only",
    "output": "+ L_out",
    "embedding": "+ L_emb",
    "token": "+ L_token",
    "prompts": "+ hard prompts",
    "weights": "+ hard mask weights",
}

#: What is measured of each run; the object head alone of what needs no prompt, which is trained.
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
        # As in the paper the student begins with the teacher's decoder; its encoder is new.
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
    judged: int = 8,
    objects: int = 8,
    hardware: Hardware | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Train and judge all rows with all seeds.

    Parameters
    ----------
    recipe : Recipe
        Of the student with all measures; it names a teacher and says how many steps.
    data : Path
        The data root.
    out : Path
        Folder for runs and tables.
    seeds : sequence of int
    rows : sequence of str
        Of `MEASURES`.
    judged, objects : int
        At most so many validation images of each set, and objects of each image.
    hardware : Hardware, optional
    say : callable
        Called with a line about each run.

    Raises
    ------
    DataError
        If recipe or data cannot be used.
    """
    if not recipe.teacher.model or not recipe.steps:
        raise DataError(
            "An ablation's recipe names a teacher, and says how many steps."
        )
    # One cache for all runs: they distil the same teacher on the same images.
    cache = str((out / "teacher").resolve())
    recipe = replace(recipe, teacher=replace(recipe.teacher, cache=cache))
    entries: list[ImageEntry] = []
    for source in recipe.validation:
        entries += evenly_spaced(read_source(source, data), judged)
    for seed in seeds:
        for row in rows:
            folder = out / f"{row}-{seed}"
            if not (folder / "figures.json").exists():
                begun = time.monotonic()
                # Perhaps without a checkpoint yet: then it begins anew.
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
                with replacing(folder / "figures.json") as file:
                    file.write(json.dumps(figures).encode())
                say(" | ".join(f"{k} {_cell(v)}" for k, v in figures.items()))
            write_tables(out)


def _judged(
    model: Path, entries: Sequence[ImageEntry], objects: int
) -> dict[str, float | None]:
    """Figures of the model after the last step: no row has the luck of a good moment."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    runtime = TorchRuntime(checkpoints.load(model).model, device)
    predictor = Predictor(runtime, name=model.stem, model_id=str(model))
    settings = before_after.judged_settings(objects, automatic=False)
    figures = means(evaluate(predictor, entries, settings).results)
    return {name: figures.get(name) for name in ROWS}


def write_tables(out: Path) -> None:
    """Put the figures of all runs in a folder together: one line a run, and means over seeds.

    Parameters
    ----------
    out : Path
        Of `run_ablation`; gets ``ablation.csv`` and ``ablation.md``.
    """
    found = [json.loads(path.read_text("utf-8")) for path in out.glob("*/figures.json")]
    order = list(MEASURES)
    found.sort(key=lambda one: (order.index(one["row"]), one["seed"]))
    with (out / "ablation.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(found)
    rows = []
    for row, title in MEASURES.items():
        runs = [one for one in found if one["row"] == row]
        if runs:
            cells = [_mean_and_spread([run[name] for run in runs]) for name in ROWS]
            rows.append([title, len(runs), *cells])
    with replacing(out / "ablation.md") as file:
        table = markdown_table(("", "seeds", *ROWS.values()), rows)
        file.write(f"{table}\n".encode())


def _mean_and_spread(values: Sequence[float | None]) -> str:
    """Mean ± standard deviation over seeds."""
    there = [value for value in values if value is not None]
    if not there:
        return "–"
    spread = f" ± {np.std(there, ddof=1):.3f}" if len(there) > 1 else ""
    return f"{np.mean(there):.3f}{spread}"


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


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
    try:
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
            judged=arguments.judged,
            hardware=Hardware(arguments.device),
            say=_say,
        )
    except TinySAMError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
