"""How a model bears what users meet: tiny and large objects, neighbours, blur, careless prompts.

Run as ``python -m tinysam_training.robustness MODEL -o OUT``. Sheets of synthetic images, the same
for every model, each for one difficulty; so figures say how much a difficulty costs, not how good
a model is on real images. OUT gets ``robustness.json``, ``robustness.md`` and pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage as ndi

from napari_tinysam.masks import BoxedMask
from napari_tinysam.prompts import NEGATIVE, POSITIVE, Prompts
from napari_tinysam.writing import replacing
from tinysam_training.data.labelled_image import ImageEntry, LabelledImage
from tinysam_training.data.synthetic import synthetic_image
from tinysam_training.evaluate import EvaluationSettings, evaluate, tight_boxes
from tinysam_training.evaluation_pictures import draw_contact_sheet
from tinysam_training.evaluation_report import means
from tinysam_training.frame import FRAME
from tinysam_training.simulated_user import answer_boxes, judged

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.predictor import Embedding, Predictor

    BoolArray = npt.NDArray[np.bool_]

#: Separates these images from those that are trained on.
_STREAM = 20_011

#: Objects of ordinary size: the longer side of their box, in pixels of the frame.
_ORDINARY = (24, 200)

_TINY = (6, 11)
_LARGE = (320, 480)

#: Objects touch if at least this share of their outline is another object's.
_SHARED_OUTLINE = 0.15

#: Radius of the disc of confusion of the defocused sheet, in pixels of the frame.
_DEFOCUS = 5.0

#: How far a loose box is off on each side, at most: share of its extent.
_LOOSE = 0.15

#: A click near the border is this deep, as a share of the deepest pixel of the object.
_NEAR_BORDER = 0.15

#: A neighbour is to be removed where the first mask covers at least this share of it.
_COVERED = 0.1

#: Images are given up after so many attempts at finding one that suits.
_ATTEMPTS = 400


@dataclass(frozen=True)
class Sheet:
    """Images with one difficulty.

    Attributes
    ----------
    name, title : str
        For files, and for people.
    images : tuple of LabelledImage
        Only objects that show the difficulty are labelled; where others were left out the image is
        partly annotated.
    """

    name: str
    title: str
    images: tuple[LabelledImage, ...]


def sheets(images: int = 6, seed: int = 0) -> list[Sheet]:
    """Draw the test sheets.

    Parameters
    ----------
    images : int
        Of each sheet.
    seed : int

    Returns
    -------
    list of Sheet
        The first one is ``plain``, which the others are compared with.
    """
    plain = _drawn(
        images,
        seed,
        ("nuclei", "cells", "yeast", "phase_contrast", "em_particles", "shapes"),
        lambda image: _sized(image, _ORDINARY),
        at_least=5,
    )
    tiny = _drawn(
        images,
        seed + 1,
        ("nuclei", "bacteria", "em_particles", "shapes"),
        lambda image: _sized(image, _TINY),
        at_least=5,
        side=FRAME,
    )
    large = _drawn(
        images,
        seed + 2,
        ("cells", "nuclei", "tissue", "shapes", "em_particles"),
        lambda image: _sized(image, _LARGE) & _inside(image),
    )
    touching = _drawn(
        images,
        seed + 3,
        ("cells", "nuclei", "yeast", "tissue"),
        lambda image: _sized(image, _ORDINARY) & _touching(image),
        at_least=4,
    )
    colour = _drawn(
        images,
        seed + 4,
        ("tissue",),
        lambda image: _sized(image, _ORDINARY),
        at_least=5,
    )
    return [
        Sheet("plain", "ordinary objects, 24–200 px", plain),
        Sheet("tiny", "objects of 6–11 px", tiny),
        Sheet("large", "objects of 320–480 px", large),
        Sheet("touching", "touching objects", touching),
        Sheet("defocused", "out of focus", tuple(map(_defocused, plain))),
        Sheet("inverted", "inverted contrast", tuple(map(_inverted, plain))),
        Sheet("16_bit", "16 bit, 5 % of the range, hot pixels", tuple(map(_in_16_bit, plain))),
        Sheet("colour", "colour (stained tissue)", colour),
    ]  # fmt: skip


# ------------------------------------------------------------------- images


def _drawn(
    count: int,
    seed: int,
    kinds: Sequence[str],
    suits: Callable[[LabelledImage], BoolArray],
    *,
    at_least: int = 1,
    side: int = 512,
) -> tuple[LabelledImage, ...]:
    """Draw images until so many have enough objects that suit; the others' labels are removed."""
    found: list[LabelledImage] = []
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([seed, _STREAM, attempt])
        kind = kinds[len(found) % len(kinds)]
        image = synthetic_image(rng, kind, (side, side))
        image = replace(image, labels=image.labels[:1])
        keep = suits(image)
        if keep.sum() >= at_least:
            found.append(_with_only(image, keep))
        if len(found) == count:
            return tuple(found)
    raise RuntimeError(f"{_ATTEMPTS} images gave only {len(found)} that suit.")


