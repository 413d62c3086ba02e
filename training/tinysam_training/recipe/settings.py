"""The parts of a recipe: data, model, teacher, losses, stages, optimiser, validation."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from napari_tinysam.frame import FRAME
from tinysam_training.recipe.values import (
    STRICT,
    Count,
    CountOrNone,
    Decay,
    NotNegative,
    Part,
    Positive,
    Range,
)


@dataclass(frozen=True, config=STRICT)
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
        False: an unlabelled pixel is unknown, not background. Left out: the source decides.
    share : float
        How often its images are drawn, relative to the other sources. Within a source, images of
        similar appearance (gray or coloured, dark or bright) form groups, and a group of n is drawn
        in proportion to √n.
    limit : int
        The most images to use, evenly spaced; 0 for all.
    count, kinds, size, seed
        Synthetic only: number of different images, their kinds (all if empty), their size (height,
        width), and the seed.
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


@dataclass(frozen=True, config=STRICT)
class ModelSettings:
    """The model to train.

    Attributes
    ----------
    start : str
        "random", a name of the registry, or a checkpoint file.
    architecture : str, optional
        Of a random start, "efficientnet_lite0" if left out. Other starts have their own.
    imagenet : bool
        Whether the EfficientNet of a random start begins with ImageNet's weights
        (`tinysam_training.run.imagenet`).
    decoder : str
        A name of the registry or a checkpoint file. Its prompt encoder, mask decoder and object
        head (if it is of the same kind) replace the start's. With a random start, only the image
        encoder is new then, as in MobileSAM and TinySAM.
    object_head : bool
        Whether the object head is trained as well (added where the start has none).
    details : bool, optional
        Whether the object head sees the encoder's finer features. An existing head without them is
        extended and keeps its weights. Left out: as the start; a new head sees them where the
        encoder provides them.
    trained : {"whole", "lora", "decoder", "head"}
        The whole model; low-rank additions to the encoder's layers, plus decoder and head; only
        decoder and object head; or only the object head, without prompts.
    lora_rank : int
        Rank of the additions (Hu et al., ICLR 2022).
    batch_norm : {"train", "frozen"}
        Whether the encoder's batch norms follow the batches, or keep the start's statistics, which
        is better for few images or small batches.
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


@dataclass(frozen=True, config=STRICT)
class TeacherSettings:
    """The teacher of a distillation.

    Attributes
    ----------
    model : str
        A name of the registry or a checkpoint file; empty for none.
    cache : str
        Folder of its embeddings, relative to the output folder.
    flips : bool
        Whether to cache embeddings of flipped images as well (four times the space: 8.4 MB per
        image instead of 2.1).
    """

    model: str = ""
    cache: str = "teacher"
    flips: bool = True


@dataclass(frozen=True, config=STRICT)
class LossSettings:
    """Weights of the losses; a loss with weight 0 is not computed.

    The paper gives neither α, β, γ nor the weights of the mask loss; 20 : 1 is Segment Anything's.

    Attributes
    ----------
    focal, dice, iou : float
        Mask loss against the labels, and ℓ1 between predicted and actual IoU.
    others : float
        Share of the mask loss that goes to all three masks; the rest goes to the best one.
    object_head : float
        Foreground, centre and boundary distance.
    rim : float
        How much more the pixels along borders weigh in those.
    embedding, token, output : float
        α, β, γ of the paper's L_distill.
    hard_mask_weights : bool
        Whether H_i weights the output loss; if not, 0.5 does, its value for equal masks.
    sum_over_masks : bool
        Whether Σ_i H_i L_out,i is a sum over the masks of a window, as in the paper, or their mean.
        With P objects in every window the sum is P times as large.
    """

    focal: NotNegative = 20.0
    dice: NotNegative = 1.0
    iou: NotNegative = 1.0
    others: Part = 0.1
    object_head: NotNegative = 1.0
    rim: NotNegative = 0.0
    embedding: NotNegative = 0.0
    token: NotNegative = 0.0
    output: NotNegative = 0.0
    hard_mask_weights: bool = True
    sum_over_masks: bool = True


@dataclass(frozen=True, config=STRICT)
class Stage:
    """A part of the run.

    Attributes
    ----------
    share : float
        Share of the run's budget, relative to the other stages.
    windows : tuple of (side, count, weight)
        Side of windows in pixels of the 1024 px frame, number in a batch, relative frequency. Sides
        are multiples of 32; 1024 is the whole frame as at inference.
    objects : int
        The most prompted objects per window. 0: none; only encoder and object head learn.
    rounds : int
        Rounds of hard prompt sampling are drawn from 0 to this (the paper: 9).
    zoom : (float, float), optional
        Scale of the windows relative to inference, instead of the augmentation's. Smaller windows
        of a smaller picture show as many objects for a fraction of the work, good for a start.
    dense : float
        Share of objects with drawn prompts, in a model with dense prompts. The others keep the
        model usable in official code.
    seen : float
        Share of the drawn clicks that are drawn as the object head's object there. The others
        prepare the model for images in which the head finds nothing.
    """

    share: Positive = 1.0
    windows: tuple[tuple[int, int, float], ...] = ((224, 4, 0.85), (352, 2, 0.15))
    objects: CountOrNone = 6
    rounds: CountOrNone = 2
    zoom: Range | None = None
    dense: Part = 0.9
    seen: Part = 0.75

    def __post_init__(self) -> None:
        if not self.windows:
            raise ValueError("a stage has no windows")
        for side, count, weight in self.windows:
            if side % 32 or not 32 <= side <= FRAME or count < 1 or not weight > 0:
                raise ValueError(
                    f"windows of {side} pixels, {count} a batch, weight {weight}: sides are "
                    f"multiples of 32 up to {FRAME}, counts and weights positive"
                )


@dataclass(frozen=True, config=STRICT)
class OptimizerSettings:
    """AdamW and its schedule.

    Attributes
    ----------
    learning_rate, weight_decay, clip : float
        `clip` bounds the gradient's norm.
    betas : (float, float)
        Of the two moments.
    warmup, floor : float
        Share of the budget until the full rate; the cosine's end as share of the full rate.
    accumulate : int
        Batches per step. Several processes share them; with more processes than batches, each takes
        one.
    ema : float
        Decay per step of the averaged weights, which are validated and exported.
    """

    learning_rate: Positive = 1e-3
    weight_decay: NotNegative = 0.05
    clip: Positive = 1.0
    betas: tuple[Decay, Decay] = (0.9, 0.98)
    warmup: Part = 0.02
    floor: Part = 0.01
    accumulate: Count = 1
    ema: Part = 0.995


@dataclass(frozen=True, config=STRICT)
class ValidationSettings:
    """Frequency and data of validations during the run.

    Attributes
    ----------
    every : float
        Share of the budget between two validations.
    images, objects : int
        The most images, and objects per image; 0 objects: only the object head is judged.
    """

    every: NotNegative = 0.1
    images: Count = 16
    objects: CountOrNone = 8
