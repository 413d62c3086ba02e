"""Recipes: all settings of a training run, documented here, written in YAML files.

A recipe file contains only the values that differ from the defaults. They are checked before
anything is read or built; an unknown key is an error.
"""

from tinysam_training.recipe.augmentation import Augmentation
from tinysam_training.recipe.prompts import PromptSettings
from tinysam_training.recipe.recipe import (
    Recipe,
    find_recipe,
    load_recipe,
    recipe_as_yaml,
    recipe_from,
)
from tinysam_training.recipe.settings import (
    DataSource,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    Stage,
    TeacherSettings,
    ValidationSettings,
)

__all__ = [
    "Augmentation",
    "DataSource",
    "LossSettings",
    "ModelSettings",
    "OptimizerSettings",
    "PromptSettings",
    "Recipe",
    "Stage",
    "TeacherSettings",
    "ValidationSettings",
    "find_recipe",
    "load_recipe",
    "recipe_as_yaml",
    "recipe_from",
]