def _with_only(image: LabelledImage, keep: BoolArray) -> LabelledImage:
    """Remove the labels of objects that are not to be kept; what they show is unknown then."""
    if keep.all():
        return image
    chosen = np.concatenate([[False], keep])
    labels = np.where(chosen[image.labels[0]], image.labels[0], 0)
    return LabelledImage.from_arrays(
        image.name, image.dataset, image.rgb, labels, complete=False, percentiles=(0, 100)
    )  # fmt: skip


def _sized(image: LabelledImage, limits: tuple[float, float]) -> BoolArray:
    """(N,) objects whose box's longer side has so many pixels of the frame."""
    boxes = image.boxes
    extents = np.maximum(boxes[:, 3] - boxes[:, 1], boxes[:, 4] - boxes[:, 2])
    extents = extents * (FRAME / max(image.rgb.shape[:2]))
    return np.asarray((limits[0] <= extents) & (extents <= limits[1]))


def _inside(image: LabelledImage) -> BoolArray:
    """(N,) objects that no side of the image cuts."""
    height, width = image.rgb.shape[:2]
    boxes = image.boxes
    return np.asarray(
        (boxes[:, 1:3] > 0).all(1) & (boxes[:, 3] < width) & (boxes[:, 4] < height)
    )


def _touching(image: LabelledImage) -> BoolArray:
    """(N,) objects a good part of whose outline is another's."""
    labels = image.labels[0]
    count = int(labels.max())
    outline, shared = np.zeros(count + 1), np.zeros(count + 1)
    for axis in (0, 1):
        for first, second in ((0, 1), (1, 0)):
            ours = np.moveaxis(labels, axis, 0)[first : len(labels) - second]
            theirs = np.moveaxis(labels, axis, 0)[second : len(labels) - first]
            differ = (ours != theirs) & (ours > 0)
            outline += np.bincount(ours[differ], minlength=count + 1)
            both = differ & (theirs > 0)
            shared += np.bincount(ours[both], minlength=count + 1)
    return np.asarray(shared[1:] >= _SHARED_OUTLINE * np.maximum(outline[1:], 1))


def _defocused(image: LabelledImage) -> LabelledImage:
    radius = _DEFOCUS * max(image.rgb.shape[:2]) / FRAME
    steps = np.arange(-int(np.ceil(radius)), int(np.ceil(radius)) + 1)
    # Pixels at the disc's edge count as far as they are inside it.
    disc = np.clip(radius + 0.5 - np.hypot(steps[:, None], steps), 0, 1)
    kernel = (disc / disc.sum())[..., None]
    blurred = ndi.convolve(image.rgb.astype(np.float32), kernel, mode="nearest")
    return replace(image, rgb=np.round(blurred).clip(0, 255).astype(np.uint8))


def _inverted(image: LabelledImage) -> LabelledImage:
    return replace(image, rgb=255 - image.rgb)


