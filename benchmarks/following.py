"""How well objects of synthetic stacks are followed, and how fast.

``python -m benchmarks.following --stacks 4`` clicks each nucleus once, in the plane where it is
largest, and follows all of them through 30 planes; then with a click in three planes; then from one
and three planes in which they are drawn by hand (the true mask); then with each kind of prompt for
all, and by copying the click's mask to the true planes. ``--movies`` does the same with cells that
move, from the first frame on. All of these are synthetic images. ``--warped DATA`` follows the
objects of real validation images through frames that are smooth deformations of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.warping import warped_images
from napari_tinysam.inference.load import load_model
from napari_tinysam.masks import BoxedMask
from napari_tinysam.prompts import Prompts
from napari_tinysam.volume.asking import Kind
from napari_tinysam.volume.followed import FollowedObject, FollowSettings
from napari_tinysam.volume.following import follow
from tinysam_training.synthetic.volumes import (
    SyntheticStack,
    synthetic_movie,
    synthetic_volume,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor

#: IoU with the truth from which an object counts as followed in a plane.
FOLLOWED = 0.5

#: Objects that show in fewer planes are not judged.
LEAST_PLANES = 5


@dataclass(frozen=True)
class Figures:
    """What following one object gave."""

    volume_iou: float
    planes: float
    too_many: int
    missing: int


class Case:
    """A stack, its embeddings, and the planes of its objects."""

    def __init__(self, predictor: Predictor, stack: SyntheticStack) -> None:
        self.predictor, self.stack = predictor, stack
        self._read: dict[int, Embedding] = {}
        self.areas = {
            int(label): np.count_nonzero(stack.labels == label, axis=(1, 2))
            for label in np.unique(stack.labels)[1:]
        }
        self.areas = {
            label: areas
            for label, areas in self.areas.items()
            if np.count_nonzero(areas) >= LEAST_PLANES
        }

    def __call__(self, plane: int) -> Embedding:
        if plane not in self._read:
            self._read[plane] = self.predictor.encode(self.stack.image[plane])
        return self._read[plane]

    def truth(self, label: int, plane: int) -> BoxedMask:
        return BoxedMask.from_full(self.stack.labels[plane] == label)

    def clicked(self, label: int, planes: list[int]) -> FollowedObject:
        """Click deepest inside an object in some planes."""
        anchors = {}
        for plane in planes:
            point = np.array([[self.truth(label, plane).deepest]], np.float32)
            found = self.predictor.predict(self(plane), Prompts(points=point))
            mask = found.boxed(0).without_specks()
            if mask.area:
                anchors[plane] = mask
        return FollowedObject(anchors or {planes[0]: self.truth(label, planes[0])})

    def drawn(self, label: int, planes: list[int]) -> FollowedObject:
        """Draw an object in some planes, or accept it there."""
        return FollowedObject({plane: self.truth(label, plane) for plane in planes})

    def judged(self, label: int, masks: dict[int, BoxedMask]) -> Figures:
        true = self.stack.labels == label
        found = np.zeros_like(true)
        for plane, mask in masks.items():
            found[plane][mask.slices] |= mask.mask
        shown = set(np.flatnonzero(self.areas[label]).tolist())
        good = sum(
            masks[plane].iou(self.truth(label, plane)) > FOLLOWED
            for plane in shown & masks.keys()
        )
        return Figures(
            float((found & true).sum() / (found | true).sum()),
            good / len(shown),
            len(masks.keys() - shown),
            len(shown - masks.keys()),
        )

    def follow(
        self,
        anchors: dict[int, list[int]],
        settings: FollowSettings,
        *,
        drawn: bool = False,
    ) -> tuple[list[Figures], float]:
        """Follow all objects from clicks, or as drawn; returns figures, and seconds a plane."""
        known = self.drawn if drawn else self.clicked
        objects = {label: known(label, at) for label, at in anchors.items()}
        planes = len(self.stack.image)
        for plane in range(planes):
            self(plane)
        begun = time.perf_counter()
        for _ in follow(
            self.predictor, self, list(objects.values()), 0, planes - 1, settings
        ):
            pass
        spent = time.perf_counter() - begun
        figures = [
            self.judged(label, {p: each.mask for p, each in known.found.items()})
            for label, known in objects.items()
        ]
        return figures, spent / planes

    def copied(self, anchors: dict[int, list[int]]) -> list[Figures]:
        """Copy the mask of a click to all planes in which the object truly is."""
        found = []
        for label, at in anchors.items():
            (mask,) = self.clicked(label, at[:1]).anchors.values()
            shown = np.flatnonzero(self.areas[label]).tolist()
            found.append(self.judged(label, dict.fromkeys(shown, mask)))
        return found


def largest(areas: npt.NDArray[np.integer]) -> list[int]:
    """Return the plane where an object is largest."""
    return [int(areas.argmax())]


def first(areas: npt.NDArray[np.integer]) -> list[int]:
    """Return the first frame of an object."""
    return [int(np.flatnonzero(areas)[0])]


def three(areas: npt.NDArray[np.integer]) -> list[int]:
    """Return a plane near each end and one in the middle."""
    shown = np.flatnonzero(areas)
    return sorted({int(shown[round(s * (len(shown) - 1))]) for s in (0.1, 0.5, 0.9)})


def stacks(asked: argparse.Namespace) -> Iterator[tuple[str, SyntheticStack]]:
    """Make what is asked for, one after the other, with its name."""
    if asked.warped is not None:
        yield from warped_images(
            asked.warped, asked.sets, asked.stacks, asked.planes, asked.step
        )
        return
    for seed in range(asked.stacks):
        rng = np.random.default_rng(1000 + seed)
        make = synthetic_movie if asked.movies else synthetic_volume
        stack = make(rng, (asked.planes, 256, 256), asked.objects)
        yield f"{seed + 1} of {asked.stacks}", stack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stacks", type=int, default=4)
    parser.add_argument("--planes", type=int, default=30)
    parser.add_argument("--objects", type=int, default=12)
    parser.add_argument("--model", default="default")
    parser.add_argument("--movies", action="store_true")
    parser.add_argument("--warped", type=Path, metavar="DATA")
    parser.add_argument("--sets", nargs="*", default=[], help="of DATA; default: all")
    parser.add_argument("--step", type=float, default=3, help="pixels a frame")
    asked = parser.parse_args()
    predictor = load_model(asked.model)
    moves = asked.movies or asked.warped is not None
    settings = FollowSettings(moves=moves)
    once = first if moves else largest
    rows: dict[str, list[Figures]] = {}
    times: dict[str, list[float]] = {}
    for which, stack in stacks(asked):
        case = Case(predictor, stack)
        if not case.areas:
            continue
        clicks = {label: once(areas) for label, areas in case.areas.items()}
        thrice = {label: three(areas) for label, areas in case.areas.items()}
        ways = {
            "one click": (clicks, settings),
            "three clicks": (thrice, settings),
            "one plane drawn": (clicks, settings),
            "three planes drawn": (thrice, settings),
            **{
                f"one click, always {kind.value}": (
                    clicks,
                    replace(settings, kind=kind),
                )
                for kind in Kind
            },
        }
        for name, (anchors, how) in ways.items():
            figures, spent = case.follow(anchors, how, drawn="drawn" in name)
            rows.setdefault(name, []).extend(figures)
            times.setdefault(name, []).append(spent)
        rows.setdefault("the click's mask copied", []).extend(case.copied(clicks))
        label = next(iter(clicks))
        _, spent = case.follow({label: clicks[label]}, settings)
        times.setdefault("one object", []).append(spent)
        sys.stderr.write(f"{which}\n")
    what = "warped images" if asked.warped else "synthetic images"
    lines = [
        f"{what}, model {predictor.name}, {predictor.runtime_name}",
        "| way | objects | IoU in 3-D | planes followed | too many | missing | ms a plane |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in rows.items():
        means = [
            np.mean([getattr(each, key) for each in found])
            for key in ("volume_iou", "planes", "too_many", "missing")
        ]
        spent = 1e3 * min(times[name]) if name in times else float("nan")
        lines.append(
            f"| {name} | {len(found)} | {means[0]:.3f} | {means[1]:.3f} | {means[2]:.2f} | "
            f"{means[3]:.2f} | {spent:.0f} |"
        )
    lines.append(f"one object alone: {1e3 * min(times['one object']):.0f} ms a plane")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
