"""The first default model: TinySAM from scratch, on a CPU, in less than two hours.

One plain loop. Three things make so short a training possible:

- Windows of the model's 1024² frame instead of whole frames. The positional encoding is
  cut out of the full frame's at a random place and the prompts are moved there, so that
  the decoder sees the same encoding as at inference.
- An auxiliary dense head on the embedding (foreground, boundary, distance to the
  boundary). It gives the encoder a gradient at every pixel, long before the decoder has
  learnt what a prompt means.
- Queries and keys of the decoder's cross-attention start out equal. The positional
  encoding of a prompt then attends to its own place in the image from the first step.

Run as ``python -m tinysam_training.first_model --data DIR --out DIR --minutes N
[--resume]``.
"""

from __future__ import annotations

import argparse
import copy
import csv
import itertools
import math
import os
import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import save
from scipy import ndimage as ndi
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

from napari_tinysam.model import SegmentAnything, to_official
from tinysam_training.data import (
    FRAME,
    LabelledImage,
    Window,
    WindowSampler,
    read_split,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from segment_anything.modeling.transformer import Attention

STRIDE = 16  # pixels of the frame per embedding cell
LOGIT_STRIDE = 4  # pixels of the frame per mask logit
AUX_CHANNELS = 3  # foreground, boundary, distance to the boundary


@dataclass(frozen=True)
class Settings:
    """What the training does.

    Attributes
    ----------
    minutes : float
        Time budget, of which the learning rate follows a cosine.
    windows : tuple of (side, batch size, weight)
        Sizes of windows in pixels. 224 is a whole number of attention windows at all
        stages, the cheapest; 352 leaves the same remainders as 1024, so its lower and
        right borders look like those of a whole frame.
    objects : int
        Prompted objects a window, at most.
    learning_rate, weight_decay, clip : float
        AdamW; `clip` bounds the gradient's norm.
    warmup : float
        Share of the budget until the learning rate is full.
    dense_phase : float
        Share of the budget during which few objects are prompted and the auxiliary head
        leads.
    refine_from, refine_share : float
        From which share of the budget on, and for which share of the prompts, a first
        answer is corrected with one more point and its own logits.
    ema : float
        Decay of the averaged weights a step.
    """

    minutes: float = 100.0
    windows: tuple[tuple[int, int, float], ...] = ((224, 4, 0.85), (352, 2, 0.15))
    objects: int = 6
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    clip: float = 1.0
    warmup: float = 0.02
    dense_phase: float = 0.2
    refine_from: float = 0.45
    refine_share: float = 0.25
    ema: float = 0.995
    seed: int = 0


class DenseHead(nn.Module):
    """Auxiliary head: the embedding at stride 16 to three maps at stride 4."""

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(channels, 64, 2, stride=2),
            LayerNorm2d(64),
            nn.GELU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(64, 32, 2, stride=2),
            nn.GELU(),
            nn.Conv2d(32, AUX_CHANNELS, 1),
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, 256, g, g) → logits (B, 3, 4g, 4g)."""
        maps: Tensor = self.layers(embedding)
        return maps


@dataclass
class Prompts:
    """Prompts of N objects in one batch of windows, in pixels of the window.

    Attributes
    ----------
    window : ndarray of int, (N,)
        Which window of the batch.
    points : list of ndarray, (P, 2)
        x, y of each object's points; none for a box alone.
    labels : list of ndarray, (P,)
        1 on the object, 0 beside it.
    boxes : ndarray, (N, 4)
        x0, y0, x1, y1; NaN where the prompt has no box.
    targets : ndarray of float32, (N, S / 4, S / 4)
        How much of each logit's cell the object covers, 0–1.
    """

    window: npt.NDArray[np.int64]
    points: list[npt.NDArray[np.float32]]
    labels: list[npt.NDArray[np.float32]]
    boxes: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]


@dataclass
class Batch:
    """What one step needs, as arrays."""

    image: npt.NDArray[np.float32]  # (B, 3, S, S), normalised and padded
    aux: npt.NDArray[np.float32]  # (B, 3, S/4, S/4)
    aux_weight: npt.NDArray[np.float32]  # (B, 1, S/4, S/4)
    valid: npt.NDArray[np.float32]  # (B, 1, S/4, S/4), 0 in the padding
    offset: npt.NDArray[np.int64]  # (B, 2), y and x of the window in cells of the frame
    prompts: Prompts


# --- Targets and prompts --------------------------------------------------------------


def cover(mask: npt.NDArray[np.bool_], stride: int = LOGIT_STRIDE) -> Any:
    """Share of each cell that a mask covers: (H, W) → (H / stride, W / stride)."""
    h, w = mask.shape
    cells = mask.reshape(h // stride, stride, w // stride, stride)
    return cells.mean(axis=(1, 3), dtype=np.float32)


def point_inside(
    mask: npt.NDArray[np.bool_], rng: np.random.Generator, centred: float = 0.5
) -> npt.NDArray[np.float32]:
    """Draw a pixel (x, y) of a mask.

    Parameters
    ----------
    mask : ndarray of bool, (H, W)
        Not empty.
    rng : numpy Generator
    centred : float
        Probability of drawing from the deeper half of the mask only.
    """
    ys, xs = np.nonzero(mask)
    if rng.random() < centred and len(ys) > 8:
        y0, x0 = ys.min(), xs.min()
        part = np.pad(mask[y0 : ys.max() + 1, x0 : xs.max() + 1], 1)
        depth = ndi.distance_transform_cdt(part)[1:-1, 1:-1][ys - y0, xs - x0]
        deep = depth >= np.median(depth)
        ys, xs = ys[deep], xs[deep]
    i = rng.integers(len(ys))
    return np.array([xs[i], ys[i]], np.float32)


def point_beside(
    mask: npt.NDArray[np.bool_], height: int, width: int, rng: np.random.Generator
) -> npt.NDArray[np.float32] | None:
    """Draw a pixel (x, y) of the image beside a mask; None if none is found."""
    ys, xs = np.nonzero(mask)
    margin = 4 + 0.5 * max(np.ptp(ys), np.ptp(xs))
    for _ in range(8):
        y = int(rng.uniform(max(0, ys.min() - margin), min(height, ys.max() + margin)))
        x = int(rng.uniform(max(0, xs.min() - margin), min(width, xs.max() + margin)))
        if not mask[y, x]:
            return np.array([x, y], np.float32)
    return None


def jittered_box(
    mask: npt.NDArray[np.bool_], height: int, width: int, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Box of a mask (x0, y0, x1, y1), each side moved by about a twentieth."""
    ys, xs = np.nonzero(mask)
    box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
    extent = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    box += rng.normal(0, 0.05, 4) * extent + rng.normal(0, 0.7, 4)
    low = np.zeros(4)
    return np.clip(box, low, [width, height, width, height]).astype(np.float32)