def _in_16_bit(image: LabelledImage) -> LabelledImage:
    """As a camera gives it that uses a twentieth of its range and has a few hot pixels."""
    gray = image.rgb.astype(np.float32).mean(2)
    raw = (400 + gray / 255 * 0.05 * 65535).astype(np.uint16)
    rng = np.random.default_rng(_STREAM)
    rows, columns = rng.integers(0, min(raw.shape), (2, 8))
    raw[rows, columns] = 65535
    return LabelledImage.from_arrays(
        image.name, image.dataset, raw, image.labels, complete=image.complete
    )


# ------------------------------------------------------------------ prompts


def careless_prompts(
    predictor: Predictor, image: LabelledImage, objects: int, seed: int = 0
) -> dict[str, list[float]]:
    """IoU for clicks near the border and for loose boxes, beside careful ones.

    Parameters
    ----------
    predictor : Predictor
    image : LabelledImage
    objects : int
        At most so many of its objects.
    seed : int

    Returns
    -------
    dict
        A value for each object: ``centre_click``, ``border_click``, ``tight_box``, ``loose_box``.
    """
    rng = np.random.default_rng([seed, _STREAM])
    truth = _objects(image, objects, rng)
    if not truth:
        return {}
    embedding = predictor.encode(image.rgb)
    deep = np.array([_click(mask, 1.0, rng) for mask in truth], np.float32)
    near = np.array([_click(mask, _NEAR_BORDER, rng) for mask in truth], np.float32)
    boxes = tight_boxes(truth)
    sides = np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2)
    moved = boxes + rng.uniform(-_LOOSE, _LOOSE, boxes.shape) * sides
    height, width = image.rgb.shape[:2]
    loose = np.clip(moved, 0, [width - 1, height - 1] * 2).astype(np.float32)

    def clicked(points: npt.NDArray[np.float32]) -> list[float]:
        labels = np.full((len(points), 1), POSITIVE, np.int32)
        found = predictor.predict(embedding, Prompts(points[:, None], labels))
        return list(judged(found, truth).iou)

    return {
        "centre_click": clicked(deep),
        "border_click": clicked(near),
        "tight_box": list(answer_boxes(predictor, embedding, boxes, truth).iou),
        "loose_box": list(answer_boxes(predictor, embedding, loose, truth).iou),
    }


def negative_clicks(
    predictor: Predictor, image: LabelledImage, objects: int, seed: int = 0
) -> dict[str, list[float]]:
    """Measure what a click on a neighbour takes away where the first mask covers some of it.

    Parameters
    ----------
    predictor, image, objects, seed
        As for `careless_prompts`; the image has touching objects.

    Returns
    -------
    dict
        A value for each object whose mask ran into its neighbour: ``iou_before``, ``iou_after``
        with the object, ``covered_before``, ``covered_after`` share of the neighbour in the mask.
    """
    rng = np.random.default_rng([seed, _STREAM + 1])
    found: dict[str, list[float]] = {
        "iou_before": [],
        "iou_after": [],
        "covered_before": [],
        "covered_after": [],
    }
    embedding = predictor.encode(image.rgb)
    for mask in _objects(image, objects, rng):
        neighbour = _neighbour(image, mask)
        if neighbour is None:
            continue
        points = [_click(mask, 1.0, rng), _click(neighbour, 1.0, rng)]
        before = _answer(predictor, embedding, points[:1], [POSITIVE], mask)
        covered = _share_covered(neighbour, before[0])
        if covered < _COVERED:
            continue
        after = _answer(predictor, embedding, points, [POSITIVE, NEGATIVE], mask)
        found["iou_before"].append(before[1])
        found["iou_after"].append(after[1])
        found["covered_before"].append(covered)
        found["covered_after"].append(_share_covered(neighbour, after[0]))
    return found


