"""Prompts for training: the first ones, and corrections where the student is wrong.

The corrections are TinySAM's online hard prompt sampling (arXiv 2312.13789, section 3.2): a point
on the object, then a point in the part of it that the answer missed, and so on for a number of
rounds that is drawn for each object. Around that paper's rule there is what users do besides:
boxes, points beside the object, an earlier answer handed back as mask prompt.

All draws come from one `torch.Generator` on the CPU, and their number depends on the number of
objects alone, so a GPU samples what the CPU does. Regions are at the resolution of the mask logits
(4 pixels), points and boxes in pixels of the window; the centre of its first pixel is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import torch
import torch.nn.functional as F

from tinysam_training.frame import LOGIT
from tinysam_training.losses import actual_iou, object_region

if TYPE_CHECKING:
    from torch import Tensor

#: Labels of points: on the object, beside it, and an entry that only fills up the row.
POSITIVE, NEGATIVE, ABSENT = 1, 0, -1

#: Mask prompts are cut off here, so that no answer is too sure of itself to be corrected.
MASK_PROMPT_LIMIT = 32.0

#: Sides of a sampled box are at least so many pixels long.
SHORTEST_SIDE = 2.0


@dataclass(frozen=True)
class PromptSettings:
    """How objects are pointed at. Plain numbers and words, as in a YAML recipe.

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

    point: float = 0.5
    box: float = 0.25
    box_with_point: float = 0.25
    centred: float = 0.5
    box_jitter: float = 0.05
    box_jitter_pixels: float = 1.0
    loose_boxes: float = 0.2
    loose_share: float = 0.15
    mode: Literal["append", "replace"] = "append"
    answer: Literal["score", "iou"] = "score"
    negatives: float = 0.5
    negatives_by: Literal["area", "chance"] = "area"
    mask_prompt: float = 0.5

    def __post_init__(self) -> None:
        for name in ("centred", "loose_boxes", "negatives", "mask_prompt"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability, 0 to 1.")
        for name in (
            "point",
            "box",
            "box_with_point",
            "box_jitter",
            "box_jitter_pixels",
            "loose_share",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative.")
        if not self.point + self.box + self.box_with_point > 0:
            raise ValueError("One of point, box and box_with_point must be above 0.")
        for name, known in (
            ("mode", ("append", "replace")),
            ("answer", ("score", "iou")),
            ("negatives_by", ("area", "chance")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}.")

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


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts of N objects, in pixels of their windows.

    Attributes
    ----------
    points : Tensor
        (N, P, 2) float32, x and y. In each row those that exist come first; the rest is 0.
    labels : Tensor
        (N, P) int64: 1 on the object, 0 beside it, −1 where there is no point.
    boxes : Tensor
        (N, 4) float32, x0, y0, x1, y1; NaN where there is none.
    """

    points: Tensor
    labels: Tensor
    boxes: Tensor

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.points)

    @property
    def has_box(self) -> Tensor:
        """(N,) bool."""
        return ~self.boxes.isnan().any(1)

    @property
    def point_count(self) -> Tensor:
        """(N,) int64."""
        return (self.labels != ABSENT).sum(1)

    def with_point(self, points: Tensor, labels: Tensor) -> Prompts:
        """Give every object one more point.

        Parameters
        ----------
        points : Tensor
            (N, 2), x and y.
        labels : Tensor
            (N,), −1 for objects that get none.
        """
        labels = torch.cat([self.labels, labels[:, None].to(self.labels)], dim=1)
        points = torch.cat([self.points, points[:, None].to(self.points)], dim=1)
        # Points that exist move to the front of their row, in the order they came.
        order = (labels == ABSENT).long().argsort(dim=1, stable=True)
        labels = labels.gather(1, order)
        points = points.gather(1, order[..., None].expand(-1, -1, 2))
        absent = (labels == ABSENT)[..., None]
        return replace(self, points=points.masked_fill(absent, 0), labels=labels)

    def take(self, rows: Tensor) -> Prompts:
        """Prompts of some objects.

        Parameters
        ----------
        rows : Tensor
            (n,) int64.
        """
        return Prompts(self.points[rows], self.labels[rows], self.boxes[rows])

    def trimmed(self) -> Prompts:
        """Leave out the columns in which no object has a point."""
        used = int(self.point_count.max()) if len(self) else 0
        return replace(self, points=self.points[:, :used], labels=self.labels[:, :used])


class Decode(Protocol):
    """The student, as `hard_prompts` calls it."""

    def __call__(
        self, prompts: Prompts, masks: Tensor | None, rows: Tensor, /
    ) -> tuple[Tensor, Tensor]:
        """Answer prompts.

        Parameters
        ----------
        prompts : Prompts
            Of n objects; rows may differ in their number of points and in having a box.
        masks : Tensor, optional
            (n, 1, h, w) logits; NaN in rows without a mask prompt.
        rows : Tensor
            (n,) int64, which of all the objects these are.

        Returns
        -------
        logits : Tensor
            (n, 3, h, w).
        scores : Tensor
            (n, 3), predicted IoU.
        """


# --- Points ---------------------------------------------------------------------------


def sample_in(
    region: Tensor,
    fallback: Tensor,
    rng: torch.Generator,
    *,
    covered: Tensor | None = None,
    centred: float = 0.0,
) -> Tensor:
    """Draw a point of each region: every logit is as likely as any other.

    Parameters
    ----------
    region : Tensor
        (N, h, w) bool.
    fallback : Tensor
        (N, h, w) bool, used where the region is empty.
    rng : torch.Generator
        On the CPU.
    covered : Tensor, optional
        (N, h, w) bool, logits all of whose 4 × 4 pixels may be hit. There the point is anywhere in
        the logit; in others, and if left out, at its centre.
    centred : float
        Probability of drawing from the deeper half of a region only.

    Returns
    -------
    Tensor
        (N, 2) float32, x and y in pixels of the window; NaN where the fallback is empty too.
    """
    count, _, width = region.shape
    centred_rows = _chance(count, centred, rng).nonzero()[:, 0]
    draw = torch.randint(1 << 62, (count,), generator=rng)
    jitter = (torch.rand((count, 2), generator=rng) - 0.5) * LOGIT
    if count == 0:
        return region.new_zeros((0, 2), dtype=torch.float32)

    region = torch.where(region.any(2).any(1)[:, None, None], region, fallback)
    if len(centred_rows):
        rows = centred_rows.to(region.device)
        region = region.index_copy(0, rows, _deep_part(region[rows]))

    flat = region.flatten(1)  # (N, h·w)
    ranks = flat.cumsum(1)
    total = ranks[:, -1]
    # Whole numbers throughout: the CPU and a GPU pick the same logit.
    wanted = draw.to(total.device) % total.clamp(min=1) + 1
    place = torch.searchsorted(ranks, wanted[:, None]).clamp(max=flat.shape[1] - 1)
    x, y = place % width, place.div(width, rounding_mode="floor")  # (N, 1)
    points = LOGIT * torch.cat([x, y], dim=1).float() + (LOGIT - 1) / 2
    if covered is not None:
        free = covered.flatten(1).gather(1, place)  # (N, 1)
        points = points + jitter.to(points.device) * free
    return points.masked_fill((total == 0)[:, None], torch.nan)


def _deep_part(region: Tensor) -> Tensor:
    """Logits (N, h, w) of a region that are more than half as deep in it as the deepest.

    Depth is the chessboard distance to the outside; what is beyond the window counts as outside.
    """
    # Erosions add up, so each region's deepest logit is found bit by bit: in a few dozen steps,
    # where one erosion after the other would take as many as half the window's side.
    steps = [1 << k for k in range((min(region.shape[1:]) // 2).bit_length())]
    left, radius = region, region.new_zeros(len(region), dtype=torch.long)
    for step in reversed(steps):
        trial = _eroded(left, step)
        survives = trial.any(2).any(1)
        left = torch.where(survives[:, None, None], trial, left)
        radius = radius + step * survives
    deep, half = region, (radius + 1) // 2
    for step in steps:
        wanted = (half & step) > 0
        deep = torch.where(wanted[:, None, None], _eroded(deep, step), deep)
    return deep


def _eroded(region: Tensor, radius: int) -> Tensor:
    """Erosion of (N, h, w) bool by a square of side 2 · radius + 1."""
    length = 2 * radius + 1
    region = F.pad(region, (radius,) * 4)
    for axis in (1, 2):
        have = 1  # each value says whether so many in a row, from it on, are all set
        while have < length:
            shift = min(have, length - have)
            count = region.shape[axis] - shift
            region = region.narrow(axis, 0, count) & region.narrow(axis, shift, count)
            have += shift
    return region


def _chance(count: int, probability: float, rng: torch.Generator) -> Tensor:
    """(count,) bool on the CPU, True with a probability."""
    return torch.rand(count, generator=rng) < probability


# --- First prompts --------------------------------------------------------------------


@torch.no_grad()
def first_prompts(
    targets: Tensor,
    valid: Tensor,
    boxes: Tensor,
    settings: PromptSettings,
    rng: torch.Generator,
) -> Prompts:
    """Point at each object with a point, a box, or both.

    Parameters
    ----------
    targets : Tensor
        (N, h, w), share of each logit that the object covers, 0–1.
    valid : Tensor
        (N, h, w), 0 in the padding.
    boxes : Tensor
        (N, 4), x0, y0, x1, y1 around each object, in pixels of the window.
    settings : PromptSettings
    rng : torch.Generator
        On the CPU.

    Returns
    -------
    Prompts
        One column of points, label −1 for objects that only have a box (or that are nowhere in the
        window).
    """
    count = len(targets)
    shares = torch.tensor([settings.point, settings.box, settings.box_with_point])
    ends = (shares / shares.sum()).cumsum(0)
    form = (torch.rand(count, generator=rng)[:, None] >= ends[:2]).sum(1)
    form = form.to(targets.device)  # 0 point, 1 box, 2 both
    region = object_region(targets) & (valid > 0)
    points = sample_in(
        region, region, rng, covered=targets >= 1, centred=settings.centred
    )
    drawn = sloppy_boxes(boxes, targets.shape[-2:], settings, rng)
    absent = (form == 1) | points.isnan().any(1)
    return Prompts(
        points.masked_fill(absent[:, None], 0)[:, None],
        torch.where(absent, ABSENT, POSITIVE)[:, None],
        drawn.masked_fill((form == 0)[:, None], torch.nan),
    )


def sloppy_boxes(
    boxes: Tensor,
    shape: tuple[int, int] | torch.Size,
    settings: PromptSettings,
    rng: torch.Generator,
) -> Tensor:
    """Draw boxes the way people do.

    Parameters
    ----------
    boxes : Tensor
        (N, 4), x0, y0, x1, y1 in pixels of the window.
    shape : (int, int)
        Height and width of the window in logits.
    settings : PromptSettings
    rng : torch.Generator
        On the CPU.

    Returns
    -------
    Tensor
        (N, 4) float32 inside the window, each side at least half as long as it was, and at least
        `SHORTEST_SIDE` pixels.
    """
    count = len(boxes)
    noise = torch.randn((count, 4), generator=rng).to(boxes.device)
    even = (torch.rand((count, 4), generator=rng) * 2 - 1).to(boxes.device)
    loose = _chance(count, settings.loose_boxes, rng).to(boxes.device)
    boxes = boxes.float()
    low, high = boxes[:, :2], boxes[:, 2:]
    extent = (high - low).clamp(min=0)
    sides = extent.repeat(1, 2)  # (N, 4)
    spread = settings.box_jitter * sides + settings.box_jitter_pixels
    moved = boxes + torch.where(
        loose[:, None], even * settings.loose_share * sides, noise * spread
    )
    window = boxes.new_tensor([shape[1], shape[0]]) * LOGIT  # x, y
    shortest = (extent / 2).clamp(min=SHORTEST_SIDE).minimum(window)
    low = moved[:, :2].clamp(min=0).minimum(window - shortest)
    high = moved[:, 2:].minimum(window).maximum(low + shortest)
    return torch.cat([low, high], dim=1)


# --- Corrections ----------------------------------------------------------------------


@torch.no_grad()
def next_points(
    answers: Tensor,
    targets: Tensor,
    valid: Tensor,
    known: Tensor,
    settings: PromptSettings,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw the point that corrects each answer.

    P_{i+1} ∈ M_gt − M_i, label 1; from M_gt if nothing is missed. With `PromptSettings.negatives`
    it may instead be a point of M_i − M_gt, label 0.

    Parameters
    ----------
    answers : Tensor
        (N, h, w), masks (bool) or logits.
    targets : Tensor
        (N, h, w), share of each logit that the object covers.
    valid : Tensor
        (N, h, w), 0 in the padding.
    known : Tensor
        (N, h, w), also 0 where the annotation says nothing: no negative point is drawn there.
    settings : PromptSettings
    rng : torch.Generator
        On the CPU.

    Returns
    -------
    points : Tensor
        (N, 2) float32, x and y in pixels of the window.
    labels : Tensor
        (N,) int64: 1, 0, or −1 for an object that is nowhere in the window.
    """
    inside = valid > 0
    found = (answers > 0) & inside
    wanted = object_region(targets) & inside
    missed = wanted & ~found
    # Not even touched by the object: a click on half an object is not beside it.
    extra = found & (targets <= 0) & (known > 0)
    negative = _chance(len(targets), settings.negatives, rng).to(targets.device)
    wrong = extra.sum((1, 2))
    least = missed.sum((1, 2)) if settings.negatives_by == "area" else 0
    negative = negative & (wrong > least)
    choice = negative[:, None, None]
    points = sample_in(
        torch.where(choice, extra, missed),
        wanted,
        rng,
        covered=torch.where(choice, targets <= 0, targets >= 1),
        centred=settings.centred,
    )
    labels = torch.where(negative, NEGATIVE, POSITIVE)
    labels = labels.masked_fill(points.isnan().any(1), ABSENT)
    return points.nan_to_num(), labels


def draw_rounds(count: int, max_rounds: int = 9, *, rng: torch.Generator) -> Tensor:
    """Draw how often each object is corrected, evenly from 0 to `max_rounds`.

    Parameters
    ----------
    count : int
        Number of objects.
    max_rounds : int
        The paper's is 9.
    rng : torch.Generator
        On the CPU.

    Returns
    -------
    Tensor
        (count,) int64, on the CPU.
    """
    return torch.randint(max_rounds + 1, (count,), generator=rng)


@torch.no_grad()
def hard_prompts(
    decode: Decode,
    first: Prompts,
    targets: Tensor,
    valid: Tensor,
    known: Tensor,
    rounds: Tensor,
    settings: PromptSettings,
    rng: torch.Generator,
) -> tuple[Prompts, Tensor | None]:
    """Let the student answer and correct it, as often as `rounds` says.

    Parameters
    ----------
    decode : callable
        The student, see `Decode`. It is asked only for objects that still need a correction.
    first : Prompts
        Of N objects.
    targets, valid, known : Tensor
        (N, h, w), as in `next_points`.
    rounds : Tensor
        (N,) int64, from `draw_rounds`.
    settings : PromptSettings
    rng : torch.Generator
        On the CPU.

    Returns
    -------
    prompts : Prompts
        The first ones with all corrections; in mode "replace" with the newest point alone. Boxes
        stay in both modes.
    previous : Tensor or None
        (N, 1, h, w) float32 logits of the last answer, to be decoded with the prompts; NaN for
        objects that get none. None if no object gets any.
    """
    rounds = rounds.cpu()
    hands_back = _chance(len(first), settings.mask_prompt, rng) & (rounds > 0)
    prompts = first
    previous: Tensor | None = None
    for i in range(int(rounds.max()) if len(rounds) else 0):
        chosen = (rounds > i).nonzero()[:, 0]
        rows = chosen.to(targets.device)
        masks = None
        if previous is not None and bool(hands_back[chosen].any()):
            masks = previous[rows]
        logits, scores = decode(prompts.take(rows).trimmed(), masks, rows)
        answers = _answers(logits, scores, targets[rows], valid[rows], settings)
        points, labels = next_points(
            answers, targets[rows], valid[rows], known[rows], settings, rng
        )
        prompts = _corrected(prompts, rows, points, labels, settings)
        if hands_back.any():
            if previous is None:
                previous = answers.new_full(
                    (len(first), 1, *answers.shape[1:]), torch.nan
                )
            given = hands_back[chosen].to(rows.device)
            handed = answers.clamp(-MASK_PROMPT_LIMIT, MASK_PROMPT_LIMIT)
            previous[rows[given], 0] = handed[given]
    return prompts.trimmed(), previous


def _answers(
    logits: Tensor,
    scores: Tensor,
    targets: Tensor,
    valid: Tensor,
    settings: PromptSettings,
) -> Tensor:
    """(n, h, w) float32 logits of the mask that is corrected."""
    if settings.answer == "iou":
        scores = actual_iou(logits, targets, valid)
    best = scores.argmax(1)
    return logits[torch.arange(len(best), device=best.device), best].float()


def _corrected(
    prompts: Prompts,
    rows: Tensor,
    points: Tensor,
    labels: Tensor,
    settings: PromptSettings,
) -> Prompts:
    """Add the points of some rows, or put them in place of those before."""
    if settings.mode == "replace":
        emptied = prompts.labels.index_fill(0, rows, ABSENT)
        prompts = replace(prompts, labels=emptied)
    all_points = prompts.points.new_zeros((len(prompts), 2))
    all_labels = prompts.labels.new_full((len(prompts),), ABSENT)
    return prompts.with_point(
        all_points.index_copy(0, rows, points.to(all_points)),
        all_labels.index_copy(0, rows, labels.to(all_labels)),
    )
