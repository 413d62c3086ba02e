"""Settings of prompts in training."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from tinysam_training.recipe.values import STRICT, NotNegative, Part


@dataclass(frozen=True, config=STRICT)
class PromptSettings:
    """Settings of prompts.

    Attributes
    ----------
    point, box, box_with_point : float
        Relative frequencies of the forms of the first prompt.
    centred : float
        Probability of drawing a point only from the deeper half of its region, where people click.
    box_jitter, box_jitter_pixels : float
        Standard deviation of each side's position: a share of the box's extent, plus pixels.
    loose_boxes, loose_share : float
        Probability of a loose box, and the largest shift of its sides as share of the extent,
        uniform in both directions.
    mode : {"append", "replace"}
        Whether a correction adds a point, as users do, or replaces the earlier points. The paper's
        M_i = D(E_prompt(P_i), E_img) reads like the latter.
    answer : {"score", "iou"}
        Which of the three masks is corrected: the one that the student scores highest, which users
        see, or the one nearest to the object.
    negatives : float
        Probability that a correction may be a point beside the object; 0 is the paper's.
    negatives_by : {"area", "chance"}
        When it is one: where the excess area is larger than the missed one, or wherever there is
        excess.
    mask_prompt : float
        Probability that an object's corrections come with the logits of the previous answer.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    point: NotNegative = 0.5
    box: NotNegative = 0.25
    box_with_point: NotNegative = 0.25
    centred: Part = 0.5
    box_jitter: NotNegative = 0.05
    box_jitter_pixels: NotNegative = 1.0
    loose_boxes: Part = 0.2
    loose_share: NotNegative = 0.15
    mode: Literal["append", "replace"] = "append"
    answer: Literal["score", "iou"] = "score"
    negatives: Part = 0.5
    negatives_by: Literal["area", "chance"] = "area"
    mask_prompt: Part = 0.5

    def __post_init__(self) -> None:
        if not self.point + self.box + self.box_with_point > 0:
            raise ValueError("one of point, box and box_with_point must be above 0")
