"""The losses of one batch: student, teacher, prompts.

Every loss is a sum. The loop divides it by the count over all processes and accumulated batches,
which follows from the data alone. So the gradient does not depend on how the windows of a step are
distributed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_tinysam.frame import CELL, LOGIT
from napari_tinysam.model import ImageFeatures
from tinysam_training.learning import losses
from tinysam_training.learning.decoding import Decoded, decode
from tinysam_training.learning.drawn_prompts import DrawnPrompts, regions_of
from tinysam_training.learning.lora import add_low_rank
from tinysam_training.learning.prompt_sampling import (
    draw_rounds,
    first_prompts,
    hard_prompts,
)

if TYPE_CHECKING:
    from napari_tinysam.model import SegmentAnything
    from tinysam_training.data.batches import Batch, TrainingBatch
    from tinysam_training.learning.prompt_batch import PromptBatch
    from tinysam_training.recipe import Recipe

#: Losses, as `Objective` names them.
LOSSES = (
    "mask",
    "iou",
    "foreground",
    "dice",
    "centre",
    "boundary",
    "embedding",
    "token",
    "output",
)

#: For the log only: mean IoU of the best of three masks, and of the one with the best score.
FIGURES = ("iou_best", "iou_chosen")

#: Logits of a mask prompt beyond this carry no more information.
LOGIT_LIMIT = 32.0


class Sealed:
    """Hides a batch from Fabric, which takes dataclasses apart in mixed precision.

    Parameters
    ----------
    content : TrainingBatch
    """

    def __init__(self, content: TrainingBatch) -> None:
        self.content = content


class Objective(nn.Module):
    """The trained module: a student and the losses of its batches.

    Parameters
    ----------
    student : SegmentAnything
        Modified; the parts that the recipe does not train are frozen.
    recipe : Recipe
    teacher : SegmentAnything, optional
        Only its prompt encoder and mask decoder are run here. It is never trained, moved or saved
        with the student.
    """

    def __init__(
        self,
        student: SegmentAnything,
        recipe: Recipe,
        teacher: SegmentAnything | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.recipe = recipe
        # Not a submodule: a teacher is neither saved nor trained.
        self._teacher = [teacher.eval().requires_grad_(False)] if teacher else []
        encoder = student.image_encoder
        if recipe.model.trained in ("decoder", "head"):
            encoder.requires_grad_(False)
        if recipe.model.trained == "head":
            student.prompt_encoder.requires_grad_(False)
            student.mask_decoder.requires_grad_(False)
        elif recipe.model.trained == "lora":
            add_low_rank(encoder, recipe.model.lora_rank)
        # Never used, only kept for official files.
        for name in ("norm_head", "head"):
            if hasattr(encoder, name):
                getattr(encoder, name).requires_grad_(False)

    def train(self, mode: bool = True) -> Objective:
        """Set the mode; parts whose statistics must not move stay in eval mode."""
        super().train(mode)
        model = self.recipe.model
        if model.batch_norm == "frozen" or model.trained != "whole":
            self.student.image_encoder.eval()
        if model.batch_norm == "frozen" and self.student.object_head is not None:
            self.student.object_head.eval()
        return self

    def forward(
        self,
        batch: TrainingBatch | Sealed,
        rounds: int,
        shuffle_seed: int,
        dense: float = 0.9,
        seen: float = 0.75,
    ) -> dict[str, Tensor]:
        """Compute all losses of a batch.

        Parameters
        ----------
        batch : TrainingBatch or Sealed
        rounds : int
            Rounds of hard prompt sampling are drawn from 0 to this.
        shuffle_seed : int
            Of the prompts, together with the batch's number.
        dense, seen : float
            As in `tinysam_training.recipe.Stage`.

        Returns
        -------
        dict
            Sums of the enabled `LOSSES`, and of `FIGURES`. `counts` returns their divisors.
        """
        if isinstance(batch, Sealed):
            batch = batch.content
        windows, weights = batch.windows, self.recipe.losses
        rng = torch.Generator().manual_seed(_mixed(shuffle_seed, batch.number))
        features = batch.features
        if features is None:
            # Like its weights: a fifth less time on a CPU.
            image = windows.image.contiguous(memory_format=torch.channels_last)
            features = self.student.features(image)
        embedding = features.embedding
        found: dict[str, Tensor] = {}
        if self.student.object_head is not None and weights.object_head:
            maps = self.student.object_maps(features)
            known = losses.with_rims(windows.maps, windows.maps_weight, weights.rim)
            terms = losses.object_head_losses(maps, windows.maps, known)
            found |= {name: value for name, (value, _) in terms.items()}
        if self.recipe.model.trained == "head" or not batch.prompted:
            return found
        if batch.teacher is not None and weights.embedding:
            cells = valid_cells(windows.valid)
            found["embedding"], _ = losses.embedding_loss(
                embedding, batch.teacher, cells
            )
        # Even without objects: every process must compute the same kinds of losses.
        drawn = None
        if self.student.dense_prompts and dense:
            regions = regions_of(self.student, features, windows.valid)
            drawn = DrawnPrompts(regions, windows.window, dense, seen, rng)
        return found | self._prompted(batch, features, rounds, drawn, rng)

    def counts(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Count the divisors of a batch's sums, one number for each name.

        Parameters
        ----------
        batch : TrainingBatch
        """
        windows = batch.windows
        known = windows.maps_weight.float()
        objects = known.new_tensor(float(len(windows.window)))
        counts = dict.fromkeys((*LOSSES, *FIGURES), objects)
        if self.recipe.losses.sum_over_masks:
            counts["output"] = known.new_tensor(float(len(known)))
        known = losses.with_rims(windows.maps, known, self.recipe.losses.rim)
        counts["foreground"] = counts["boundary"] = known.sum()
        counts["centre"] = (known * windows.maps[:, :1]).sum()
        counts["dice"] = (known.sum((1, 2, 3)) > 0).float().sum()
        if batch.teacher is not None:
            cells = valid_cells(windows.valid)
            counts["embedding"] = cells.sum() * batch.teacher.shape[1]
        return counts

    def _prompted(
        self,
        batch: TrainingBatch,
        features: ImageFeatures,
        rounds: int,
        drawn: DrawnPrompts | None,
        rng: torch.Generator,
    ) -> dict[str, Tensor]:
        windows, weights = batch.windows, self.recipe.losses
        settings = self.recipe.prompts
        valid = windows.valid[windows.window, 0]  # (N, h, w)
        known = windows.known[windows.window, 0]
        prompts = first_prompts(windows.targets, valid, windows.boxes, settings, rng)
        masks: Tensor | None = None
        if rounds:
            before = detached(features)
            often = draw_rounds(len(windows.window), rounds, rng=rng)

            def answer(
                prompts: PromptBatch, masks: Tensor | None, rows: Tensor
            ) -> tuple[Tensor, Tensor]:
                decoded = self._decode(
                    self.student, before, windows, prompts, masks, drawn, rows
                )
                return decoded.logits.float(), decoded.scores.float()

            with torch.no_grad():
                prompts, masks = hard_prompts(
                    answer, prompts, windows.targets, valid, known, often, settings, rng
                )
            if masks is not None:
                masks = masks.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        decoded = self._decode(self.student, features, windows, prompts, masks, drawn)
        logits, scores = decoded.logits.float(), decoded.scores.float()
        parts = losses.mask_losses(logits, windows.targets, valid)
        each = weights.focal * parts.focal + weights.dice * parts.dice  # (N, 3)
        chosen = parts.iou.gather(1, scores.argmax(1, keepdim=True))[:, 0]
        found = {"iou_best": parts.iou.amax(1).sum(), "iou_chosen": chosen.sum()}
        if weights.focal or weights.dice:
            found["mask"] = losses.best_of_three(each, weights.others).sum()
        if weights.iou:
            found["iou"] = losses.iou_loss(scores, parts.iou).sum()
        if batch.teacher is not None and (weights.token or weights.output):
            found |= self._distilled(
                batch, decoded, prompts, masks, drawn, valid, parts.iou
            )
        return found

    def _distilled(
        self,
        batch: TrainingBatch,
        decoded: Decoded,
        prompts: PromptBatch,
        masks: Tensor | None,
        drawn: DrawnPrompts | None,
        valid: Tensor,
        student_iou: Tensor,
    ) -> dict[str, Tensor]:
        """L_token and L_out: the teacher's decoder answers the same prompts (paper, eq. 3–6)."""
        windows, weights = batch.windows, self.recipe.losses
        assert batch.teacher is not None
        teacher = self._teacher[0]
        with torch.no_grad():
            if not teacher.dense_prompts:
                drawn = None
            features = ImageFeatures(batch.teacher)
            target = self._decode(teacher, features, windows, prompts, masks, drawn)
        found: dict[str, Tensor] = {}
        if weights.token:
            each = losses.token_loss(decoded.tokens.float(), target.tokens.float())
            found["token"] = each.sum()
        if weights.output:
            logits, wanted = decoded.logits.float(), target.logits.float()
            each = losses.output_loss(logits, wanted, valid)
            hardness = torch.full_like(each, 0.5)
            if weights.hard_mask_weights:
                of_teacher = losses.mask_losses(wanted, windows.targets, valid).iou
                hardness = losses.hard_mask_weights(
                    of_teacher.amax(1), student_iou.amax(1)
                )
            found["output"] = (hardness * each).sum()
        return found

    def _decode(
        self,
        model: SegmentAnything,
        features: ImageFeatures,
        windows: Batch,
        prompts: PromptBatch,
        masks: Tensor | None,
        drawn: DrawnPrompts | None,
        rows: Tensor | None = None,
    ) -> Decoded:
        window = windows.window if rows is None else windows.window[rows]
        if masks is not None and masks.ndim == 3:
            masks = masks[:, None]
        if drawn is not None:
            masks = drawn(prompts, masks, rows)
        # A GPU prepares convolutions for each size of a batch anew, which takes longer than a step,
        # so there are only few sizes.
        multiple = len(windows) if window.device.type == "cuda" else 1
        decoded = decode_in_multiples(
            model, features, windows.offset, window, prompts, masks, multiple
        )
        if drawn is None or masks is None:
            return decoded
        return drawn.added(decoded, masks, rows)