def sample_prompts(
    windows: list[Window], objects: int, rng: np.random.Generator
) -> Prompts:
    """Choose objects in each window and how they are pointed at.

    Parameters
    ----------
    windows : list of Window
    objects : int
        At most so many a window.
    rng : numpy Generator

    Returns
    -------
    Prompts
        Half one point, a quarter a box, the rest a box with a point or two or three
        points.
    """
    index, points, labels, boxes, targets = [], [], [], [], []
    for i, window in enumerate(windows):
        ids, areas = np.unique(window.labels, return_counts=True)
        # Below about 5 × 5 pixels of the frame an object is two logits wide.
        ids = ids[(ids > 0) & (areas >= 24)]
        for label in rng.permutation(ids)[:objects]:
            mask = window.labels == label
            kind = rng.random()
            box = np.full(4, np.nan, np.float32)
            drawn: list[npt.NDArray[np.float32]] = []
            signs: list[float] = []
            if kind < 0.35:  # a box, alone or with a point
                box = jittered_box(mask, window.height, window.width, rng)
            if not 0.1 < kind < 0.35:
                drawn.append(point_inside(mask, rng))
                signs.append(1)
            if kind > 0.85:
                for _ in range(rng.integers(1, 3)):
                    beside = point_beside(mask, window.height, window.width, rng)
                    if beside is not None and rng.random() < 0.6:
                        drawn.append(beside)
                        signs.append(0)
                    else:
                        drawn.append(point_inside(mask, rng, centred=0))
                        signs.append(1)
            index.append(i)
            points.append(np.array(drawn, np.float32).reshape(-1, 2))
            labels.append(np.array(signs, np.float32))
            boxes.append(box)
            targets.append(cover(mask))
    side = windows[0].labels.shape[0] // LOGIT_STRIDE
    return Prompts(
        np.array(index, np.int64),
        points,
        labels,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(targets, np.float32).reshape(-1, side, side),
    )


