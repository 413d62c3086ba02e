"""The weights that a new run starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from napari_tinysam import checkpoints
from tinysam_training.recipe import recipe_from

if TYPE_CHECKING:
    from pathlib import Path

#: Architecture of a recipe that names none.
_USUAL = "efficientnet_lite0"

#: Learning rate of a run that begins with weights, unless its recipe names one: the usual one is
#: for an untrained decoder.
_CONTINUED_RATE = 3e-4


def plain_recipe(path: Path) -> dict[str, Any]:
    """Read the plain values of a recipe's file, and check them.

    Raises
    ------
    DataError
        If it is not a valid recipe.
    """
    from tinysam_training.recipe import load_recipe

    recipe = load_recipe(path)  # checks it
    content: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return {"name": recipe.name, **content}


def begun_with(content: dict[str, Any], start: str | Path | None) -> dict[str, Any]:
    """Start a recipe from weights; without any, from the recipe's own start.

    With weights, stages without prompts are left out if there are others: they are for an untrained
    encoder, and the decoder falls behind an encoder that learns without it. Trained weights also
    get a lower learning rate, if the recipe names none.

    Parameters
    ----------
    content : dict
        Plain values.
    start : str or Path or None
        Name or file; see `fitting_start`.
    """
    if start is None:
        return content
    model = {**content.get("model", {}), "start": str(start)}
    model.pop("imagenet", None)
    optimizer = {"learning_rate": _CONTINUED_RATE, **content.get("optimizer", {})}
    changed = {**content, "model": model, "optimizer": optimizer}
    prompted = [each for each in content.get("stages", ()) if each.get("objects") != 0]
    if prompted:
        changed["stages"] = prompted
    recipe_from(changed)
    return changed


def fitting_start(content: dict[str, Any]) -> str | None:
    """Return the bundled model's name if it has the recipe's architecture, else None."""
    wanted = content.get("model", {}).get("architecture") or _USUAL
    bundled = checkpoints.load("default").model.architecture
    return "default" if bundled == wanted else None