def decode_in_multiples(
    model: SegmentAnything,
    features: ImageFeatures,
    offset: Tensor,
    window: Tensor,
    prompts: PromptBatch,
    masks: Tensor | None,
    multiple: int,
) -> Decoded:
    """`decode` with a number of rows that is a multiple; the first row is repeated for that.

    Parameters
    ----------
    model, features, offset, window, masks
        As for `decode`.
    prompts : PromptBatch
    multiple : int

    Returns
    -------
    Decoded
        Without the repeated rows.
    """
    count = len(window)
    more = -count % multiple if count else 0
    if more:
        rows = torch.arange(count + more, device=window.device)
        rows = rows.masked_fill(rows >= count, 0)
        window, prompts = window[rows], prompts.take(rows)
        masks = None if masks is None else masks[rows]
    decoded = decode(
        model,
        features,
        offset,
        window,
        prompts.points,
        prompts.labels,
        prompts.boxes,
        masks,
    )
    if not more:
        return decoded
    return Decoded(
        decoded.logits[:count], decoded.scores[:count], decoded.tokens[:count]
    )


def weights_by_name(recipe: Recipe) -> dict[str, float]:
    """Weight of every loss that `Objective` computes, for the sum that is minimised."""
    weights = recipe.losses
    head = weights.object_head
    return {
        "mask": 1.0,  # focal and dice are weighted before the best mask is chosen
        "iou": weights.iou,
        "embedding": weights.embedding,
        "token": weights.token,
        "output": weights.output,
        "foreground": head,
        "dice": head,
        # Smooth ℓ1 of values in 0–1 is small compared with the other two.
        "centre": 2 * head,
        "boundary": 4 * head,
    }