def aux_targets(
    window: Window,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Targets (3, S/4, S/4) and weights (1, S/4, S/4) of the auxiliary head."""
    labels = window.labels
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        differs = np.diff(labels, axis=axis) != 0
        edge |= np.pad(differs, [(0, 1) if a == axis else (0, 0) for a in (0, 1)])
        edge |= np.pad(differs, [(1, 0) if a == axis else (0, 0) for a in (0, 1)])
    foreground = labels > 0
    size = labels.shape[0] // LOGIT_STRIDE
    depth = window.depth.reshape(size, LOGIT_STRIDE, size, LOGIT_STRIDE)
    targets = np.stack([cover(foreground), cover(edge) > 0.25, depth.mean(axis=(1, 3))])
    valid = np.zeros((size, size), np.float32)
    valid[: window.height // LOGIT_STRIDE, : window.width // LOGIT_STRIDE] = 1
    if not window.complete:
        # Unlabelled pixels may be objects: only those right beside a labelled one
        # count.
        valid *= ndi.binary_dilation(targets[0] > 0, iterations=2)
    if window.nested:
        valid *= 0  # the other labelling of the same image says what the foreground is
    return targets.astype(np.float32), valid[None]


def make_batch(
    sampler: WindowSampler,
    size: int,
    count: int,
    objects: int,
    rng: np.random.Generator,
    mean: npt.NDArray[np.float32],
    std: npt.NDArray[np.float32],
) -> Batch:
    """Draw a batch of windows with prompts."""
    windows = [sampler(size, rng) for _ in range(count)]
    cells = size // STRIDE
    side = size // LOGIT_STRIDE
    image = np.zeros((count, 3, size, size), np.float32)
    valid = np.zeros((count, 1, side, side), np.float32)
    for i, window in enumerate(windows):
        h, w = window.height, window.width
        # The padding stays zero: it comes after the normalisation, as in the model.
        image[i, :, :h, :w] = (window.rgb[:, :h, :w] - mean) / std
        valid[i, 0, : -(-h // LOGIT_STRIDE), : -(-w // LOGIT_STRIDE)] = 1
    aux, weight = zip(*(aux_targets(window) for window in windows), strict=True)
    return Batch(
        image,
        np.stack(aux),
        np.stack(weight),
        valid,
        rng.integers(0, FRAME // STRIDE - cells + 1, (count, 2)),
        sample_prompts(windows, objects, rng),
    )


def prefetched(
    make: Callable[[np.random.Generator], Batch], count: int = 3, seed: int = 0
) -> Iterator[Batch]:
    """Batches made in a thread beside the training step.

    Parameters
    ----------
    make : callable
        Takes a numpy Generator, returns a `Batch`.
    count : int
        How many wait at most.
    seed : int
    """
    waiting: queue.Queue[Batch | Exception] = queue.Queue(maxsize=count)

    def work() -> None:
        rng = np.random.default_rng(seed)
        try:
            while True:
                waiting.put(make(rng))
        except Exception as error:  # noqa: BLE001 (the training loop raises it)
            waiting.put(error)

    threading.Thread(target=work, daemon=True).start()
    while True:
        item = waiting.get()
        if isinstance(item, Exception):
            raise item
        yield item


# --- Decoding in windows --------------------------------------------------------------


def decode(
    model: SegmentAnything,
    embedding: Tensor,
    offset: Tensor,
    window: Tensor,
    points: Tensor | None,
    labels: Tensor | None,
    boxes: Tensor | None,
    masks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Decode N prompts of the same form in B windows of the frame.

    Parameters
    ----------
    model : SegmentAnything
    embedding : Tensor
        (B, 256, g, g), of windows of 16g pixels.
    offset : Tensor
        (B, 2), y and x of the windows in cells of the frame.
    window : Tensor
        (N,), the window of each prompt.
    points, labels, boxes : Tensor, optional
        (N, P, 2), (N, P) and (N, 4), in pixels of the window.
    masks : Tensor, optional
        (N, 1, 4g, 4g), logits of an earlier answer.

    Returns
    -------
    logits : Tensor
        (N, 3, 4g, 4g).
    scores : Tensor
        (N, 3), predicted IoU.
    """
    encoder, decoder = model.prompt_encoder, model.mask_decoder
    cells = embedding.shape[-1]
    frame_pe = encoder.get_dense_pe()[0]  # (256, 64, 64)
    pe = torch.stack(
        [frame_pe[:, y : y + cells, x : x + cells] for y, x in offset.tolist()]
    )
    shift = (offset[window] * STRIDE).flip(-1).float()  # (N, 2), x and y
    if points is not None:
        points = points + shift[:, None]
    if boxes is not None:
        boxes = boxes + shift.repeat(1, 2)
    prompts = (points, labels) if points is not None else None
    sparse, dense = encoder(prompts, boxes, masks)  # (N, tokens, 256)
    # Without a mask prompt the dense embedding is one constant vector over the whole
    # frame.
    dense = dense[..., :cells, :cells]

    # From here on `MaskDecoder.predict_masks`, which takes one image at a time.
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([own.expand(len(window), -1, -1), sparse], dim=1)
    source = embedding[window] + dense
    hidden, source = decoder.transformer(source, pe[window], tokens)
    # (N, g·g, 256) → (N, 256, g, g) → (N, 32, 4g, 4g)
    source = source.transpose(1, 2).reshape(len(window), -1, cells, cells)
    upscaled = decoder.output_upscaling(source)
    # Token 0 is SAM's single mask, which this model does not offer.
    weights = torch.stack(
        [
            mlp(hidden[:, 1 + i])
            for i, mlp in enumerate(decoder.output_hypernetworks_mlps)
            if i > 0
        ],
        dim=1,
    )  # (N, 3, 32)
    logits = torch.einsum("nkc,nchw->nkhw", weights, upscaled)
    scores: Tensor = decoder.iou_prediction_head(hidden[:, 0])[:, 1:]
    return logits, scores


def grouped(prompts: Prompts) -> list[list[int]]:
    """Group prompts of one form: equally many points, with or without a box."""

    def form(i: int) -> tuple[int, bool]:
        return len(prompts.points[i]), bool(np.isnan(prompts.boxes[i, 0]))

    order = sorted(range(len(prompts.window)), key=form)
    return [list(group) for _, group in itertools.groupby(order, key=form)]


def decode_group(
    model: SegmentAnything,
    embedding: Tensor,
    offset: Tensor,
    prompts: Prompts,
    group: list[int],
    masks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`decode` for prompts of the same form."""
    points = labels = boxes = None
    if len(prompts.points[group[0]]):
        points = torch.from_numpy(np.stack([prompts.points[i] for i in group]))
        labels = torch.from_numpy(np.stack([prompts.labels[i] for i in group]))
    if not np.isnan(prompts.boxes[group[0], 0]):
        boxes = torch.from_numpy(prompts.boxes[group])
    window = torch.from_numpy(prompts.window[group])
    return decode(model, embedding, offset, window, points, labels, boxes, masks)


@torch.no_grad()
def corrected(
    model: SegmentAnything,
    embedding: Tensor,
    offset: Tensor,
    prompts: Prompts,
    group: list[int],
    valid: npt.NDArray[np.float32],
    rng: np.random.Generator,
) -> tuple[Prompts, Tensor]:
    """Answer once, and add a point where the answer is wrong.

    Returns
    -------
    prompts : Prompts
        Those of `group`, each with one more point.
    masks : Tensor
        (len(group), 1, 4g, 4g), logits of the answer with the best predicted score.
    """
    logits, scores = decode_group(model, embedding, offset, prompts, group)
    best = logits[torch.arange(len(group)), scores.argmax(1)]  # (N, 4g, 4g)
    answer = best.numpy() > 0
    points, labels = [], []
    for n, i in enumerate(group):
        wanted = prompts.targets[i] > 0.5
        inside = valid[prompts.window[i], 0] > 0
        missed, extra = wanted & ~answer[n], answer[n] & ~wanted & inside
        label = float(missed.sum() >= extra.sum())
        region = missed if label else extra
        if not region.any():
            region, label = (wanted if wanted.any() else prompts.targets[i] > 0), 1.0
        cell = point_inside(region, rng)
        point = cell * LOGIT_STRIDE + (LOGIT_STRIDE - 1) / 2  # centre of the cell
        points.append(np.vstack([prompts.points[i], point]).astype(np.float32))
        labels.append(np.append(prompts.labels[i], label).astype(np.float32))
    harder = Prompts(
        prompts.window[group],
        points,
        labels,
        prompts.boxes[group],
        prompts.targets[group],
    )
    return harder, best[:, None].clamp(-32, 32)


# --- Losses ---------------------------------------------------------------------------


def mask_loss(
    logits: Tensor, scores: Tensor, targets: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """SAM's loss: focal 20, dice 1, IoU head 1, for the best of the three masks.

    Parameters
    ----------
    logits : Tensor
        (N, 3, h, w).
    scores : Tensor
        (N, 3), predicted IoU.
    targets : Tensor
        (N, h, w), covered share of each cell, 0–1.
    valid : Tensor
        (N, h, w), 0 in the padding.

    Returns
    -------
    loss : Tensor
        (N,). The masks that are not the best one get a tenth of the weight, so that
        none dies.
    iou : Tensor
        (N, 3), IoU of each mask, without gradient.
    """
    target = targets[:, None].expand_as(logits)
    inside = valid[:, None]
    area = inside.sum((2, 3))
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid()
    # Focal loss for soft targets (Li et al., 2020): |t − p|² in place of (1 − p_t)².
    focal = (target - probability).abs().square() * cross_entropy * inside
    focal = focal.sum((2, 3)) / area
    probability = probability * inside
    overlap = (probability * target).sum((2, 3))
    dice = 1 - (2 * overlap + 1) / (probability.sum((2, 3)) + target.sum((2, 3)) + 1)
    each = 20 * focal + dice  # (N, 3)
    with torch.no_grad():
        found = (logits > 0) & (inside > 0)
        wanted = target > 0.5
        union = (found | wanted).sum((2, 3)).clamp(min=1)
        iou = (found & wanted).sum((2, 3)) / union
    score = (scores - iou).abs().mean(1)
    return 0.9 * each.min(1).values + 0.1 * each.mean(1) + score, iou


def aux_loss(maps: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy and dice for the masks, smooth L1 for the distance."""
    total = weight.sum().clamp(min=1)
    entropy = F.binary_cross_entropy_with_logits(
        maps[:, :2], targets[:, :2], reduction="none"
    )
    probability = maps[:, :1].sigmoid() * weight
    overlap = (probability * targets[:, :1]).sum()
    dice = 1 - (2 * overlap + 1) / (
        probability.sum() + (targets[:, :1] * weight).sum() + 1
    )
    distance = F.smooth_l1_loss(
        maps[:, 2:].sigmoid(), targets[:, 2:], beta=0.2, reduction="none"
    )
    loss: Tensor = (
        (entropy * weight).sum() + 2 * (distance * weight).sum()
    ) / total + dice
    return loss


# --- The loop -------------------------------------------------------------------------


def new_model() -> SegmentAnything:
    """TinySAM with random weights, begun so that prompts find their place at once."""
    model = SegmentAnything()
    with torch.no_grad():
        transformer = model.mask_decoder.transformer
        crossings: list[Attention] = [transformer.final_attn_token_to_image]
        for layer in transformer.layers:
            crossings += [
                layer.cross_attn_token_to_image,
                layer.cross_attn_image_to_token,
            ]
        for attention in crossings:
            nn.init.xavier_uniform_(attention.q_proj.weight, gain=1.6)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.q_proj.bias.zero_()
            attention.k_proj.bias.zero_()
        # Quieter than nn.Embedding's N(0, 1), which would drown the positional
        # encoding.
        encoder, decoder = model.prompt_encoder, model.mask_decoder
        for table in (
            *encoder.point_embeddings,
            encoder.not_a_point_embed,
            decoder.iou_token,
            decoder.mask_tokens,
        ):
            table.weight.mul_(0.5)
        encoder.no_mask_embed.weight.mul_(0.1)
    return model


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms, embeddings and attention biases do not."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        plain = parameter.ndim < 2 or "attention_biases" in name or "embed" in name
        (kept if plain or "token" in name else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]


def rate_at(progress: float, settings: Settings) -> float:
    """Learning rate at a share of the budget: warm-up, then cosine to 1 %."""
    if progress < settings.warmup:
        return settings.learning_rate * max(progress / settings.warmup, 0.01)
    along = min((progress - settings.warmup) / (1 - settings.warmup), 1.0)
    return settings.learning_rate * (0.01 + 0.495 * (1 + math.cos(math.pi * along)))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Exponential moving average of the parameters and of the batch-norm statistics."""
    current = model.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(current[name], 1 - decay)
        else:
            value.copy_(current[name])


class Training:
    """Model, average, optimiser and progress, and the step that moves them.

    Parameters
    ----------
    settings : Settings
    model : SegmentAnything, optional
        A model to go on with, a new one by default.
    """

    def __init__(
        self, settings: Settings, model: SegmentAnything | None = None
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.model = model or new_model()
        self.model.image_encoder.to(memory_format=torch.channels_last)
        self.head = DenseHead()
        self.average = copy.deepcopy(self.model).eval()
        self.trained = nn.ModuleList([self.model, self.head])
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.trained, settings.weight_decay),
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
        )
        self.parameters = [p for p in self.trained.parameters() if p.requires_grad]
        self.steps = 0
        self.seconds = 0.0  # of training, over all runs
        self.rng = np.random.default_rng(settings.seed + 1)
        self.encode: Any = self.model.image_encoder

    @property
    def progress(self) -> float:
        """Share of the time budget that is used up."""
        return self.seconds / (60 * self.settings.minutes)

    def step(self, batch: Batch) -> dict[str, float]:
        """One update.

        Returns
        -------
        dict
            ``loss``, ``aux``, ``mask``, ``iou`` (best mask) and ``iou_box``,
            ``iou_point`` (the mask with the best predicted score, for one box and one
            point).
        """
        settings = self.settings
        self.trained.train()
        rate = rate_at(self.progress, settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

        image = torch.from_numpy(batch.image).to(memory_format=torch.channels_last)
        embedding = self.encode(image)
        aux = aux_loss(
            self.head(embedding),
            torch.from_numpy(batch.aux),
            torch.from_numpy(batch.aux_weight),
        )
        mask, figures = self._prompted(batch, embedding.contiguous())
        # With full weight to the end: when it faded, the embedding stopped improving.
        loss = aux + mask
        if not torch.isfinite(loss):
            raise FloatingPointError(f"The loss is {loss.item()} at step {self.steps}.")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, settings.clip)
        self.optimizer.step()
        self.steps += 1
        # A young average follows closely, or it would remember the random start.
        decay = min(settings.ema, self.steps / (self.steps + 10))
        update_average(self.average, self.model, decay)
        return {
            "loss": loss.item(),
            "aux": aux.item(),
            "mask": mask.item(),
            "rate": rate,
            **figures,
        }

    def _prompted(
        self, batch: Batch, embedding: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """Mask loss over all prompts of a batch, grouped by form."""
        offset = torch.from_numpy(batch.offset)
        refines = self.progress >= self.settings.refine_from
        losses, best = [], []
        chosen: dict[str, list[Tensor]] = {"iou_box": [], "iou_point": []}
        for group in grouped(batch.prompts):
            parts: list[tuple[Prompts, list[int], Tensor | None]]
            parts = [(batch.prompts, group, None)]
            if refines:
                again = self.rng.random(len(group)) < self.settings.refine_share
                second = [i for i, a in zip(group, again, strict=True) if a]
                first = [i for i, a in zip(group, again, strict=True) if not a]
                parts = [(batch.prompts, first, None)] if first else []
                if second:
                    harder, earlier = corrected(
                        self.model,
                        embedding.detach(),
                        offset,
                        batch.prompts,
                        second,
                        batch.valid,
                        self.rng,
                    )
                    parts.append((harder, list(range(len(second))), earlier))
            for prompts, members, masks in parts:
                logits, scores = decode_group(
                    self.model, embedding, offset, prompts, members, masks
                )
                targets = torch.from_numpy(prompts.targets[members])
                valid = torch.from_numpy(batch.valid[prompts.window[members], 0])
                loss, iou = mask_loss(logits, scores, targets, valid)
                losses.append(loss)
                best.append(iou.max(1).values)
                if masks is None:
                    picked = iou.gather(1, scores.argmax(1, keepdim=True))[:, 0]
                    box = not np.isnan(prompts.boxes[members[0], 0])
                    count = len(prompts.points[members[0]])
                    if box and count == 0:
                        chosen["iou_box"].append(picked)
                    if not box and count == 1:
                        chosen["iou_point"].append(picked)
        figures = {
            name: torch.cat(values).mean().item() if values else float("nan")
            for name, values in {"iou": best, **chosen}.items()
        }
        if not losses:
            return embedding.sum() * 0, figures
        return torch.cat(losses).mean(), figures

    def save(self, path: Path) -> None:
        """Write a checkpoint; a reader never sees half of one."""
        state = {
            "model": self.model.state_dict(),
            "head": self.head.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "seconds": self.seconds,
        }
        temporary = path.with_suffix(".part")
        torch.save(state, temporary)
        os.replace(temporary, path)

    def load(self, path: Path) -> None:
        """Go on where `save` stopped."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.head.load_state_dict(state["head"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]
        self.seconds = state["seconds"]


def export(model: SegmentAnything, path: Path, version: str = "0.1") -> None:
    """Write a model as float16 under the official names.

    Parameters
    ----------
    model : SegmentAnything
    path : Path
        A ``.safetensors`` file.
    version : str
        Of the weights, written into the file's metadata.

    Raises
    ------
    ValueError
        If a value does not fit float16.
    """
    tensors = {}
    for name, tensor in to_official(model.state_dict()).items():
        if name.startswith(("image_encoder.norm_head.", "image_encoder.head.")):
            tensor = torch.zeros_like(tensor)  # never used, only part of the format
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float16)
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{name} does not fit float16.")
            if name.endswith("running_var") and (tensor <= 0).any():
                raise ValueError(f"{name} has a variance that is 0 in float16.")
        tensors[name] = tensor.detach().clone().contiguous()
    metadata = {
        "format": "napari-tinysam",
        "architecture": "tiny_vit",
        "name": "default",
        "version": version,
    }
    temporary = path.with_suffix(".part")
    temporary.write_bytes(save(tensors, metadata))
    os.replace(temporary, path)


def train(
    images: list[LabelledImage],
    out: Path,
    settings: Settings,
    *,
    resume: bool = False,
    checkpoint_every: float = 300.0,
    compile_encoder: bool = False,
) -> Training:
    """Train until the time budget is used up.

    Parameters
    ----------
    images : list of LabelledImage
    out : Path
        Folder for ``log.csv``, ``checkpoint.pt`` and ``average.safetensors`` (the
        weights to use, float16, written with every checkpoint).
    settings : Settings
    resume : bool
        Go on with the checkpoint in `out`, if there is one. The budget counts over all
        runs.
    checkpoint_every : float
        Seconds.
    compile_encoder : bool
        Use ``torch.compile``, which needs a C++ compiler.

    Returns
    -------
    Training
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    training = Training(settings)
    if resume and checkpoint.exists():
        training.load(checkpoint)
    if compile_encoder:
        training.encode = torch.compile(training.model.image_encoder, dynamic=False)
    sampler = WindowSampler(images)
    mean = training.model.pixel_mean.numpy()
    std = training.model.pixel_std.numpy()
    sides, counts, weights = zip(*settings.windows, strict=True)
    chances = np.array(weights) / sum(weights)

    def make(rng: np.random.Generator) -> Batch:
        i = rng.choice(len(sides), p=chances)
        few = training.progress < settings.dense_phase
        objects = max(1, settings.objects // 3) if few else settings.objects
        return make_batch(sampler, sides[i], counts[i], objects, rng, mean, std)

    def write() -> None:
        training.save(checkpoint)
        export(training.average, out / "average.safetensors")

    batches = prefetched(make, seed=settings.seed + 1000 + training.steps)
    log_path = out / "log.csv"
    new_log = not (resume and log_path.exists())
    last_checkpoint = time.monotonic()
    with log_path.open("w" if new_log else "a", newline="") as log_file:
        log = csv.writer(log_file)
        while training.progress < 1:
            begun = time.monotonic()
            figures = training.step(next(batches))
            if new_log:
                log.writerow(["step", "seconds", *figures])
                new_log = False
            # A pause of the machine must not eat the budget's cosine.
            training.seconds += min(time.monotonic() - begun, 60.0)
            log.writerow(
                [
                    training.steps,
                    f"{training.seconds:.1f}",
                    *(f"{value:.5f}" for value in figures.values()),
                ]
            )
            if training.steps % 20 == 0:
                log_file.flush()
            if time.monotonic() - last_checkpoint > checkpoint_every:
                write()
                last_checkpoint = time.monotonic()
    write()
    return training


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=Settings.minutes)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images = list(read_split(arguments.data, "train"))
    train(
        images,
        arguments.out,
        Settings(minutes=arguments.minutes),
        resume=arguments.resume,
        compile_encoder=arguments.compile,
    )


if __name__ == "__main__":
    main()
