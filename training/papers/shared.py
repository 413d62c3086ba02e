"""Shared by these commands: arguments, progress, refusals, figures and files."""

from __future__ import annotations

import csv
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_tinysam.errors import TinySAMError
from napari_tinysam.files.atomic import write_text
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.inference.runtime.torch_runtime import TorchRuntime
from napari_tinysam.metrics import THRESHOLDS, object_overlaps
from tinysam_training.data import find_pairs
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.evaluation.evaluate import evaluate
from tinysam_training.evaluation.report import means

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from napari_tinysam.metrics import Overlaps
    from napari_tinysam.model import SegmentAnything
    from tinysam_training.evaluation.evaluate import EvaluationSettings
    from tinysam_training.labelled_image import ImageEntry, LabelledImage


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folders of labelled images, and where the figures go."""
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=1000, help="of each folder")


@contextmanager
def refusals() -> Iterator[None]:
    """End the command with a sentence where data or models cannot be used."""
    try:
        yield
    except (TinySAMError, ValueError) as error:
        sys.exit(f"Error: {error}")


def say(line: str) -> None:
    """Report progress, apart from the results."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def figure(value: object, digits: int = 3) -> str:
    """Format a figure for a table; a dash if it was not measured."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def mean_of(results: Sequence[Any], name: str) -> float:
    """Mean of an attribute."""
    return float(np.mean([getattr(result, name) for result in results]))


def overlaps_with(
    image: LabelledImage, labels: npt.NDArray[np.integer[Any]]
) -> Overlaps:
    """Compare (H, W) labels with an image's own; in its unlabelled part only if that is known."""
    truth = image.labels[0]
    return object_overlaps(truth, labels, None if image.complete else truth > 0)


def accuracies(overlaps: Overlaps) -> list[float]:
    """Accuracy at each of `THRESHOLDS`; their mean is mSA."""
    return [overlaps.counts(threshold).accuracy for threshold in THRESHOLDS]


def judged(
    model: SegmentAnything,
    entries: Sequence[ImageEntry],
    settings: EvaluationSettings,
    names: Iterable[str],
    notes: Mapping[str, str] | None = None,
) -> dict[str, float | None]:
    """Means over images of the named figures of a model with the notes of its file."""
    figures = means(evaluate(in_torch(model, notes), entries, settings).results)
    return {name: figures.get(name) for name in names}


def in_torch(
    model: SegmentAnything, notes: Mapping[str, str] | None = None
) -> Predictor:
    """Make a predictor in PyTorch, on a GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    runtime = TorchRuntime(model, device)
    return Predictor(runtime, name="model", model_id="model", notes=notes)


def images_of_folders(
    folders: Sequence[Path], split: str, limit: int
) -> list[ImageEntry]:
    """List at most `limit` labelled images of each folder, evenly spaced.

    Parameters
    ----------
    folders : sequence of Path
    split : str
        "train", "val", …: a sub-folder of each, where there is one.
    limit : int

    Raises
    ------
    DataError
        If there is no such folder, or it cannot be read.
    """
    return [
        entry
        for folder in folders
        for entry in evenly_spaced(find_pairs(folder, split), limit)
    ]


def write_json(path: Path, content: Any) -> None:
    """Write a file as a whole."""
    write_text(path, json.dumps(content, indent=1))


def write_csv(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Write rows; values that a row lacks stay empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
