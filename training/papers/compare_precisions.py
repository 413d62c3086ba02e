"""Compare two precisions, runtimes or ways to decode on the same images: masks, objects, time.

Run as ``python -m papers.compare_precisions MODEL DATA… -o OUT.json``, on a CPU with instructions
for bfloat16. ``--reference torch --other f32`` compares PyTorch with OpenVINO, ``--other int8
--other-model QUANTIZED`` a model with its quantized one, ``--reference bf16 --whole`` decoding in
the whole frame with decoding in windows of it. The prompts of each object are one click, and its
box.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from napari_tinysam.everything import Segmentation
from napari_tinysam.everything.instances import instances_of
from napari_tinysam.files.tables import markdown_table
from napari_tinysam.inference.load import load_model
from napari_tinysam.prompts import Prompts
from papers.shared import (
    accuracies,
    add_data_arguments,
    images_of_folders,
    overlaps_with,
    refusals,
    say,
    write_json,
)
from tinysam_training.data.spacing import evenly_spaced

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_tinysam.everything.instances import Instance
    from napari_tinysam.inference.predictions import Embedding, Masks
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.inference.runtime.protocol import Precision
    from tinysam_training.labelled_image import ImageEntry, LabelledImage

#: Objects of an image that get prompts.
_OBJECTS = 16


@dataclass(frozen=True)
class PrecisionResult:
    """One image in two ways. The first of each pair is the reference.

    Attributes
    ----------
    dataset, image : str
    click_iou, box_iou : float
        Mean IoU between the masks of both; of each prompt that which the reference scores best.
    click_truth, box_truth : (float, float)
        Mean IoU of the masks that each scores best with the objects themselves.
    msa : (float, float)
        Of the object head's segmentation.
    encode_seconds, prompt_seconds : (float, float)
        Of the image, and of one of its prompts.
    prompt_work : (float, float)
        Processor time of a prompt in seconds, which hardly depends on what else the machine does.
    """

    dataset: str
    image: str
    click_iou: float
    box_iou: float
    click_truth: tuple[float, float]
    box_truth: tuple[float, float]
    msa: tuple[float, float]
    encode_seconds: tuple[float, float]
    prompt_seconds: tuple[float, float]
    prompt_work: tuple[float, float]


def compare_precisions(
    exact: Predictor, other: Predictor, entries: Sequence[ImageEntry]
) -> list[PrecisionResult]:
    """Segment images with both.

    Parameters
    ----------
    exact, other : Predictor
        Of the same model: the reference, and in another precision or runtime.
    entries : sequence of ImageEntry
        Images without objects are skipped.
    """
    results = []
    for number, entry in enumerate(entries, start=1):
        image = entry.read()
        if image.labels[0].any():
            results.append(_compared(exact, other, image))
        say(f"{number} of {len(entries)}: {image.dataset} {image.name}")
    return results


def _compared(
    exact: Predictor, other: Predictor, image: LabelledImage
) -> PrecisionResult:
    both = (exact, other)
    encoded = [_timed_encoding(predictor, image) for predictor in both]
    embeddings = [embedding for embedding, _ in encoded]
    objects = evenly_spaced(instances_of(image.labels[0]), _OBJECTS)
    points = np.array([each.point for each in objects], np.float32)[:, np.newaxis]
    boxes = np.array([each.mask.box for each in objects], np.float32)
    agreements, truths = [], []
    seconds, work = np.zeros(2), np.zeros(2)
    for prompts in (Prompts(points=points), Prompts(boxes=boxes)):
        answers = []
        for place, (predictor, embedding) in enumerate(
            zip(both, embeddings, strict=True)
        ):
            begun, worked = time.perf_counter(), time.process_time()
            answers.append(predictor.predict(embedding, prompts))
            seconds[place] += time.perf_counter() - begun
            work[place] += time.process_time() - worked
        truths.append((_truth(answers[0], objects), _truth(answers[1], objects)))
        best = answers[0].scores.argmax(axis=1)
        rows = np.arange(len(best))
        masks = [answer.logits[rows, best] > 0 for answer in answers]
        agreements.append(_iou(*masks))
    msa = [
        _msa(image, predictor, embedding)
        for predictor, embedding in zip(both, embeddings, strict=True)
    ]
    each, work = seconds / (2 * len(objects)), work / (2 * len(objects))
    return PrecisionResult(
        image.dataset,
        image.name,
        agreements[0],
        agreements[1],
        truths[0],
        truths[1],
        (msa[0], msa[1]),
        (encoded[0][1], encoded[1][1]),
        (float(each[0]), float(each[1])),
        (float(work[0]), float(work[1])),
    )


def _timed_encoding(
    predictor: Predictor, image: LabelledImage
) -> tuple[Embedding, float]:
    begun = time.perf_counter()
    embedding = predictor.encode(image.rgb)
    return embedding, time.perf_counter() - begun


def _truth(masks: Masks, objects: Sequence[Instance]) -> float:
    """Mean IoU of the best masks with the objects that were asked for."""
    return float(np.mean([masks.boxed(i).iou(o.mask) for i, o in enumerate(objects)]))


def _iou(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    """Mean IoU of (N, h, w) masks with others; two empty masks agree."""
    union = np.count_nonzero(a | b, axis=(1, 2))
    common = np.count_nonzero(a & b, axis=(1, 2))
    return float(np.where(union, common / np.maximum(union, 1), 1.0).mean())


def _msa(image: LabelledImage, predictor: Predictor, embedding: Embedding) -> float:
    labels = Segmentation(predictor, embedding, "head").run().labels().labels
    return float(np.mean(accuracies(overlaps_with(image, labels))))


def table(results: Sequence[PrecisionResult]) -> str:
    """Make a Markdown table with a row for each set and one for all images."""
    header = (
        "set", "images", "IoU, click", "IoU, box", "click", "box", "mSA",
        "encode, ms", "a prompt, ms", "its work, ms",
    )  # fmt: skip
    rows = []
    names = list(dict.fromkeys(result.dataset for result in results))
    for name in [*names, ""]:
        some = [r for r in results if name in ("", r.dataset)]
        cells = [
            name or "all",
            str(len(some)),
            *(f"{_mean(some, key)[0]:.4f}" for key in ("click_iou", "box_iou")),
            *(
                " → ".join(f"{value:.4f}" for value in _mean(some, key))
                for key in ("click_truth", "box_truth", "msa")
            ),
            *(
                " → ".join(f"{1000 * value:.1f}" for value in _mean(some, key))
                for key in ("encode_seconds", "prompt_seconds", "prompt_work")
            ),
        ]
        rows.append(cells)
    return markdown_table(header, rows)


def _mean(results: Sequence[PrecisionResult], key: str) -> npt.NDArray[np.float64]:
    """Mean of a figure over images, (1,) or (2,)."""
    values = np.array([getattr(result, key) for result in results], np.float64)
    return np.atleast_1d(values.mean(axis=0))


def _loaded(model: str, way: str) -> Predictor:
    if way == "torch":
        return load_model(model, runtime="torch", device="cpu")
    return load_model(model, runtime="openvino", precision=cast("Precision", way))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    add_data_arguments(parser)
    ways: dict[str, Any] = {
        "choices": ["torch", "f32", "bf16", "int8"],
        "help": "OpenVINO but for torch",
    }
    parser.add_argument("--reference", default="f32", **ways)
    parser.add_argument("--other", default="bf16", **ways)
    parser.add_argument("--other-model", help="a quantized one, for int8")
    parser.add_argument(
        "--whole",
        action="store_true",
        help="the reference decodes every prompt in the whole frame",
    )
    arguments = parser.parse_args()
    with refusals():
        entries = images_of_folders(arguments.data, arguments.split, arguments.images)
        exact, other = (
            _loaded(model, way)
            for model, way in (
                (arguments.model, arguments.reference),
                (arguments.other_model or arguments.model, arguments.other),
            )
        )
        if arguments.whole:
            exact = exact.without_windows()
        results = compare_precisions(exact, other, entries)
    write_json(arguments.output, [vars(result) for result in results])
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main()
