"""Recipes: everything a training run does, as documented dataclasses and YAML files.

A recipe file names only what differs from the defaults here. Its values are checked before anything
is read or built; a key that does not exist is an error, not a default.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import pydantic
import yaml
from pydantic import Field

from napari_tinysam.errors import DataError, sentence
from napari_tinysam.frame import FRAME
from tinysam_training.data.augmentation import Augmentation
from tinysam_training.learning.prompt_settings import PromptSettings

# What values there can be; files are checked for it.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Part = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]

#: The recipes that come with the package.
_SHIPPED = Path(__file__).with_name("recipes")


@dataclass(frozen=True)
class DataSource:
    """One source of labelled images.

    Attributes
    ----------
    kind : {"folder", "sa1b", "coco", "synthetic", "packed"}
        Folder of image and label pairs, SA-1B folder, COCO json, the generator, or a file of
        `tinysam_training.data.packed`.
    path : str
        Relative to the data root of the command; for COCO the json file.
    images : str
        COCO only: folder of the images.
    split : str
        Sub-folder such as ``train``, where there is one.
    complete : bool, optional
        False: an unlabelled pixel is unknown, not background. Left out: as the source says.
    share : float
        How often its images are drawn, relative to the other sources. Within a source, images that
        look alike (gray or coloured, dark or bright) form groups, and a group of n is drawn in
        proportion to √n.
    limit : int
        At most so many of its images, evenly spaced; 0 for all.
    count, kinds, size, seed
        Synthetic only: how many different images, of which kinds (all if empty), how large
        (height, width), from which seed.
    origin : str
        Where the data is published, for the run's record.
    """

    kind: Literal["folder", "sa1b", "coco", "synthetic", "packed"] = "folder"
    path: str = "."
    images: str = "."
    split: str = "train"
    complete: bool | None = None
    share: Positive = 1.0
    limit: CountOrNone = 0
    count: Count = 1000
    kinds: tuple[str, ...] = ()
    size: tuple[Count, Count] = (512, 512)
    seed: CountOrNone = 0
    origin: str = ""


@dataclass(frozen=True)
class ModelSettings:
    """The model that is trained.

    Attributes
    ----------
    start : str
        "random", a name of the registry, or a checkpoint file.
    architecture : str, optional
        Of a random start, "efficientnet_lite0" if left out. Another start is widened to it:
        "tiny_vit_21m" begins with what a "tiny_vit" has learnt (`tinysam_training.run.widening`).
    imagenet : bool
        Whether the EfficientNet of a random start begins with what ImageNet taught it
        (`tinysam_training.run.imagenet`).
    decoder : str
        A name of the registry or a checkpoint file, whose prompt encoder, mask decoder and object
        head (if it is of the same kind) replace the start's. With a random start only the image
        encoder is new then, which is how MobileSAM and TinySAM begin.
    object_head : bool
        Whether the object head is trained along (added where the start has none).
    details : bool, optional
        Whether the object head sees the encoder's finer features. A head that does not yet learns
        to from what it knows. Left out: as the start's; a new head does where the encoder can.
    trained : {"whole", "lora", "decoder", "head"}
        The whole model; low-rank additions to the encoder's linear layers, decoder and head;
        decoder and object head alone; or the object head alone, without any prompts.
    lora_rank : int
        Rank of the additions (Hu et al., ICLR 2022).
    batch_norm : {"train", "frozen"}
        Whether the encoder's batch norms follow the batches, or keep the start's statistics:
        better for few images or small batches.
    encoder_rate : float
        Learning rate of the encoder's own weights relative to the rest.
    dense_prompts : bool, optional
        Whether prompts are also drawn into the mask prompt. Left out: as the start was trained;
        a random start gets none.
    """

    start: str = "random"
    architecture: (
        Literal[
            "efficientnet_lite0",
            "efficientnet_lite2",
            "tiny_vit",
            "tiny_vit_2m",
            "tiny_vit_11m",
            "tiny_vit_21m",
        ]
        | None
    ) = None
    imagenet: bool = False
    decoder: str = ""
    object_head: bool = True
    details: bool | None = None
    trained: Literal["whole", "lora", "decoder", "head"] = "whole"
    lora_rank: Count = 8
    batch_norm: Literal["train", "frozen"] = "train"
    encoder_rate: NotNegative = 1.0
    dense_prompts: bool | None = None


@dataclass(frozen=True)
class TeacherSettings:
    """The teacher of a distillation.

    Attributes
    ----------
    model : str
        A name of the registry or a checkpoint file; empty for none.
    cache : str
        Folder of its embeddings, relative to the output folder.
    flips : bool
        Whether the flipped images' embeddings are cached too (four times the space: 8.4 MB an
        image instead of 2.1).
    """

    model: str = ""
    cache: str = "teacher"
    flips: bool = True


@dataclass(frozen=True)
class LossSettings:
    """Weights of the losses; 0 leaves one out and does not compute it.

    The paper gives neither α, β, γ nor the weights of the mask loss; 20 : 1 is Segment Anything's.

    Attributes
    ----------
    focal, dice, iou : float
        Mask loss against the labels, and ℓ1 between predicted and actual IoU.
    others : float
        Share of the mask loss that goes to all three masks, the rest to the best one.
    object_head : float
        Foreground, centre and boundary distance.
    embedding, token, output : float
        α, β, γ of the paper's L_distill.
    hard_mask_weights : bool
        Whether H_i weighs the output loss, else 0.5 (its value for equal masks) does.
    sum_over_masks : bool
        Whether Σ_i H_i L_out,i is a sum over the masks of a window, as the paper writes it, or
        their mean. With P objects in every window the sum is P times as large.
    """

    focal: NotNegative = 20.0
    dice: NotNegative = 1.0
    iou: NotNegative = 1.0
    others: Part = 0.1
    object_head: NotNegative = 1.0
    embedding: NotNegative = 0.0
    token: NotNegative = 0.0
    output: NotNegative = 0.0
    hard_mask_weights: bool = True
    sum_over_masks: bool = True


@dataclass(frozen=True)
class Stage:
    """A part of the run.

    Attributes
    ----------
    share : float
        Of the run's budget, relative to the other stages.
    windows : tuple of (side, count, weight)
        Sides of windows in pixels of the 1024 px frame, how many of them a batch holds, how often
        they are drawn. Multiples of 32; 1024 is the whole frame as at inference.
    objects : int
        Prompted objects a window, at most. 0: none, the encoder and its object head alone learn.
    rounds : int
        Rounds of hard prompt sampling are drawn from 0 to this (the paper: 9).
    zoom : (float, float), optional
        Scale of the windows relative to inference, instead of the augmentation's. Smaller windows
        of a smaller picture show as many objects for a fraction of the work: the way to begin.
    dense : float
        Share of the objects whose prompts are drawn, in a model with dense prompts. The others
        keep the model fit for official code.
    seen : float
        Share of the drawn clicks that are drawn as the object which the object head sees there.
        The others get ready for images in which it sees nothing.
    """

    share: Positive = 1.0
    windows: tuple[tuple[int, int, float], ...] = ((224, 4, 0.85), (352, 2, 0.15))
    objects: CountOrNone = 6
    rounds: CountOrNone = 2
    zoom: tuple[Positive, Positive] | None = None
    dense: Part = 0.9
    seen: Part = 0.75


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW and its schedule.

    Attributes
    ----------
    learning_rate, weight_decay, clip : float
        `clip` bounds the gradient's norm.
    betas : (float, float)
        Of the two moments.
    warmup, floor : float
        Share of the budget until the rate is full; the cosine's end as share of it.
    accumulate : int
        Batches a step. Several processes share them; with more processes than batches, each does
        one.
    ema : float
        Decay of the averaged weights a step; those are validated and exported.
    """

    learning_rate: Positive = 1e-3
    weight_decay: NotNegative = 0.05
    clip: Positive = 1.0
    betas: tuple[Decay, Decay] = (0.9, 0.98)
    warmup: Part = 0.02
    floor: Part = 0.01
    accumulate: Count = 1
    ema: Part = 0.995


