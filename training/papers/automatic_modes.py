"""Compare the modes of automatic segmentation: dense, hierarchical, object head alone, guided.

Run as ``python -m papers.automatic_modes MODEL DATA… -o OUT.json``. Each image is encoded once; the
seconds do not include that.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np

from napari_tinysam.everything import Mode, Segmentation
from napari_tinysam.files.tables import markdown_table
from napari_tinysam.inference.load import load_model
from napari_tinysam.inference.runtime.protocol import PRECISIONS
from napari_tinysam.metrics import THRESHOLDS
from papers.shared import (
    accuracies,
    add_data_arguments,
    images_of_folders,
    mean_of,
    overlaps_with,
    refusals,
    say,
    write_json,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from tinysam_training.labelled_image import ImageEntry, LabelledImage

#: In the order of the table.
MODES: tuple[Mode, ...] = ("dense", "hierarchical", "head", "guided")


@dataclass(frozen=True)
class ModeResult:
    """One mode on one image.

    Attributes
    ----------
    dataset, image : str
    mode : str
    msa, ap50 : float
    mean_iou : float
        Of each true object with the found one that fits best; 0 if it was missed.
    found, true : int
        Objects.
    decoded : int
        Prompts.
    seconds : float
        Without encoding.
    """

    dataset: str
    image: str
    mode: str
    msa: float
    ap50: float
    mean_iou: float
    found: int
    true: int
    decoded: int
    seconds: float


def judge_mode(
    predictor: Predictor, embedding: Embedding, image: LabelledImage, mode: Mode
) -> ModeResult:
    """Segment an image in one mode and compare with its labels.

    Parameters
    ----------
    predictor : Predictor
    embedding : Embedding
        Of the image.
    image : LabelledImage
    mode : str
    """
    begun = time.perf_counter()
    segmentation = Segmentation(predictor, embedding, mode).run()
    labels = segmentation.labels().labels
    seconds = time.perf_counter() - begun
    overlaps = overlaps_with(image, labels)
    found = accuracies(overlaps)
    best = overlaps.best_iou
    return ModeResult(
        image.dataset,
        image.name,
        mode,
        float(np.mean(found)),
        found[THRESHOLDS.index(0.5)],
        float(best.mean()) if len(best) else 1.0,
        int(labels.max()),
        len(best),
        segmentation.report.decoded,
        seconds,
    )


def compare_modes(
    predictor: Predictor,
    entries: Sequence[ImageEntry],
    modes: Sequence[Mode] = MODES,
) -> list[ModeResult]:
    """Judge all modes on all images, those that need an object head only if there is one."""
    able = [
        m for m in modes if predictor.has_object_head or m not in ("guided", "head")
    ]
    results = []
    for number, entry in enumerate(entries, start=1):
        image = entry.read()
        embedding = predictor.encode(image.rgb)
        results += [judge_mode(predictor, embedding, image, mode) for mode in able]
        say(f"{number} of {len(entries)}: {image.dataset} {image.name}")
    return results


def table(results: Sequence[ModeResult]) -> str:
    """Make a Markdown table with a row for each set and mode."""
    header = (
        "set", "mode", "mSA", "AP50", "mean IoU", "objects (true)", "prompts", "seconds",
    )  # fmt: skip
    rows = []
    sets = list(dict.fromkeys(result.dataset for result in results))
    modes = list(dict.fromkeys(result.mode for result in results))
    for name in [*sets, ""] if len(sets) > 1 else sets:
        for mode in modes:
            some = [r for r in results if r.mode == mode and name in ("", r.dataset)]
            count = len({(r.dataset, r.image) for r in some})
            cells = [
                f"{name or 'all images'} ({count})",
                mode,
                *(f"{mean_of(some, key):.3f}" for key in ("msa", "ap50", "mean_iou")),
                f"{mean_of(some, 'found'):.0f} ({mean_of(some, 'true'):.0f})",
                f"{mean_of(some, 'decoded'):.0f}",
                f"{mean_of(some, 'seconds'):.2f}",
            ]
            rows.append(cells)
    return markdown_table(header, rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    add_data_arguments(parser)
    parser.add_argument("--modes", nargs="+", choices=get_args(Mode), default=MODES)
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    arguments = parser.parse_args()
    with refusals():
        entries = images_of_folders(arguments.data, arguments.split, arguments.images)
        predictor = load_model(
            arguments.model, precision=arguments.precision, convert=say
        )
        results = compare_modes(predictor, entries, arguments.modes)
    write_json(arguments.output, [vars(result) for result in results])
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main()