def _objects(
    image: LabelledImage, count: int, rng: np.random.Generator
) -> list[BoxedMask]:
    boxes = image.boxes
    numbers = rng.permutation(len(boxes))[:count]
    return [_mask(image, int(number) + 1) for number in numbers]


def _mask(image: LabelledImage, number: int) -> BoxedMask:
    _, x0, y0, x1, y1 = image.boxes[number - 1]
    inside = image.labels[0, y0:y1, x0:x1] == number
    return BoxedMask(inside, int(y0), int(x0), image.labels.shape[1:])


def _click(
    mask: BoxedMask, depth: float, rng: np.random.Generator
) -> tuple[float, float]:
    """x, y of a pixel of the mask that is so deep in it, 1 for the deepest."""
    depths = ndi.distance_transform_edt(np.pad(mask.mask, 1))[1:-1, 1:-1]
    off = np.where(mask.mask, np.abs(depths - depth * depths.max()), np.inf)
    rows, columns = np.nonzero(off <= off.min() + 1e-6)
    chosen = int(rng.integers(len(rows)))
    return float(columns[chosen] + mask.x0), float(rows[chosen] + mask.y0)


def _neighbour(image: LabelledImage, mask: BoxedMask) -> BoxedMask | None:
    """Give the object that shares most of the outline of another."""
    labels = image.labels[0]
    own = labels[mask.slices][mask.mask][0]
    rows, columns = (
        slice(max(part.start - 1, 0), part.stop + 1) for part in mask.slices
    )
    window = labels[rows, columns]
    rim = ndi.binary_dilation(window == own) & (window > 0) & (window != own)
    if not rim.any():
        return None
    return _mask(image, int(np.bincount(window[rim]).argmax()))


def _answer(
    predictor: Predictor,
    embedding: Embedding,
    points: Sequence[tuple[float, float]],
    labels: Sequence[int],
    truth: BoxedMask,
) -> tuple[BoxedMask, float]:
    prompts = Prompts(
        np.array([points], np.float32), np.array([labels], np.int32)
    )  # fmt: skip
    answer = judged(predictor.predict(embedding, prompts), [truth])
    return answer.masks[0], float(answer.iou[0])


def _share_covered(mask: BoxedMask, by: BoxedMask) -> float:
    """Share of a mask that another one covers."""
    full = by.to_full()
    return float(full[mask.slices][mask.mask].mean())


# ------------------------------------------------------------------- report


@dataclass(frozen=True)
class Robustness:
    """What was found.

    Attributes
    ----------
    by_sheet : dict
        Figures of each sheet: ``box_iou``, ``click1_iou``, ``click3_iou``, ``msa``, ``ap50``.
    prompts : dict
        Means over objects of `careless_prompts` and `negative_clicks`, and ``neighbours``: how many
        masks ran into a neighbour.
    pictures : dict
        PNG files by the name of the sheet.
    """

    by_sheet: dict[str, dict[str, float | None]]
    prompts: dict[str, float | None]
    pictures: dict[str, bytes]

    def table(self) -> str:
        """Return two Markdown tables."""
        names = ("box_iou", "click1_iou", "click3_iou", "msa", "ap50")
        lines = [
            "| synthetic sheet | IoU box | 1 click | 3 clicks | mSA | AP50 |",
            "|---|---|---|---|---|---|",
        ]
        for sheet, found in self.by_sheet.items():
            cells = " | ".join(_cell(found.get(name)) for name in names)
            lines.append(f"| {sheet} | {cells} |")
        lines += ["", "| prompts | figure |", "|---|---|"]
        for name, text in _PROMPT_ROWS.items():
            lines.append(f"| {text} | {_cell(self.prompts.get(name))} |")
        return "\n".join(lines)


