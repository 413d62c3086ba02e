"""Fit the head that predicts IoU, and nothing else, to what the finished model really does.

Run as ``python -m tinysam_training.fit_scores MODEL DATA… -o OUT.safetensors``. While a model is
trained its masks keep getting better, on small windows with augmented pixels, and the head that
scores them follows. Users see whole frames, and choose by the scores: so the head is fitted once
more, at the end, to boxes, clicks and corrected clicks on whole images. The masks do not change;
which of the three is shown may. Use images that the model was trained on, or any others, but not
those that it is judged by.
"""

from __future__ import annotations

import argparse
import copy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_tinysam import checkpoints
from napari_tinysam.checkpoints import CheckpointError
from tinysam_training.data import ImageStore, find_pairs
from tinysam_training.data.batches import make_batch
from tinysam_training.data.labelled_image import DataError
from tinysam_training.data.windows import whole_frame
from tinysam_training.decoding import Decoded, decode
from tinysam_training.drawn_prompts import DrawnPrompts, regions_of
from tinysam_training.losses import actual_iou
from tinysam_training.pipeline import evenly_spaced
from tinysam_training.prompt_sampling import first_prompts, next_points
from tinysam_training.prompt_settings import PromptSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from napari_tinysam.model import SegmentAnything
    from tinysam_training.data.batches import Batch
    from tinysam_training.data.labelled_image import LabelledImage
    from tinysam_training.prompts import Prompts

#: Objects decoded at once.
_BATCH = 12

#: Every so many-th image tells when to stop fitting.
_HELD_BACK = 5


@dataclass(frozen=True, eq=False)
class Examples:
    """What the decoder says about M prompts, and how good that is.

    Attributes
    ----------
    tokens : Tensor
        (M, 256), the output token that IoU is predicted from.
    iou : Tensor
        (M, 3), of the three masks with the truth.
    image : Tensor
        (M,) int64, number of the image.
    """

    tokens: Tensor
    iou: Tensor
    image: Tensor


@dataclass(frozen=True)
class Fit:
    """Mean absolute difference between predicted and actual IoU on the images held back.

    Attributes
    ----------
    before, after : float
        Of the mask with the best score.
    iou_before, iou_after : float
        Mean IoU of that mask.
    """

    before: float
    after: float
    iou_before: float
    iou_after: float