def parameter_groups(objective: Objective) -> list[dict[str, Any]]:
    """Sort the trained parameters into groups for the optimiser.

    Matrices decay; biases, norms, embeddings, tokens and attention biases do not. The encoder's own
    weights may learn more slowly than the rest.

    Returns
    -------
    list of dict
        With ``rate``, the group's learning rate relative to the schedule's.
    """
    settings = objective.recipe
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        if not parameter.requires_grad:
            continue
        plain = parameter.ndim < 2 or any(
            part in name
            for part in (
                "attention_biases",
                "embeddings.",
                "_embed.weight",
                "pos_embed",
                "token.",
                "tokens.",
            )
        )
        encoder = "image_encoder." in name and settings.model.trained == "whole"
        rate = settings.model.encoder_rate if encoder else 1.0
        groups.setdefault((plain, rate), []).append(parameter)
    decay = settings.optimizer.weight_decay
    return [
        {"params": members, "weight_decay": 0.0 if plain else decay, "rate": rate}
        for (plain, rate), members in sorted(groups.items(), key=lambda item: item[0])
    ]


def detached(features: ImageFeatures) -> ImageFeatures:
    """Detach features from their gradient."""
    details = tuple(each.detach() for each in features.details)
    return ImageFeatures(features.embedding.detach(), details)


def valid_cells(valid: Tensor) -> Tensor:
    """Cells that show any part of the image: (B, 1, 4g, 4g) → (B, 1, g, g)."""
    return nn.functional.max_pool2d(valid.float(), CELL // LOGIT)


def _mixed(seed: int, number: int) -> int:
    """Combine two numbers into one seed."""
    return (seed * 1_000_003 + number * 7_919 + 17) % (1 << 62)
