"""Collect what the GPU machine delivered: put it together, check it, judge it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import yaml

from default_model.columns import in_columns
from default_model.on_gpu.delivery import put_together
from napari_tinysam import checkpoints
from napari_tinysam.files.atomic import replacing
from tinysam_training.data import ImageStore
from tinysam_training.data.dataset import read_source
from tinysam_training.recipe import load_recipe
from tinysam_training.run.judging import Judge

if TYPE_CHECKING:
    from tinysam_training.labelled_image import ImageEntry

Say = Callable[[str], None]

_HEADS = {
    "score": "score",
    "box_iou": "box",
    "click_iou": "1 click",
    "msa": "mSA, head",
}


def collect(folder: Path, pack: Path, run: Path, say: Say) -> str:
    """Make a run's folder from the delivery, and compare its model with the bundled one.

    Parameters
    ----------
    folder : Path
        What the command wrote to ``$OUT``.
    pack : Path
        The pack that it ran with; has the validation images.
    run : Path
        The run's folder, which is made.
    say : callable

    Returns
    -------
    str
        A table, and the next command.

    Raises
    ------
    TinySAMError
        If the delivery is incomplete or damaged, or the weights are not finite.
    """
    found = put_together(folder, run)
    _name_sources(run / "recipe.yaml", pack / "manifest.json")
    weights = run / "best.safetensors"
    loaded = checkpoints.load(
        weights
    )  # checks that they are finite, and the architecture known
    say(
        f"{weights}: {found['what']}, step {found['step']}, {loaded.model.architecture}"
    )
    entries: list[ImageEntry] = []
    for source in load_recipe(pack / "recipe.yaml").validation:
        entries += read_source(source, pack)
    lines = []
    if entries:
        say(f"Both models are judged on {len(entries)} images.")
        judge = Judge(ImageStore(entries), torch.device("cpu"), limit=len(entries))
        rows = {
            "bundled": judge(checkpoints.load("default").model),
            "new": judge(loaded.model),
        }
        lines.append(_table(rows))
    lines.append(
        f"To put it into the package if it is better on all validation images:\n"
        f"script/train-default land --data DATA --run {run} --weights {weights}"
    )
    return "\n".join(lines)


def _name_sources(recipe: Path, manifest: Path) -> None:
    """Name the sources of a run's recipe as those that were packed are named."""
    sets = json.loads(manifest.read_text("utf-8"))["sets"]
    content = yaml.safe_load(recipe.read_text("utf-8"))
    for kind, split in (("data", "train"), ("validation", "val")):
        for source in content.get(kind, ()):
            if source["path"] in sets:
                source["path"], source["split"] = sets[source["path"]][1], split
                del source["kind"]
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    with replacing(recipe) as file:
        file.write(text.encode())


def _table(rows: Mapping[str, Mapping[str, float]]) -> str:
    lines = [["", *_HEADS.values()]]
    for name, figures in rows.items():
        cells = [f"{figures[key]:.3f}" if key in figures else "–" for key in _HEADS]
        lines.append([name, *cells])
    return in_columns(lines)
