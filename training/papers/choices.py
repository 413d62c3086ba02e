"""What the choices of the default recipe are worth: short runs of the object head, otherwise equal.

Run as ``python -m papers.choices RECIPE --data DATA -o OUT``. Each run is the recipe's first stage
alone, with encoder and object head and without prompts, for the same number of steps; it differs
from the recipe in one thing. The objects that the head finds alone are judged on the recipe's
validation images, after the last step. OUT gets a folder for each run, and ``choices.csv`` and
``choices.md`` of all of them. Runs that are there are not repeated.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from napari_tinysam import checkpoints, model
from napari_tinysam.files.atomic import write_text
from napari_tinysam.files.tables import markdown_table
from napari_tinysam.metrics import THRESHOLDS
from napari_tinysam.model import FineObjectHead, sam
from napari_tinysam.model.encoders.efficientnet import doubled
from papers.shared import figure, in_torch, refusals, say, write_csv, write_json
from tinysam_training.commands.train import run_recipe
from tinysam_training.data.dataset import read_source
from tinysam_training.evaluation.before_after import judged_settings
from tinysam_training.evaluation.evaluate import evaluate
from tinysam_training.evaluation.report import accuracies, means
from tinysam_training.recipe import Augmentation, DataSource, Recipe, load_recipe

if TYPE_CHECKING:
    from torch import Tensor

#: IoUs at which accuracy is shown beside its mean.
SHOWN = (0.5, 0.7, 0.8, 0.9)

#: Share of the images that the generator makes, and how many different ones.
GENERATED, IMAGES = 0.1, 200


class CoarseObjectHead(FineObjectHead):
    """A head whose maps have twice the stride; they are doubled for everything behind it."""

    def forward(self, embedding: Tensor, details: Sequence[Tensor] = ()) -> Tensor:
        """Predict (B, 3, 8 g, 8 g) logits from the level of (B, …, 4 g, 4 g)."""
        return doubled(super().forward(embedding, details[:-1]))


@contextmanager
def coarse_maps() -> Iterator[None]:
    """Build models whose object head reads the last but one level of the pyramid."""

    def made(channels: Sequence[int], *, details: bool = False) -> CoarseObjectHead:
        return CoarseObjectHead(channels[-2])

    with (
        mock.patch.object(sam, "new_object_head", made),
        mock.patch.object(model, "new_object_head", made),  # where files are read
    ):
        sam._without_memory.cache_clear()
        yield
    sam._without_memory.cache_clear()


@dataclass(frozen=True)
class Choice:
    """One thing that differs from the recipe.

    Attributes
    ----------
    title : str
    change : callable
        The recipe to the recipe of the run.
    around : callable
        What holds while the run is trained and judged.
    """

    title: str
    change: Callable[[Recipe], Recipe] = lambda recipe: recipe
    around: Callable[[], AbstractContextManager[None]] = nullcontext


def _generated(recipe: Recipe) -> Recipe:
    share = GENERATED * sum(source.share for source in recipe.data) / (1 - GENERATED)
    source = DataSource(kind="synthetic", count=IMAGES, share=share)
    return replace(recipe, data=(*recipe.data, source))


def _equal(recipe: Recipe) -> Recipe:
    return replace(recipe, data=tuple(replace(one, share=1.0) for one in recipe.data))


def _light(recipe: Recipe) -> Recipe:
    changed = replace(Augmentation.light(), zoom=recipe.augmentation.zoom)
    return replace(recipe, augmentation=changed)


def _without_rims(recipe: Recipe) -> Recipe:
    return replace(recipe, losses=replace(recipe.losses, rim=0.0))


def _small(recipe: Recipe) -> Recipe:
    """Keep only the smallest windows."""
    stage = recipe.stages[0]
    windows = (min(stage.windows),)
    return replace(recipe, stages=(replace(stage, windows=windows),))


CHOICES = {
    "recipe": Choice("as the recipe"),
    "coarse": Choice("maps at stride 4 instead of 2", around=coarse_maps),
    "rim": Choice("rims weigh as much as the rest", _without_rims),
    "generated": Choice("a tenth of the images from the generator", _generated),
    "equal": Choice("equal shares of the sets", _equal),
    "light": Choice("weak changes of intensity and shape", _light),
    "small": Choice("windows of 256 pixels only", _small),
}


def first_stage(recipe: Recipe, choice: str, steps: int, seed: int = 0) -> Recipe:
    """Make the recipe of a run.

    Parameters
    ----------
    recipe : Recipe
        Whose first stage prompts nothing.
    choice : str
        A key of `CHOICES`.
    steps : int
    seed : int
        Of weights and data.
    """
    short = replace(
        recipe,
        name=f"{recipe.name}-{choice}",
        steps=steps,
        seed=seed,
        stages=recipe.stages[:1],
        model=replace(recipe.model, trained="whole", dense_prompts=None),
        validation=(),
        # Averaged over a tenth of the steps, as in a long run.
        optimizer=replace(recipe.optimizer, ema=1 - 10 / max(steps, 11)),
    )
    return CHOICES[choice].change(short)


def run_choices(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    choices: Sequence[str] = tuple(CHOICES),
    steps: int = 400,
    seeds: Sequence[int] = (0,),
) -> None:
    """Train and judge runs.

    Parameters
    ----------
    recipe : Recipe
        Of the default model.
    data : Path
        The data root.
    out : Path
        Folder for runs and tables.
    choices : sequence of str
        Of `CHOICES`.
    steps : int
        Of each run.
    seeds : sequence of int

    Raises
    ------
    DataError
        If recipe or data cannot be used.
    """
    for seed in seeds:
        for name in choices:
            folder = out / f"{name}-{seed}"
            if not (folder / "figures.json").exists():
                begun = time.monotonic()
                with CHOICES[name].around():
                    run = first_stage(recipe, name, steps, seed)
                    run_recipe(run, data, folder, resume=folder.exists())
                    minutes = round((time.monotonic() - begun) / 60, 1)
                    found = {"choice": name, "seed": seed, "steps": steps}
                    found |= {"minutes": minutes}
                    found |= _judged(folder / "last.safetensors", recipe, data)
                write_json(folder / "figures.json", found)
                say(
                    " | ".join(f"{key} {figure(value)}" for key, value in found.items())
                )
            write_tables(out)


def _judged(file: Path, recipe: Recipe, data: Path) -> dict[str, float]:
    """Accuracies of the head: means over the sets, and the mSA of each set."""
    loaded = checkpoints.load(file)
    predictor = in_torch(loaded.model, loaded.notes)
    settings = replace(judged_settings(1, automatic=False), clicks=1)
    found: dict[str, float] = {}
    curves = []
    for source in recipe.validation:
        results = evaluate(predictor, read_source(source, data), settings).results
        curve = accuracies(results, head=True)
        assert curve is not None
        curves.append(curve)
        found[source.path] = float(means(results)["head_msa"] or 0.0)
    mean = np.mean(curves, axis=0)
    at = {float(threshold): i for i, threshold in enumerate(np.round(THRESHOLDS, 2))}
    shown = {f"ap{round(100 * iou)}": float(mean[at[iou]]) for iou in SHOWN}
    return {"msa": float(mean.mean()), **shown, **found}


def write_tables(out: Path) -> None:
    """Write the figures of all runs in a folder, with the difference to the recipe's own run.

    Parameters
    ----------
    out : Path
        Of `run_choices`; gets ``choices.csv`` and ``choices.md``.
    """
    found: list[dict[str, Any]] = [
        json.loads(path.read_text("utf-8")) for path in out.glob("*/figures.json")
    ]
    if not found:
        return
    order = list(CHOICES)
    found.sort(key=lambda one: (order.index(one["choice"]), one["seed"]))
    columns = list(found[0])
    write_csv(out / "choices.csv", columns, found)
    figures = columns[4:]
    rows = []
    for one in found:
        title = CHOICES[one["choice"]].title
        cells = [figure(one.get(name)) for name in figures]
        rows.append([title, str(one["seed"]), figure(one["minutes"], 1), *cells])
    table = markdown_table(["", "seed", "minutes", *figures], rows)
    write_text(out / "choices.md", table)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", help="default, or a file")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--choices", nargs="+", default=list(CHOICES), choices=CHOICES)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    with refusals():
        run_choices(
            load_recipe(given.recipe),
            given.data,
            given.output,
            choices=given.choices,
            steps=given.steps,
            seeds=given.seeds,
        )


if __name__ == "__main__":
    main()
