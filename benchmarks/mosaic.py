"""Real images side by side in large planes, and alone: are their objects found as well?

``python -m benchmarks.mosaic DATA`` takes NAME.png and NAME_label.png of every ``DATA/SET/val``. Of
each set it puts images of one kind (the same size, gray or colour) into a plane, some of them
repeatedly until it is full, and compares what is found there with what is found in each image by
itself: by Auto-segment, and by a click on the deepest pixel of objects. Contrast is stretched in
each image before.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt

from benchmarks.auto_in_tiles import at_borders, mean, say
from napari_tinysam.everything import TiledSegmentation, segmentation_of
from napari_tinysam.image import as_rgb, to_eight_bits
from napari_tinysam.inference.load import load_model
from napari_tinysam.labels import object_masks
from napari_tinysam.metrics import THRESHOLDS, object_overlaps

if TYPE_CHECKING:
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.masks import BoxedMask

#: Images of a set that have fewer objects together are left out.
_LEAST_OBJECTS = 10

_NAMES = ("alone", "mosaic")


@dataclass(frozen=True, eq=False)
class Picture:
    """A labelled image; contrast stretched, (H, W, 3) uint8, and (H, W) labels 1…N."""

    rgb: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Mosaic:
    """Pictures in a plane; `places` are numbers of pictures, and their first row and column."""

    name: str
    pictures: list[Picture]
    places: list[tuple[int, int, int]]
    plane: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, name: str, pictures: list[Picture], side: int, room: int = 0) -> Mosaic:
        """Fill a square plane with pictures of one size, with some pixels between them."""
        ground = np.median([np.median(each.rgb, axis=(0, 1)) for each in pictures], 0)
        plane = np.full((side, side, 3), ground.astype(np.uint8))
        height, width = pictures[0].labels.shape
        places = []
        for y in range(0, side - height + 1, height + room):
            for x in range(0, side - width + 1, width + room):
                which = len(places) % len(pictures)
                plane[y : y + height, x : x + width] = pictures[which].rgb
                places.append((which, y, x))
        return cls(name, pictures, places, plane)

    def placed(self, found: list[npt.NDArray[np.int32]]) -> npt.NDArray[np.int32]:
        """Put labels of the pictures where the pictures are."""
        labels = np.zeros(self.plane.shape[:2], np.int32)
        last = 0
        for which, y, x in self.places:
            own = found[which]
            height, width = own.shape
            labels[y : y + height, x : x + width] = np.where(own > 0, own + last, 0)
            last += int(own.max())
        return labels

    def without_cut(
        self, truth: npt.NDArray[np.int32], found: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Leave out objects at the borders of their picture, and what was found of them.

        That is what touches such a border, or lies mostly in an object that is left out.
        """
        at_border = np.ones(truth.shape, bool)
        height, width = self.pictures[0].labels.shape
        for _, y, x in self.places:
            at_border[y + 1 : y + height - 1, x + 1 : x + width - 1] = False
        cut = np.isin(truth, np.setdiff1d(truth[at_border], 0))
        count = int(found.max()) + 1
        areas = np.maximum(np.bincount(found.ravel(), minlength=count), 1)
        in_cut = np.bincount(found[cut], minlength=count) / areas
        gone = in_cut > 0.5
        gone[found[at_border]] = True
        return np.where(cut, 0, truth), np.where(gone[found], 0, found)


def mosaics(data: Path, sets: list[str], side: int, room: int = 0) -> Iterator[Mosaic]:
    """Make the mosaics of some sets, or of all."""
    for folder in sorted(data.iterdir()):
        if not (folder / "val").is_dir() or (sets and folder.name not in sets):
            continue
        kinds: dict[tuple[int, ...], list[Picture]] = {}
        for path in sorted((folder / "val").glob("*_label.png")):
            raw = iio.imread(path.with_name(path.name.replace("_label", "")))
            _, labels = np.unique(iio.imread(path), return_inverse=True)
            picture = Picture(
                as_rgb(to_eight_bits(raw)),
                labels.reshape(raw.shape[:2]).astype(np.int32),
            )
            kinds.setdefault(raw.shape, []).append(picture)
        for shape, pictures in kinds.items():
            objects = sum(int(picture.labels.max()) for picture in pictures)
            if objects >= _LEAST_OBJECTS and max(shape) <= side:
                name = f"{folder.name} {shape[0]} × {shape[1]}"
                yield Mosaic.of(name, pictures, side, room)


@dataclass(frozen=True)
class Row:
    """Figures of one mosaic."""

    msa: tuple[float, float]
    seams: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    """IoU lost in the mosaic by objects on borders of tiles, and by others."""


