"""A training run as a value: a YAML file's settings, checked, with defaults for the rest."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pydantic
import yaml
from pydantic.dataclasses import dataclass

from napari_tinysam.errors import DataError, sentence
from tinysam_training.recipe.augmentation import Augmentation
from tinysam_training.recipe.prompts import PromptSettings
from tinysam_training.recipe.settings import (
    DataSource,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    Stage,
    TeacherSettings,
    ValidationSettings,
)
from tinysam_training.recipe.values import STRICT, CountOrNone, NotNegative

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

#: The recipes that come with the package.
_SHIPPED = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """A training run.

    Attributes
    ----------
    name : str
        For messages and the model's metadata.
    data, validation : tuple of DataSource
        Sources of training and of validation images.
    model, teacher, losses, prompts, augmentation, optimizer, judging
        See the classes.
    stages : tuple of Stage
        One after the other.
    steps : int
        Length of the run. 0: `minutes` sets it.
    minutes : float
        Time budget. With `steps`, the run stops at whichever comes first and the schedule follows
        the steps; without, the schedule follows the time.
    checkpoint_minutes : float
        Time between checkpoints, from which an interrupted run continues.
    seed : int
        For weights, data and prompts.
    """

    name: str = "recipe"
    data: tuple[DataSource, ...] = ()
    validation: tuple[DataSource, ...] = ()
    model: ModelSettings = field(default_factory=ModelSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    losses: LossSettings = field(default_factory=LossSettings)
    prompts: PromptSettings = field(default_factory=PromptSettings)
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    stages: tuple[Stage, ...] = (Stage(),)
    judging: ValidationSettings = field(default_factory=ValidationSettings)
    steps: CountOrNone = 0
    minutes: NotNegative = 0.0
    checkpoint_minutes: NotNegative = 5.0
    seed: CountOrNone = 0

    def __post_init__(self) -> None:
        losses, name = self.losses, repr(self.name)
        distilled = losses.embedding or losses.token or losses.output
        head = losses.object_head and self.model.object_head
        if self.steps <= 0 and self.minutes <= 0:
            raise ValueError(
                f"The recipe {name} says neither how many steps nor how many minutes to train."
            )
        if distilled and not self.teacher.model:
            raise ValueError(
                f"The recipe {name} has losses against a teacher, but names none."
            )
        if not (losses.focal or losses.dice or losses.iou or head or distilled):
            raise ValueError(f"The recipe {name} has no losses to learn from.")
        if self.model.trained == "head" and not head:
            raise ValueError(
                f"The recipe {name} trains the object head alone, but has no loss for it."
            )
        if not self.stages:
            raise ValueError(f"The recipe {name} has no stages.")
        for stage in self.stages:
            if not stage.objects and not (head or losses.embedding):
                raise ValueError(
                    f"A stage of the recipe {name} prompts no objects, and there is no other "
                    "loss to learn from."
                )
            if stage.zoom is not None and self.teacher.model:
                raise ValueError(
                    "A stage with a teacher has no zoom: the teacher embeds whole frames, as "
                    "inference sees them."
                )


#: Checks values, and converts a recipe to plain values.
_FORM = pydantic.TypeAdapter(Recipe)


def find_recipe(name: str | Path) -> Path:
    """Find the file of a recipe.

    Parameters
    ----------
    name : str or Path
        The name of a recipe that comes with the package, such as ``"default"``, or a path.

    Raises
    ------
    DataError
        If `name` is neither.
    """
    path = Path(name)
    known = {shipped.stem: shipped for shipped in sorted(_SHIPPED.glob("*.yaml"))}
    if str(name) in known:
        return known[str(name)]
    if path.name == str(name) and not path.suffix and not path.exists():
        raise DataError(
            f"There is no recipe {name}: name one of {', '.join(known)}, or a YAML file."
        )
    return path


def load_recipe(name: str | Path, **changes: Any) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    name : str or Path
        As for `find_recipe`.
    **changes
        Fields of `Recipe` that replace the file's, such as ``minutes=30``.

    Raises
    ------
    DataError
        If it cannot be read, is not YAML, or has keys or values that do not exist.
    """
    path = find_recipe(name)
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(sentence(error, f"{path} cannot be read")) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is not a YAML file: {reason}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no recipe: it needs keys and values.")
    return recipe_from({"name": path.stem, **content, **changes}, str(path))


def recipe_from(content: dict[str, Any], where: str = "The recipe") -> Recipe:
    """Make a recipe from plain values.

    Parameters
    ----------
    content : dict
        As in a YAML file.
    where : str
        Its name in messages.

    Raises
    ------
    DataError
        As for `load_recipe`.
    """
    try:
        return _FORM.validate_python(content)
    except pydantic.ValidationError as error:
        problems = " ".join(_problem(each) for each in error.errors())
        raise DataError(f"{where}: {problems}") from error


def recipe_as_yaml(recipe: Recipe) -> str:
    """Write a complete recipe, all defaults included."""
    plain = _FORM.dump_python(recipe, mode="json")
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def _problem(error: ErrorDetails) -> str:
    """Explain in a sentence where a recipe is wrong, and why."""
    kind: Any = Recipe
    place = ""
    for part in error["loc"]:
        if isinstance(part, int) and place:
            place += f"[{part}]"
            continue
        place += f".{part}" if place else str(part)
        if part not in kind.__pydantic_fields__:
            known = ", ".join(kind.__pydantic_fields__)
            return f"{place} is not known; there are {known}."
        kind = kind.__pydantic_fields__[part].annotation
        kind = next(iter(get_args(kind)), kind)  # tuple[Stage, ...] → Stage
    reason = error["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{place}: {reason}." if place else f"{reason}."
