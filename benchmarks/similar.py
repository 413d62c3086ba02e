"""How well "Find similar" tells two kinds of objects apart: ``python -m benchmarks.similar``.

In each image objects are of two kinds. Each object asks for its like; of the objects that rank
highest, as many as there are of its kind, the share that are of its kind is the precision. Kinds:

- ``size``: nuclei of real images (``--images DATA/dsb2018/val``) that are clearly big or small: the
  areas of an image's nuclei fall into two groups;
- ``filling``, ``brightness``, ``shape``, ``grain``: drawn objects of one area, half of which are
  rings, brighter, long, or speckled.

Objects are the labels' own (``true``), or those that auto-segmentation proposes (``found``; a
proposal is what it overlaps by more than half). ``chance`` is what guessing would give. The ways
are the parts of the measure: raw features, contrasted by the mean of the image or of its objects,
scaled or not, with finer features or not, with the area.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage as ndi

from napari_tinysam import load_model
from napari_tinysam.everything import Segmentation
from napari_tinysam.everything.choosing import shapes_of
from napari_tinysam.inference.likeness import (
    ComparedObjects,
    ObjectFeatures,
    mean_features,
)
from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui.session.auto.similar import LEAST

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.inference.predictor import Predictor

#: Two groups of areas explain at least this share of the variance of their logarithms.
_APART = 0.8

#: Objects of each kind, at least.
_LEAST = 5

LIMITS = [0.3, 0.35, 0.4, 0.45, LEAST, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9]

KINDS = ("filling", "brightness", "shape", "grain")


@dataclass(eq=False)
class Scene:
    """An image with objects of two kinds.

    Parameters
    ----------
    image : ndarray, (H, W) or (H, W, 3)
    masks : list of BoxedMask
    kinds : ndarray of int, (N,)
        0 or 1.
    """

    image: npt.NDArray[Any]
    masks: list[BoxedMask]
    kinds: npt.NDArray[np.intp]


def drawn(kind: str, seed: int, side: int = 512, count: int = 40) -> Scene:
    """Draw objects of the same area on noise, in places that say nothing of their kind."""
    noise = np.random.default_rng((seed, KINDS.index(kind)))
    image, taken = np.full((side, side), 40.0), np.zeros((side, side), bool)
    y, x = np.mgrid[:side, :side]
    masks, kinds = [], []
    for _ in range(20 * count):
        if len(masks) == count:
            break
        which, radius = len(masks) % 2, noise.uniform(12, 16)
        cy, cx = noise.uniform(30, side - 30, 2)
        ratio = 1.8 if kind == "shape" and which else noise.uniform(1, 1.15)
        turn = noise.uniform(0, np.pi)
        along = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        across = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        away = np.hypot(along / ratio, across * ratio) / radius
        mask = away <= 1
        if (ndi.binary_dilation(mask, iterations=3) & taken).any():
            continue
        taken |= mask
        light = np.full((side, side), noise.uniform(70, 85))
        if kind == "filling" and which:
            light *= np.clip(2 * away - 0.6, 0.2, 1)
        if kind == "brightness" and which:
            light *= 1.6
        if kind == "grain" and which:
            light *= 1 + 0.5 * ndi.gaussian_filter(noise.normal(size=mask.shape), 1) * 3
        image[mask] += light[mask]
        masks.append(BoxedMask.from_full(mask))
        kinds.append(which)
    image = ndi.gaussian_filter(image, 1.2) + noise.normal(0, 5, image.shape)
    return Scene(np.clip(image, 0, 255).astype(np.uint8), masks, np.array(kinds))


def two_sizes(areas: npt.NDArray[np.floating]) -> npt.NDArray[np.intp] | None:
    """Return which objects are big; None if areas do not fall into two groups."""
    logs = np.log(areas)
    best, kinds = 0.0, None
    for cut in np.unique(logs)[1:]:
        big = logs >= cut
        few = min(big.sum(), (~big).sum())
        if few < _LEAST:
            continue
        between = big.mean() * (~big).mean()
        explained = between * (logs[big].mean() - logs[~big].mean()) ** 2 / logs.var()
        if explained > best:
            best, kinds = float(explained), big.astype(np.intp)
    return kinds if best >= _APART else None


def real(folder: Path) -> Iterator[Scene]:
    """Give the images of a folder whose nuclei are big or small."""
    import imageio.v3 as iio

    for path in sorted(folder.glob("*_label.png")):
        labels = np.asarray(iio.imread(path)).astype(np.int64)
        boxes = ndi.find_objects(labels)
        masks = [
            BoxedMask(labels[box] == at, box[0].start, box[1].start, labels.shape)
            for at, box in enumerate(boxes, start=1)
            if box is not None and (labels[box] == at).sum() > 20
        ]
        if len(masks) < 2 * _LEAST:
            continue
        kinds = two_sizes(np.array([mask.area for mask in masks]))
        if kinds is not None:
            image = path.with_name(path.name.replace("_label.png", ".png"))
            yield Scene(np.asarray(iio.imread(image)), masks, kinds)


Likeness = Callable[[list[int]], "npt.NDArray[np.floating]"]


def precision(
    like: Likeness, kinds: npt.NDArray[np.intp], examples: int, seed: int = 0
) -> tuple[float, float, float, float]:
    """Return precision, what guessing gives, F1 at the dock's limit, and the best limit."""
    noise = np.random.default_rng(seed)
    hits, chance, f1 = [], [], []
    for asked in range(len(kinds)):
        same = np.flatnonzero(kinds == kinds[asked])
        others = noise.permutation(same[same != asked])[: examples - 1]
        given = [asked, *others.tolist()]
        rest = np.setdiff1d(np.arange(len(kinds)), given)
        true = kinds[rest] == kinds[asked]
        if not true.any():
            continue
        found = like(given)[rest]
        best = np.argsort(-found, kind="stable")[: true.sum()]
        hits.append(true[best].mean())
        chance.append(true.mean())
        f1.append([_f1(found >= limit, true) for limit in LIMITS])
    limits = np.mean(f1, axis=0)
    return (
        float(np.mean(hits)),
        float(np.mean(chance)),
        float(limits[LIMITS.index(LEAST)]),
        LIMITS[int(limits.argmax())],
    )


