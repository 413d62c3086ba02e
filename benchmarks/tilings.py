"""Does what is found depend on where the borders of tiles lie? ``python -m benchmarks.tilings``.

A field of nuclei, and with ``--data DATA`` mosaics of real images, are searched in tiles of one
side with other overlaps, and in another order. Each is compared with the first: how many objects
have no partner there with an IoU of at least 0.5, and the mean IoU of the others.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benchmarks.auto_in_tiles import nuclei, say
from benchmarks.mosaic import mosaics
from napari_tinysam.everything import TiledSegmentation, tiles
from napari_tinysam.inference.load import load_model
from napari_tinysam.inference.looks import Look, LookGrid
from napari_tinysam.inference.plane_looks import PlaneLooks
from napari_tinysam.metrics import object_overlaps

if TYPE_CHECKING:
    from napari_tinysam.inference.predictor import Predictor

#: Objects of two searches are partners from this IoU.
_PARTNERS = 0.5


def compare(
    predictor: Predictor, name: str, plane: npt.NDArray[np.uint8], side: int
) -> None:
    """Search a plane in several ways; prints a row for each."""
    looks = PlaneLooks(plane)
    height, width = looks.shape
    usual = tiles(looks.shape, side)
    corner = Look(height - 10, width - 10, height, width)
    ways: list[tuple[str, LookGrid, Look | None]] = [
        (f"overlap {usual.overlap}", usual, None),
        ("from the last corner", usual, corner),
        *(
            (f"overlap {overlap}", LookGrid(looks.shape, side, overlap), None)
            for overlap in (side // 4, side // 2)
        ),
    ]
    first: npt.NDArray[np.int32] | None = None
    for way, grid, begin in ways:
        run = TiledSegmentation(
            predictor, lambda look: looks.encode(predictor, look), grid, first=begin
        ).run()
        labels = run.labels().labels
        if first is None:
            first = labels
        overlaps = object_overlaps(first, labels)
        lone = int(np.count_nonzero(overlaps.best_iou < _PARTNERS))
        others = object_overlaps(labels, first).best_iou
        more = int(np.count_nonzero(others < _PARTNERS))
        partners = overlaps.best_iou[overlaps.best_iou >= _PARTNERS]
        share = (lone + more) / max(1, len(overlaps.best_iou) + len(others))
        say(
            f"| {name} | {way} | {len(grid)} | {labels.max()} | {lone} | {more} "
            f"| {share:.2%} | {partners.mean():.4f} |"
        )


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--side", type=int, default=2048, help="of the planes, pixels")
    parser.add_argument("--tiles", type=int, default=1024, help="their side")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sets", nargs="*", default=[])
    given = parser.parse_args()
    predictor = load_model(given.model, convert=say)
    say(
        "| plane | tiles | number | objects | lost | added | differ | IoU of the others |"
    )
    say("|---|---|---|---|---|---|---|---|")
    compare(predictor, "nuclei", nuclei(given.side)[0], given.tiles)
    if given.data is not None:
        for mosaic in mosaics(given.data, given.sets, given.side):
            compare(predictor, mosaic.name, mosaic.plane, given.tiles)


if __name__ == "__main__":
    main()