@dataclass(frozen=True)
class ValidationSettings:
    """When and on what the model is judged in between.

    Attributes
    ----------
    every : float
        Share of the budget between two validations.
    images, objects : int
        At most so many images, and objects an image; 0 objects: the object head alone is judged.
    """

    every: NotNegative = 0.1
    images: Count = 16
    objects: CountOrNone = 8


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes
    ----------
    name : str
        For messages and the model's metadata.
    data, validation : tuple of DataSource
        What is trained on, and what it is judged on.
    model, teacher, losses, prompts, augmentation, optimizer, judging
        See the classes.
    stages : tuple of Stage
        One after the other.
    steps : int
        Length of the run. 0: `minutes` says it.
    minutes : float
        Time budget. With `steps`, the run stops at whichever comes first and the schedule follows
        the steps; without, the schedule follows the time.
    checkpoint_minutes : float
        Between two checkpoints, from which an interrupted run goes on.
    seed : int
        Of weights, data and prompts.
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
        if self.steps <= 0 and self.minutes <= 0:
            raise DataError(
                f"The recipe {self.name!r} says neither how many steps nor how many "
                "minutes to train."
            )
        losses = self.losses
        distilled = losses.embedding or losses.token or losses.output
        if distilled and not self.teacher.model:
            raise DataError(
                f"The recipe {self.name!r} has losses against a teacher, but names none."
            )
        head = losses.object_head and self.model.object_head
        if not (losses.focal or losses.dice or losses.iou or head or distilled):
            raise DataError(f"The recipe {self.name!r} has no losses to learn from.")
        if self.model.trained == "head" and not head:
            raise DataError(
                f"The recipe {self.name!r} trains the object head alone, but has no loss for it."
            )
        if not self.stages:
            raise DataError(f"The recipe {self.name!r} has no stages.")
        for stage in self.stages:
            if not stage.windows:
                raise DataError(f"A stage of the recipe {self.name!r} has no windows.")
            if not stage.objects and not (head or losses.embedding):
                raise DataError(
                    f"A stage of the recipe {self.name!r} prompts no objects, and there is no "
                    "other loss to learn from."
                )
            if stage.zoom is not None:
                if self.teacher.model:
                    raise DataError(
                        "A stage with a teacher has no zoom: the teacher embeds whole frames, "
                        "as inference sees them."
                    )
                if stage.zoom[0] > stage.zoom[1]:
                    raise DataError(
                        f"A zoom is two scales, the smaller one first, not {stage.zoom}."
                    )
            for side, count, weight in stage.windows:
                if side % 32 or not 32 <= side <= FRAME or count < 1 or not weight > 0:
                    raise DataError(
                        f"Windows of {side} pixels, {count} a batch, weight {weight}: "
                        f"sides are multiples of 32 up to {FRAME}, counts and weights "
                        "positive."
                    )


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
        raise DataError(f"{path} holds no recipe: keys and values are expected.")
    return recipe_from({"name": path.stem, **content, **changes}, str(path))