def _f1(shown: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    both = (shown & true).sum()
    return float(2 * both / max(shown.sum() + true.sum(), 1))


def _normal(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1))


def _cosines(vectors: npt.NDArray[np.floating]) -> Likeness:
    vectors = _normal(vectors)
    return lambda given: (
        (1 + vectors @ _normal(vectors[given].mean(axis=0)[None])[0]) / 2
    )


def compared(
    predictor: Predictor, scene: Scene, masks: list[BoxedMask]
) -> ComparedObjects:
    """Compare objects as the dock does."""
    embedding, features = predictor.encode(scene.image), ObjectFeatures(masks)
    maps = predictor.feature_maps(embedding)
    features.add(maps, embedding, masks, range(len(masks)))
    return features.compared()


def ways(
    predictor: Predictor, scene: Scene, masks: list[BoxedMask]
) -> dict[str, Likeness]:
    """Return ways to compare objects."""
    embedding = predictor.encode(scene.image)
    maps = predictor.feature_maps(embedding)
    found = mean_features(maps, embedding, masks)
    objects = compared(predictor, scene, masks)
    logs = np.log([mask.area for mask in masks])

    def with_area(weight: float) -> Likeness:
        plain = joined(of_objects(False)[:1])

        def like(given: list[int]) -> npt.NDArray[np.floating]:
            off = np.abs(logs - logs[given].mean())
            return np.asarray(plain(given) - weight / 2 * off)

        return like

    def of_plane(scaled: bool) -> list[npt.NDArray[np.floating]]:
        parts = []
        for plane, means in zip(maps, found, strict=True):
            height, width = (
                max(1, round(side * plane.shape[1] / embedding.frame_size))
                for side in embedding.input_size
            )
            cells = plane[:, :height, :width].reshape(len(plane), -1).astype(float)
            apart = means - cells.mean(axis=1)
            parts.append(apart / (cells.std(axis=1) + 1e-6) if scaled else apart)
        return parts

    def of_objects(scaled: bool) -> list[npt.NDArray[np.floating]]:
        parts = [means - means.mean(axis=0) for means in found]
        if scaled:
            parts = [part / (part.std(axis=0) + 1e-6) for part in parts]
        return parts

    def joined(parts: list[npt.NDArray[np.floating]]) -> Likeness:
        return _cosines(np.concatenate([_normal(part) for part in parts], axis=1))

    return {
        "as in the dock": objects.likeness,
        "raw": joined([*found]),
        "minus the image's mean": joined(of_plane(False)),
        "minus the image's mean, scaled": joined(of_plane(True)),
        "minus the objects' mean": joined(of_objects(False)),
        "minus the objects' mean, scaled": joined(of_objects(True)),
        "stride 16 alone": joined(of_objects(False)[:1]),
        "stride 16 alone, scaled": joined(of_objects(True)[:1]),
        "stride 16 minus the image's mean": joined(of_plane(False)[:1]),
        "stride 16, area 0.05": with_area(0.05),
        "stride 16, area 0.1": with_area(0.1),
        "stride 16, area 0.2": with_area(0.2),
        "stride 16, area 0.3": with_area(0.3),
        "area alone": lambda given: -np.abs(logs - logs[given].mean()),
    }


