"""How objects are prompted in training."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from tinysam_training.recipe.values import STRICT, NotNegative, Part


@dataclass(frozen=True, config=STRICT)
class PromptSettings:
    """How objects are prompted.

    Attributes
    ----------
    point, box, box_with_point : float
        Relative frequencies of the forms of the first prompt.
    centred : float
        Probability that a point is drawn from the deeper half of its region only, where people
        click.
    box_jitter, box_jitter_pixels : float
        Standard deviation of each side's place: a share of the box's extent plus some pixels.
    loose_boxes, loose_share : float
        Probability of a carelessly drawn box, each side of which is moved by up to this share of
        the extent, evenly to both directions.
    mode : {"append", "replace"}
        Whether a correction is one more point, as users give them, or takes the place of the points
        before it. The paper's M_i = D(E_prompt(P_i), E_img) reads like the latter.
    answer : {"score", "iou"}
        Which of the three masks is corrected: the one the student scores highest, which is what
        users see, or the one nearest to the object.
    negatives : float
        Probability that a correction may be a point beside the object; 0 is the paper's.
    negatives_by : {"area", "chance"}
        When it then is one: where more is wrongly covered than missed, or whenever something is
        wrongly covered.
    mask_prompt : float
        Probability that an object's corrections come with the logits of the answer before.

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

    @classmethod
    def paper(cls, mode: Literal["append", "replace"] = "replace") -> PromptSettings:
        """Make the settings of TinySAM's paper: points on the object only, evenly drawn.

        Parameters
        ----------
        mode : {"append", "replace"}
            The paper does not say it outright; its formula reads like "replace".
        """
        return cls(
            point=1,
            box=0,
            box_with_point=0,
            centred=0,
            mode=mode,
            negatives=0,
            mask_prompt=0,
        )
