"""Prompts for training: the first ones, and corrections where the student is wrong.

The corrections are TinySAM's online hard prompt sampling (arXiv 2312.13789, section 3.2): a point
on the object, then a point in the part that the answer missed, and so on, for a random number of
rounds per object. Other prompts of users are added to the paper's rule: boxes, points beside the
object, an earlier answer as mask prompt.

All draws come from one `torch.Generator` on the CPU, and their number depends on the number of
objects alone, so a GPU and a CPU draw the same samples. Regions are at the resolution of the mask
logits (4 pixels), points and boxes in pixels of the window; its first pixel's centre is (0, 0).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import torch

from napari_tinysam.frame import LOGIT
from tinysam_training.learning.losses import actual_iou, object_region
from tinysam_training.learning.prompt_batch import (
    ABSENT,
    NEGATIVE,
    POSITIVE,
    PromptBatch,
)
from tinysam_training.learning.region_sampling import chance, sample_in

if TYPE_CHECKING:
    from torch import Tensor

    from tinysam_training.recipe import PromptSettings

#: Mask prompts are clipped here, so that every answer can still be corrected.
MASK_PROMPT_LIMIT = 32.0

#: Least length of a sampled box's sides, in pixels.
SHORTEST_SIDE = 2.0


class Decode(Protocol):
    """The student, as `hard_prompts` calls it."""

    def __call__(
        self, prompts: PromptBatch, masks: Tensor | None, rows: Tensor, /
    ) -> tuple[Tensor, Tensor]:
        """Answer prompts.

        Parameters
        ----------
        prompts : PromptBatch
            Of n objects; rows may have different numbers of points, with or without a box.
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


# --- First prompts --------------------------------------------------------------------


@torch.no_grad()
def first_prompts(
    targets: Tensor,
    valid: Tensor,
    boxes: Tensor,
    settings: PromptSettings,
    rng: torch.Generator,
) -> PromptBatch:
    """Prompt each object with a point, a box, or both.

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
    PromptBatch
        One column of points, label −1 for objects that only have a box (or are absent from the
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
    return PromptBatch(
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
    loose = chance(count, settings.loose_boxes, rng).to(boxes.device)
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
        (N, h, w), also 0 where nothing is annotated: no negative point is drawn there.
    settings : PromptSettings
    rng : torch.Generator
        On the CPU.

    Returns
    -------
    points : Tensor
        (N, 2) float32, x and y in pixels of the window.
    labels : Tensor
        (N,) int64: 1, 0, or −1 for an object that is absent from the window.
    """
    inside = valid > 0
    found = (answers > 0) & inside
    wanted = object_region(targets) & inside
    missed = wanted & ~found
    # Untouched by the object: a click on a half-covered logit is not beside it.
    extra = found & (targets <= 0) & (known > 0)
    negative = chance(len(targets), settings.negatives, rng).to(targets.device)
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
    first: PromptBatch,
    targets: Tensor,
    valid: Tensor,
    known: Tensor,
    rounds: Tensor,
    settings: PromptSettings,
    rng: torch.Generator,
) -> tuple[PromptBatch, Tensor | None]:
    """Let the student answer, and correct it for a number of `rounds`.

    Parameters
    ----------
    decode : callable
        The student, see `Decode`. It runs only for objects that still need a correction.
    first : PromptBatch
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
    prompts : PromptBatch
        The first ones with all corrections; in mode "replace" with the newest point alone. Boxes
        stay in both modes.
    previous : Tensor or None
        (N, 1, h, w) float32 logits of the last answer, to decode with the prompts; NaN for objects
        without one. None if no object has one.
    """
    rounds = rounds.cpu()
    hands_back = chance(len(first), settings.mask_prompt, rng) & (rounds > 0)
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
    """(n, h, w) float32 logits of the mask to correct."""
    if settings.answer == "iou":
        scores = actual_iou(logits, targets, valid)
    best = scores.argmax(1)
    return logits[torch.arange(len(best), device=best.device), best].float()


def _corrected(
    prompts: PromptBatch,
    rows: Tensor,
    points: Tensor,
    labels: Tensor,
    settings: PromptSettings,
) -> PromptBatch:
    """Add the points of some rows, or replace the earlier ones."""
    if settings.mode == "replace":
        emptied = prompts.labels.index_fill(0, rows, ABSENT)
        prompts = replace(prompts, labels=emptied)
    all_points = prompts.points.new_zeros((len(prompts), 2))
    all_labels = prompts.labels.new_full((len(prompts),), ABSENT)
    return prompts.with_point(
        all_points.index_copy(0, rows, points.to(all_points)),
        all_labels.index_copy(0, rows, labels.to(all_labels)),
    )