def by_itself(
    predictor: Predictor, mosaic: Mosaic, side: int | None, *, clear: bool = False
) -> Row:
    """Compare what Auto-segment finds; prints a row."""
    truth = mosaic.placed([picture.labels for picture in mosaic.pictures])
    used = {which for which, _, _ in mosaic.places}
    found = [
        segmentation_of(predictor, picture.rgb).run().labels().labels
        if number in used
        else picture.labels
        for number, picture in enumerate(mosaic.pictures)
    ]
    begun = time.process_time()
    run = segmentation_of(predictor, mosaic.plane, tiles_of=side or "auto").run()
    spent = time.process_time() - begun
    assert isinstance(run, TiledSegmentation)
    pairs = [
        mosaic.without_cut(truth, labels) if clear else (truth, labels)
        for labels in (mosaic.placed(found), run.labels().labels)
    ]
    both = [object_overlaps(*pair) for pair in pairs]
    msa = [
        float(np.mean([overlaps.counts(limit).accuracy for limit in THRESHOLDS]))
        for overlaps in both
    ]
    lost = both[0].best_iou - both[1].best_iou
    near = np.isin(both[0].true_ids, at_borders(truth, run.side))
    say(
        f"| {mosaic.name} | {len(mosaic.places)} | {len(lost)} | {run.side} | {msa[0]:.3f} "
        f"| {msa[1]:.3f} | {msa[1] - msa[0]:+.3f} | {mean(lost[near])} | {mean(lost[~near])} "
        f"| {spent:.0f} |"
    )
    return Row((msa[0], msa[1]), (lost[near], lost[~near]))


def by_clicks(
    predictor: Predictor, mosaic: Mosaic, most: int, *, clear: bool = False
) -> Row | None:
    """Compare masks of clicks; prints a row. None without objects."""
    from benchmarks.large_planes import Desk

    rng = np.random.default_rng(0)
    desk = Desk(predictor)
    scores: tuple[list[float], list[float]] = [], []
    first: dict[int, tuple[int, int]] = {}
    for which, y, x in mosaic.places:
        first.setdefault(which, (y, x))
    asked = []
    for which, (top, left) in first.items():
        objects = [
            mask
            for _, mask in object_masks(mosaic.pictures[which].labels)
            if not clear or _is_clear(mask)
        ]
        chosen = rng.permutation(len(objects))[: max(1, most // len(first))]
        asked += [(which, top, left, objects[number]) for number in chosen.tolist()]
    if not asked:
        return None
    layer: Any = None
    for which, _, _, truth in asked:
        if layer is None or layer.name != str(which):
            layer = desk.viewer.add_image(mosaic.pictures[which].rgb, name=str(which))
        scores[0].append(_clicked(desk, truth))
    desk.viewer.add_image(mosaic.plane, name="mosaic")
    shape = mosaic.plane.shape[:2]
    for _, top, left, truth in asked:
        scores[1].append(_clicked(desk, truth.moved(top, left, (shape[0], shape[1]))))
    alone, there = (float(np.mean(each)) for each in scores)
    say(
        f"| {mosaic.name} | {len(asked)} | {alone:.3f} | {there:.3f} | {there - alone:+.3f} |"
    )
    return Row((alone, there), (np.zeros(0), np.zeros(0)))


def _is_clear(mask: BoxedMask) -> bool:
    x0, y0, x1, y1 = mask.box
    height, width = mask.shape
    return x0 > 0 and y0 > 0 and x1 < width - 1 and y1 < height - 1


def _clicked(desk: Any, truth: BoxedMask) -> float:
    x, y = truth.deepest
    found: BoxedMask = desk.click(y, x)
    return found.iou(truth)


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="*", default=[])
    parser.add_argument("--model", default="default")
    parser.add_argument("--side", type=int, default=2048, help="of the mosaics, pixels")
    parser.add_argument("--room", type=int, default=0, help="pixels between the images")
    parser.add_argument(
        "--clear", action="store_true", help="judge objects clear of borders only"
    )
    parser.add_argument("--tiles", type=int, help="their side instead of a chosen one")
    parser.add_argument(
        "--clicks", type=int, metavar="N", help="click N objects of each mosaic instead"
    )
    given = parser.parse_args()
    predictor = load_model(given.model, convert=say)
    rows = []
    if given.clicks:
        say("| mosaic | objects | IoU alone | in the mosaic | difference |")
        say("|---|---|---|---|---|")
    else:
        say(
            "| mosaic | images | objects | tiles | mSA alone | in the mosaic | difference "
            "| IoU lost at borders | elsewhere | CPU s |"
        )
        say("|---|---|---|---|---|---|---|---|---|---|")
    for mosaic in mosaics(given.data, given.sets, given.side, given.room):
        if given.clicks:
            row = by_clicks(predictor, mosaic, given.clicks, clear=given.clear)
            rows += [] if row is None else [row]
        else:
            rows.append(by_itself(predictor, mosaic, given.tiles, clear=given.clear))
    alone, there = np.mean([row.msa for row in rows], axis=0)
    say(f"mean: alone {alone:.3f}, in the mosaic {there:.3f}, {there - alone:+.3f}")
    if not given.clicks:
        near, other = (
            np.concatenate([row.seams[which] for row in rows]) for which in (0, 1)
        )
        say(
            f"IoU lost at borders of tiles {mean(near)} ({len(near)} objects), elsewhere "
            f"{mean(other)} ({len(other)})"
        )


if __name__ == "__main__":
    main()