_PROMPT_ROWS = {
    "centre_click": "IoU, click in the middle",
    "border_click": f"IoU, click near the border (depth {_NEAR_BORDER:.0%} of the deepest)",
    "tight_box": "IoU, tight box",
    "loose_box": f"IoU, each side of the box off by up to {_LOOSE:.0%}",
    "neighbours": "masks of one click that run into a neighbour",
    "covered_before": "… share of the neighbour covered",
    "covered_after": "… after a negative click on it",
    "iou_before": "… IoU with the object",
    "iou_after": "… after the negative click",
}


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def judge_robustness(
    predictor: Predictor,
    drawn: Sequence[Sheet],
    *,
    objects: int = 8,
    seed: int = 0,
    pictures: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Robustness:
    """Judge a model on the test sheets.

    Parameters
    ----------
    predictor : Predictor
    drawn : sequence of Sheet
        From `sheets`.
    objects : int
        At most so many objects an image get prompts.
    seed : int
        Of the careless prompts.
    pictures : bool
        Whether to draw the sheets.
    progress : callable, optional
        Called with the name of each sheet that is done.
    """
    settings = EvaluationSettings(
        objects=objects, clicks=3, loose_margin=0.0, keep_masks=pictures
    )
    by_sheet: dict[str, dict[str, float | None]] = {}
    drawings: dict[str, bytes] = {}
    for sheet in drawn:
        entries = list(_entries(sheet))
        evaluation = evaluate(predictor, entries, settings)
        by_sheet[sheet.name] = means(evaluation.results)
        picture = draw_contact_sheet(evaluation, entries) if pictures else None
        if picture is not None:
            drawings[sheet.name] = picture
        if progress is not None:
            progress(sheet.name)
    by_name = {sheet.name: sheet for sheet in drawn}
    values: dict[str, list[float]] = {}
    for name, prompted in (("plain", careless_prompts), ("touching", negative_clicks)):
        for image in by_name[name].images:
            for key, each in prompted(predictor, image, objects, seed).items():
                values.setdefault(key, []).extend(each)
    prompts: dict[str, float | None] = {
        key: float(np.mean(each)) if each else None for key, each in values.items()
    }
    prompts["neighbours"] = len(values.get("iou_before", ()))
    return Robustness(by_sheet, prompts, drawings)


def _entries(sheet: Sheet) -> Iterator[ImageEntry]:
    for image in sheet.images:
        shown = replace(image, dataset=sheet.title)
        yield ImageEntry(
            image.name, sheet.title, image.complete, partial(_itself, shown), ""
        )


def _itself(image: LabelledImage) -> LabelledImage:
    return image


def write_report(found: Robustness, model: str, out: Path) -> None:
    """Write tables, figures and pictures into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "model": model,
        "sheets": found.by_sheet,
        "prompts": found.prompts,
    }
    with replacing(out / "robustness.json") as file:
        file.write(json.dumps(content, indent=1).encode())
    with replacing(out / "robustness.md") as file:
        file.write(f"{found.table()}\n".encode())
    for name, picture in found.pictures.items():
        with replacing(out / f"{name}.png") as file:
            file.write(picture)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main() -> None:
    """Command line."""
    from napari_tinysam import checkpoints
    from napari_tinysam.checkpoints import CheckpointError
    from napari_tinysam.predictor import Predictor
    from napari_tinysam.runtime.torch_runtime import TorchRuntime, choose_device

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a name of the model list, or a file")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--images", type=int, default=6, help="of each sheet")
    parser.add_argument("--objects", type=int, default=8, help="of each image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    try:
        checkpoint = checkpoints.load(arguments.model)
    except CheckpointError as error:
        sys.exit(f"Error: {error}")
    runtime = TorchRuntime(checkpoint.model, choose_device(arguments.device))
    predictor = Predictor(runtime, name=arguments.model, model_id=arguments.model)
    found = judge_robustness(
        predictor,
        sheets(arguments.images, arguments.seed),
        objects=arguments.objects,
        seed=arguments.seed,
        progress=lambda name: _say(f"{name} is done"),
    )
    write_report(found, arguments.model, arguments.output)
    sys.stdout.write(f"{found.table()}\n")


if __name__ == "__main__":
    main()
