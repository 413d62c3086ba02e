"""How good are the masks for one box or one click, on held-out images.

Run as ``python -m tinysam_training.evaluate_clicks --data DIR --weights FILE``. Prompts
come from the labels: the tight box, and the pixel deepest inside the object. Both the
mask with the best predicted score (what a user gets) and the best of the three (what
cycling through them could give) are compared with the label at the image's own
resolution.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from scipy import ndimage as ndi
from torch import Tensor

from napari_tinysam.model import SegmentAnything, from_official
from tinysam_training.data import FRAME, LabelledImage, UInt8Array, read_split

PROMPTS = ("box", "click")


@dataclass(frozen=True)
class SetFigures:
    """Mean IoU over the objects of one set.

    Attributes
    ----------
    images, objects : int
        How many were evaluated.
    box_iou, click_iou : float
        Of the mask with the best predicted score.
    box_oracle, click_oracle : float
        Of the best of the three masks.
    """

    images: int
    objects: int
    box_iou: float
    box_oracle: float
    click_iou: float
    click_oracle: float


def load_weights(path: Path) -> SegmentAnything:
    """Read a ``.safetensors`` file with official names as float32."""
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    model = SegmentAnything()
    state = model.state_dict()
    for name, tensor in from_official(tensors).items():
        if name not in state or state[name].shape != tensor.shape:
            raise ValueError(f"{path}: {name} {tuple(tensor.shape)} does not fit.")
        state[name] = tensor.to(state[name].dtype)
    model.load_state_dict(state)
    return model.eval()


def resized_for_model(rgb: UInt8Array) -> tuple[Tensor, float]:
    """Resize so that the long side is 1024, as at inference.

    Returns
    -------
    Tensor
        (1, 3, h, w), values 0–255.
    float
        Scale from image to model pixels.
    """
    height, width = rgb.shape[:2]
    scale = FRAME / max(height, width)
    size = (int(width * scale + 0.5), int(height * scale + 0.5))
    resized = np.array(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))
    return torch.from_numpy(resized).permute(2, 0, 1)[None].float(), scale


def deepest_pixel(mask: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Find the pixel (x, y) of a mask that is farthest from its boundary."""
    depth = ndi.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), mask.shape)
    return int(x), int(y)


@torch.no_grad()
def predict(
    model: SegmentAnything,
    image: LabelledImage,
    ids: npt.NDArray[np.int64],
    prompt: str,
    embedding: Tensor,
    scale: float,
    chunk: int = 8,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Masks (N, 3, H, W) and scores (N, 3) for a box or a click on each instance."""
    height, width = image.labels.shape
    size = (int(height * scale + 0.5), int(width * scale + 0.5))
    # x and y are scaled by the true ratio of the sides, which rounding makes differ.
    ratio = np.array([size[1] / width, size[0] / height], np.float32)
    boxes = image.boxes[ids - 1].astype(np.float32)
    masks, all_scores = [], []
    for start in range(0, len(ids), chunk):
        part = slice(start, start + chunk)
        if prompt == "box":
            scaled = torch.from_numpy(boxes[part] * np.tile(ratio, 2))
            logits, scores = model.decode(embedding, boxes=scaled)
        else:
            points = []
            for label, (x0, y0, x1, y1) in zip(
                ids[part], image.boxes[ids[part] - 1], strict=True
            ):
                x, y = deepest_pixel(image.labels[y0:y1, x0:x1] == label)
                points.append([x0 + x, y0 + y])
            at = torch.from_numpy(np.array(points, np.float32) * ratio)[:, None]
            logits, scores = model.decode(
                embedding, points=at, labels=torch.ones(len(points), 1)
            )
        # Two interpolations, as in SAM: to the frame, then to the image.
        frame = F.interpolate(logits, (FRAME, FRAME), mode="bilinear")
        frame = frame[..., : size[0], : size[1]]
        masks.append(F.interpolate(frame, (height, width), mode="bilinear") > 0)
        all_scores.append(scores)
    return torch.cat(masks).numpy(), torch.cat(all_scores).numpy()


def intersections_over_unions(
    masks: npt.NDArray[np.bool_],
    image: LabelledImage,
    ids: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """IoU (N, 3) of each mask with its instance."""
    values = np.zeros(masks.shape[:2])
    for n, label in enumerate(ids):
        wanted = image.labels == label
        for k in range(masks.shape[1]):
            union = int(np.count_nonzero(masks[n, k] | wanted)) or 1
            values[n, k] = np.count_nonzero(masks[n, k] & wanted) / union
    return values


def evaluate(
    model: SegmentAnything,
    images: list[LabelledImage],
    objects: int = 8,
    seed: int = 0,
) -> dict[str, SetFigures]:
    """Mean IoU by set.

    Parameters
    ----------
    model : SegmentAnything
        In eval mode.
    images : list of LabelledImage
    objects : int
        At most so many random objects an image, the same for the same seed.
    seed : int

    Returns
    -------
    dict
        `SetFigures` by set; a second labelling is a set of its own (``… (2)``).
    """
    rng = np.random.default_rng(seed)
    picked: dict[str, dict[str, list[float]]] = {}
    counts: dict[str, int] = {}
    shown: UInt8Array | None = None
    embedding = torch.empty(0)
    scale = 1.0
    for image in images:
        name = image.dataset + (" (2)" if image.nested else "")
        if shown is None or not np.array_equal(shown, image.rgb):
            pixels, scale = resized_for_model(image.rgb)
            with torch.no_grad():
                embedding = model.encode(pixels)
            shown = image.rgb
        ids = rng.permutation(np.arange(1, len(image.boxes) + 1))[:objects]
        lists = picked.setdefault(
            name, {f"{p}_{k}": [] for p in PROMPTS for k in ("iou", "oracle")}
        )
        counts[name] = counts.get(name, 0) + 1
        for prompt in PROMPTS:
            masks, scores = predict(model, image, ids, prompt, embedding, scale)
            iou = intersections_over_unions(masks, image, ids)
            lists[f"{prompt}_iou"] += list(iou[np.arange(len(ids)), scores.argmax(1)])
            lists[f"{prompt}_oracle"] += list(iou.max(1))
    return {
        name: SetFigures(
            counts[name],
            len(lists["box_iou"]),
            *(
                float(np.mean(lists[key]))
                for key in ("box_iou", "box_oracle", "click_iou", "click_oracle")
            ),
        )
        for name, lists in picked.items()
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--sets", nargs="*")
    parser.add_argument("--images", type=int, help="evenly spaced images of each set")
    parser.add_argument("--objects", type=int, default=8, help="objects an image")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images = list(read_split(arguments.data, arguments.split, arguments.sets))
    if arguments.images:
        by_set: dict[tuple[str, bool], list[LabelledImage]] = {}
        for image in images:
            by_set.setdefault((image.dataset, image.nested), []).append(image)
        images = [
            some[i]
            for some in by_set.values()
            for i in np.unique(
                np.linspace(0, len(some) - 1, arguments.images).astype(int)
            )
        ]
    begun = time.monotonic()
    figures = evaluate(load_weights(arguments.weights), images, arguments.objects)
    columns = [field.name for field in fields(SetFigures)]
    lines = [["set", *columns]]
    for name, row in figures.items():
        values = vars(row).values()
        lines.append([name, *(f"{v:.3f}" if v % 1 else str(v) for v in values)])
    lines.append([f"{time.monotonic() - begun:.0f} s"])
    sys.stdout.write("".join("\t".join(line) + "\n" for line in lines))
    if arguments.json:
        rows = {name: vars(row) for name, row in figures.items()}
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