def proposed(
    predictor: Predictor, scene: Scene
) -> tuple[list[BoxedMask], npt.NDArray[np.intp]]:
    """Return what auto-segmentation finds of the objects, and of which kind each is."""
    embedding = predictor.encode(scene.image)
    search = Segmentation(predictor, embedding).run()
    shapes = shapes_of(search.proposals, search.settings)
    masks, kinds = [], []
    for number in shapes.numbers:
        mask = shapes.of(number).trimmed()
        overlap = [mask.iou(true) for true in scene.masks]
        if max(overlap) > 0.5:
            masks.append(mask)
            kinds.append(int(scene.kinds[int(np.argmax(overlap))]))
    return masks, np.array(kinds, np.intp)


def classes(
    objects: ComparedObjects, kinds: npt.NDArray[np.intp], examples: int
) -> float:
    """Share of objects that get the class they are of, from some examples of each; 20 draws."""
    noise, right = np.random.default_rng(0), []
    for _ in range(20):
        given = [
            noise.permutation(np.flatnonzero(kinds == each))[:examples].tolist()
            for each in (0, 1)
        ]
        rest = np.setdiff1d(np.arange(len(kinds)), np.concatenate(given))
        right.append((objects.most_alike(given)[rest] == kinds[rest]).mean())
    return float(np.mean(right))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="real images with NAME_label.png")
    parser.add_argument("--model", default="default")
    parser.add_argument("--most", type=int, default=8, help="real images")
    parser.add_argument("--seeds", type=int, default=2, help="drawn images of a kind")
    parser.add_argument("--ways", action="store_true", help="all ways, not one")
    given = parser.parse_args()
    predictor = load_model(given.model)
    sets: dict[str, list[Scene]] = {
        kind: [drawn(kind, seed) for seed in range(given.seeds)] for kind in KINDS
    }
    if given.images is not None:
        sets["size"] = list(real(given.images))[: given.most]
    for name, scenes in sets.items():
        _say(f"{name}: {len(scenes)} images, {sum(len(s.masks) for s in scenes)}")
        for source in ("true", "found"):
            rows: dict[str, list[tuple[float, ...]]] = {}
            for scene in scenes:
                masks, kinds = scene.masks, scene.kinds
                if source == "found":
                    masks, kinds = proposed(predictor, scene)
                if min(np.bincount(kinds, minlength=2)) < _LEAST - 1:
                    continue
                for way, like in ways(predictor, scene, masks).items():
                    if way != "as in the dock" and not given.ways:
                        continue
                    one, three = (precision(like, kinds, n) for n in (1, 3))
                    rows.setdefault(way, []).append((*one, *three))
                objects = compared(predictor, scene, masks)
                right = [classes(objects, kinds, n) for n in (1, 3)]
                rows.setdefault("classes", []).append((*right,))
            for way, figures in rows.items():
                mean = " ".join(f"{each:.3f}" for each in np.mean(figures, axis=0))
                _say(f"  {source:5} {way:34} {mean}  ({len(figures)} images)")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