def collect(
    model: SegmentAnything,
    images: ImageStore | Sequence[LabelledImage],
    *,
    objects: int = 12,
    rounds: int = 3,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Examples:
    """Prompt objects of whole images, correct the answers, and look at all of them.

    Parameters
    ----------
    model : SegmentAnything
        In eval mode.
    images : ImageStore or sequence of LabelledImage
    objects : int
        At most so many objects an image, large and small ones.
    rounds : int
        Answers to each object: to a first point or box, and to so many corrections less one.
    seed : int
    progress : callable, optional
        Called with the images done and their number.

    Raises
    ------
    DataError
        If there is no object.
    """
    settings = PromptSettings(mask_prompt=0.0)
    rng = torch.Generator().manual_seed(seed)
    tokens, iou, owners = [], [], []
    with torch.inference_mode():
        for number in range(len(images)):
            window = whole_frame(images[number])
            draws = np.random.default_rng([seed, number])
            batch = make_batch(
                [window], objects, draws, offsets=np.zeros((1, 2), np.int64)
            ).to(model.device)
            if len(batch.window):
                for decoded, real in _answers(model, batch, settings, rounds, rng):
                    tokens.append(decoded.tokens[:, 0].cpu())
                    iou.append(real.cpu())
                    owners.append(torch.full((len(real),), number))
            if progress is not None:
                progress(number + 1, len(images))
    if not tokens:
        raise DataError("There is no object to fit scores to.")
    return Examples(torch.cat(tokens), torch.cat(iou), torch.cat(owners))


def _answers(
    model: SegmentAnything,
    batch: Batch,
    settings: PromptSettings,
    rounds: int,
    rng: torch.Generator,
) -> list[tuple[Decoded, Tensor]]:
    """Answers to first prompts and to their corrections, with their actual IoU, (n, 3)."""
    embedding = model.image_encoder(batch.image)
    drawn = None
    if model.dense_prompts:
        drawn = DrawnPrompts(regions_of(model, embedding, batch.valid), batch.window)
    valid = batch.valid[batch.window, 0]
    known = batch.known[batch.window, 0]
    prompts = first_prompts(batch.targets, valid, batch.boxes, settings, rng)
    found = []
    for turn in range(rounds):
        shown = []
        for start in range(0, len(prompts), _BATCH):
            rows = torch.arange(len(prompts), device=embedding.device)
            rows = rows[start : start + _BATCH]
            decoded = _decoded(model, embedding, batch, prompts, drawn, rows)
            real = actual_iou(decoded.logits, batch.targets[rows], valid[rows])
            found.append((decoded, real))
            best = decoded.scores.argmax(1)
            shown.append(decoded.logits[torch.arange(len(best)), best])
        if turn + 1 < rounds:
            points, labels = next_points(
                torch.cat(shown), batch.targets, valid, known, settings, rng
            )
            prompts = prompts.with_point(points, labels)
    return found


def _decoded(
    model: SegmentAnything,
    embedding: Tensor,
    batch: Batch,
    prompts: Prompts,
    drawn: DrawnPrompts | None,
    rows: Tensor,
) -> Decoded:
    some = prompts.take(rows)
    masks = None if drawn is None else drawn(some, None, rows)
    decoded = decode(
        model,
        embedding,
        batch.offset,
        batch.window[rows],
        some.points,
        some.labels,
        some.boxes,
        masks,
    )
    if drawn is None or masks is None:
        return decoded
    return drawn.added(decoded, masks, rows)


def fit_scores(
    model: SegmentAnything,
    examples: Examples,
    *,
    steps: int = 1500,
    rate: float = 1e-3,
    seed: int = 0,
) -> Fit:
    """Fit the IoU head by ℓ1; of its weights along the way the best on held back images stay.

    Parameters
    ----------
    model : SegmentAnything
        Its `mask_decoder.iou_prediction_head` is changed.
    examples : Examples
    steps, rate : int, float
        AdamW with a cosine to 0, 256 examples a step.
    seed : int

    Returns
    -------
    Fit
    """
    decoder: Any = model.mask_decoder
    head: nn.Module = decoder.iou_prediction_head
    tokens, iou = examples.tokens.to(model.device), examples.iou.to(model.device)
    held = (examples.image % _HELD_BACK == _HELD_BACK - 1).to(model.device)
    if bool(held.all()) or not bool(held.any()):  # of few images: no choice
        held = torch.ones_like(held)
        learnt = held
    else:
        learnt = ~held
    places = learnt.nonzero()[:, 0]
    rng = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def judged() -> tuple[float, float]:
        with torch.no_grad():
            scores = head(tokens[held])[:, 1:]
        best = scores.argmax(1, keepdim=True)
        real = iou[held].gather(1, best)
        error = (scores.gather(1, best) - real).abs().mean()
        return float(error), float(real.mean())

    first = chosen = judged()
    kept = copy.deepcopy(head.state_dict())
    head.requires_grad_(True)
    for step in range(1, steps + 1):
        rows = torch.randint(len(places), (256,), generator=rng).to(places.device)
        rows = places[rows]
        with torch.enable_grad():
            loss = (head(tokens[rows])[:, 1:] - iou[rows]).abs().mean()
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 50 == 0 or step == steps:
            now = judged()
            if now[0] < chosen[0]:
                chosen, kept = now, copy.deepcopy(head.state_dict())
    head.load_state_dict(kept)
    return Fit(first[0], chosen[0], first[1], chosen[1])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--images", type=int, default=25, help="of each folder")
    parser.add_argument("--objects", type=int, default=12, help="of each image")
    arguments = parser.parse_args()
    try:
        source = checkpoints.load(arguments.model)
        entries = [
            entry
            for folder in arguments.data
            for entry in evenly_spaced(
                find_pairs(folder, arguments.split), arguments.images
            )
        ]
        examples = collect(
            source.model,
            ImageStore(entries),
            objects=arguments.objects,
            progress=lambda done, total: _say(f"{done} of {total} images"),
        )
        found = fit_scores(source.model, examples)
        notes = {k: v for k, v in source.notes.items() if k != "format"}
        half = checkpoints.is_half(source.path)
        checkpoints.save(source.model, arguments.output, notes, half=half)
    except (DataError, CheckpointError) as error:
        sys.exit(f"Error: {error}")
    _say(
        f"{len(examples.tokens)} answers. Mean |predicted − actual IoU| on images held back: "
        f"{found.before:.3f} before, {found.after:.3f} after; mean IoU of the chosen mask: "
        f"{found.iou_before:.3f} before, {found.iou_after:.3f} after."
    )


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