def recipe_from(content: dict[str, Any], where: str = "The recipe") -> Recipe:
    """Make a recipe of plain values.

    Parameters
    ----------
    content : dict
        As in a YAML file.
    where : str
        How messages name it.

    Raises
    ------
    DataError
        As `load_recipe`.
    """
    _refuse_unknown(content, Recipe, where, "")
    try:
        return pydantic.TypeAdapter(Recipe).validate_python(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ").rstrip(".")
        raise DataError(
            f"{where}: {place + ': ' if place else ''}{message}."
        ) from error


def recipe_as_yaml(recipe: Recipe) -> str:
    """Write a recipe out whole, all defaults included."""
    plain = pydantic.TypeAdapter(Recipe).dump_python(recipe, mode="json")
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def _refuse_unknown(content: Any, kind: Any, where: str, place: str) -> None:
    """Raise for keys that no dataclass has; pydantic would pass over them."""
    if isinstance(content, list | tuple):
        for number, item in enumerate(content):
            _refuse_unknown(item, kind, where, f"{place}[{number}]")
    if not isinstance(content, dict) or not dataclasses.is_dataclass(kind):
        return
    hints = get_type_hints(kind)
    for key, value in content.items():
        if key not in hints:
            known = ", ".join(hints)
            raise DataError(
                f"{where}: {place + '.' if place else ''}{key} is not known; there are "
                f"{known}."
            )
        inner = hints[key]
        # tuple[Stage, ...] → Stage
        inner = next(iter(getattr(inner, "__args__", ())), inner)
        _refuse_unknown(value, inner, where, f"{place + '.' if place else ''}{key}")
