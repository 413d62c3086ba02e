"""Auto-segmentation of planes larger than the model's frame: what is found, how long it takes.

``python -m benchmarks.auto_in_tiles`` makes fields of nuclei of several sizes; the truth is known.
``--memory SIDE OBJECTS`` uses a detector that costs nothing and says what the rest needs.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_tinysam.everything import (
    LabelSettings,
    Proposal,
    Proposals,
    TiledSegmentation,
    label_proposals,
    segmentation_of,
    tiles,
)
from napari_tinysam.everything.joining import joined
from napari_tinysam.inference.load import load_model
from napari_tinysam.masks import BoxedMask
from napari_tinysam.metrics import object_overlaps

if TYPE_CHECKING:
    from napari_tinysam.inference.looks import Look
    from napari_tinysam.inference.predictor import Predictor

#: Height and width of the field that is repeated, and the nuclei in it.
FIELD, NUCLEI = (200, 280), 14


def nuclei(side: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Make a square field of nuclei of 18 to 28 pixels, and its labels."""
    rng = np.random.default_rng(3)
    height, width = FIELD
    y, x = np.mgrid[:height, :width]
    image, labels = np.full(FIELD, 20.0), np.zeros(FIELD, np.int32)
    while labels.max() < NUCLEI:
        cy, cx = rng.integers(20, height - 20), rng.integers(20, width - 20)
        radius = rng.integers(9, 15)
        away = np.hypot(y - cy, x - cx)
        if not labels[away <= radius + 4].any():
            labels[away <= radius] = labels.max() + 1
    image[labels > 0] = 160
    image = np.clip(image + rng.normal(0, 3, FIELD), 0, 255).astype(np.uint8)
    counts = -(-side // height), -(-side // width)
    first = np.arange(counts[0] * counts[1]).reshape(counts) * NUCLEI
    first = np.kron(first, np.ones(FIELD, np.int64))
    whole = np.tile(labels, counts)
    whole = np.where(whole > 0, whole + first, 0).astype(np.int32)
    return np.tile(image, counts)[:side, :side], whole[:side, :side]


def fields(predictor: Predictor, sides: list[int]) -> None:
    """Segment fields of nuclei."""
    say(
        "| side | tiles | nuclei | found (IoU ≥ 0.5) | IoU | at borders | elsewhere | s | CPU s |"
    )
    say("|---|---|---|---|---|---|---|---|---|")
    for side in sides:
        image, truth = nuclei(side)
        begun, cpu = time.perf_counter(), time.process_time()
        segmentation = segmentation_of(predictor, image).run()
        labels = segmentation.labels().labels
        spent, cpu = time.perf_counter() - begun, time.process_time() - cpu
        overlaps = object_overlaps(truth, labels)
        best = overlaps.best_iou
        # Nuclei that the side of the image cuts are no nuclei of the field.
        whole = np.isin(overlaps.true_ids, _inside(truth))
        tile = (
            segmentation.side if isinstance(segmentation, TiledSegmentation) else side
        )
        count = len(tiles((side, side), tile))
        near = np.isin(overlaps.true_ids, at_borders(truth, tile))
        found = f"{(best[whole] >= 0.5).mean():.1%}"
        figures = [
            mean(best[whole]),
            mean(best[whole & near]),
            mean(best[whole & ~near]),
        ]
        say(
            f"| {side}² | {count} | {whole.sum()} | {found} | {' | '.join(figures)} | {spent:.1f} "
            f"| {cpu:.1f} |"
        )


def at_borders(truth: npt.NDArray[np.int32], side: int) -> npt.NDArray[np.int32]:
    """Labels of objects that a side of a look, or the border of a core, crosses."""
    height, width = truth.shape
    grid = tiles((height, width), side)
    found = []
    for look in grid:
        for part in (look, grid.core(look)):
            for y in {part.y0, part.y1 - 1} - {0, height - 1}:
                found.append(truth[y, part.columns])
            for x in {part.x0, part.x1 - 1} - {0, width - 1}:
                found.append(truth[part.rows, x])
    return np.unique(np.concatenate([*found, np.zeros(1, np.int32)]))


def _inside(truth: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    sides = np.concatenate([truth[0], truth[-1], truth[:, 0], truth[:, -1]])
    return np.setdiff1d(np.unique(truth), np.append(sides, 0))


def discs_in_tiles(side: int, count: int) -> Iterator[tuple[Look, list[Proposal]]]:
    """Give what a perfect detector finds in a square field of discs of 25 pixels, tile by tile."""
    y, x = np.mgrid[:25, :25]
    disc = np.hypot(y - 12, x - 12) <= 12
    along = int(np.ceil(np.sqrt(count)))
    step = side / along
    for look in tiles((side, side)):
        first = [max(0, int(start / step) - 1) for start in (look.y0, look.x0)]
        last = [min(along, int(stop / step) + 1) for stop in (look.y1, look.x1)]
        own: list[Proposal] = []
        for row in range(first[0], last[0]):
            for column in range(first[1], last[1]):
                top, left = int(row * step), int(column * step)
                if look.y0 <= top < look.y1 - 25 and look.x0 <= left < look.x1 - 25:
                    mask = BoxedMask(disc.copy(), top, left, (side, side))
                    point = left + 12.0, top + 12.0
                    own.append(Proposal(mask, 0.9, point, "prompt", 1.0, mask))
        yield look, own


def memory(side: int, count: int) -> None:
    """Join and label the proposals of a perfect detector."""
    grid = tiles((side, side))
    begun = time.perf_counter()
    found = dict(discs_in_tiles(side, count))
    say(
        f"proposals of {len(grid)} tiles: {time.perf_counter() - begun:.1f} s, {peak()}"
    )
    begun = time.perf_counter()
    proposals = Proposals(joined(found, grid).kept, (side, side))
    found.clear()
    say(f"{len(proposals)} joined: {time.perf_counter() - begun:.1f} s, {peak()}")
    begun = time.perf_counter()
    labels = label_proposals(proposals, LabelSettings())
    say(
        f"{len(labels.numbers)} labelled: {time.perf_counter() - begun:.1f} s, {peak()}"
    )


def mean(values: npt.NDArray[np.float64]) -> str:
    """Write the mean of values, if there are any."""
    return f"{values.mean():.3f}" if len(values) else "–"


def peak() -> str:
    """Say how much memory this process held at most."""
    unit = 1024**2 if sys.platform == "darwin" else 1024
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return f"at most {held:,.0f} MB"


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--sides", type=int, nargs="*", default=[512, 1024, 2048, 4096])
    parser.add_argument("--memory", type=int, nargs=2, metavar=("SIDE", "OBJECTS"))
    arguments = parser.parse_args()
    if arguments.memory is not None:
        memory(*arguments.memory)
        return
    predictor = load_model(arguments.model)
    fields(predictor, arguments.sides)


if __name__ == "__main__":
    main()
