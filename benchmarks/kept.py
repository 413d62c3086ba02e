"""How soon a kept embedding is ready, and whether its masks are those of a fresh one.

``python -m benchmarks.kept --images DATA/dsb2018/val -n 8``, for the model and runtime of this
machine, or with ``--model``, ``--runtime`` and ``--precision``. Without ``--images`` on a synthetic
image.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.everything.instances import instances_of
from napari_tinysam.inference.kept import KeptEmbeddings
from napari_tinysam.inference.load import load_model
from napari_tinysam.prompts import Prompts
from tinysam_training.data import find_pairs
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.synthetic import entries

if TYPE_CHECKING:
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from tinysam_training.labelled_image import LabelledImage

ROUNDS = 20

#: Objects of an image that are clicked.
CLICKED = 32


def read_images(folder: Path | None, count: int) -> list[LabelledImage]:
    """Read labelled images of a folder, or make one."""
    if folder is None:
        found = entries(1, seed=2**31 - 1, kinds=("nuclei",), size=(1024, 1024))
    else:
        found = evenly_spaced(find_pairs(folder, None), count)
    return [each.read() for each in found]


def clicks(image: LabelledImage) -> Prompts | None:
    """Make one click inside each of some objects."""
    chosen = evenly_spaced(np.unique(image.labels[0])[1:].tolist(), CLICKED)
    objects = instances_of(
        np.where(np.isin(image.labels[0], chosen), image.labels[0], 0)
    )
    if not objects:
        return None
    return Prompts(points=np.array([[each.point] for each in objects], np.float32))


def ious(
    predictor: Predictor, fresh: Embedding, found: Embedding, prompts: Prompts
) -> list[float]:
    """IoU of the best masks of two embeddings, prompt by prompt."""
    one, other = (predictor.predict(each, prompts) for each in (fresh, found))
    both = []
    for row, (a, b) in enumerate(zip(one.best, other.best, strict=True)):
        mask, again = one.full_logits(row, a) > 0, other.full_logits(row, b) > 0
        union = np.count_nonzero(mask | again)
        both.append(np.count_nonzero(mask & again) / union if union else 1.0)
    return both


def best_time(run: Callable[[], object]) -> float:
    """Milliseconds, of the fastest round: the machine may be shared."""
    taken = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    return 1e3 * min(taken)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kept")
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--images", type=Path, help="a folder of labelled images")
    parser.add_argument("-n", type=int, default=8, help="number of images")
    asked = parser.parse_args()
    predictor = load_model(
        asked.model,
        device=asked.device,
        runtime=asked.runtime,
        precision=asked.precision,
        convert=sys.stderr.write,
    )
    found_ious: list[float] = []
    encoding, ready = [], []
    with tempfile.TemporaryDirectory() as folder:
        kept = KeptEmbeddings(folder=Path(folder), delay=0)
        images = read_images(asked.images, asked.n)
        for image in images:
            predictor.kept = None
            fresh = predictor.encode(image.rgb)
            encoding.append(best_time(lambda i=image: predictor.encode(i.rgb)))
            predictor.kept = kept
            predictor.encode(image.rgb)
            kept.flush()
            found = predictor.encode(image.rgb)
            ready.append(best_time(lambda i=image: predictor.encode(i.rgb)))
            prompts = clicks(image)
            if prompts is not None:
                found_ious += ious(predictor, fresh, found, prompts)
        size = kept.files.size / len(images) / 1e6
    sys.stdout.write(
        f"{predictor.name}, {predictor.runtime_name}, {len(images)} images: encoded in "
        f"{np.median(encoding):.0f} ms, found on disk in {np.median(ready):.0f} ms (contrast and "
        f"resizing included); {size:.1f} MB each, {fresh.nbytes / 1e6:.1f} MB in memory; "
        f"{len(found_ious)} clicks: IoU {np.mean(found_ious):.5f} on average, at least "
        f"{min(found_ious, default=np.nan):.4f}\n"
    )


if __name__ == "__main__":
    main()
