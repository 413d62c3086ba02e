"""Figures of stacks: objects clicked and followed through planes, and all objects without a click.

The user is simulated. The first click is at the deepest pixel of an object, in the plane where it
is largest; it is followed from there through all planes. Each further click goes to the plane that
is wrong in most pixels: at the deepest wrong pixel, as in `simulated_user`, which makes the plane
an anchor; where the object is not in that plane at all, the click ends it there.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import DataError, FileError
from napari_tinysam.everything import label_proposals, segmentation_of
from napari_tinysam.files.formats import IMAGE_SUFFIXES
from napari_tinysam.files.formats.ome_zarr import is_zarr, stem_of_zarr
from napari_tinysam.files.movie import Movie, open_movie
from napari_tinysam.files.names import as_label, image_base
from napari_tinysam.image import to_rgb
from napari_tinysam.masks import BoxedMask
from napari_tinysam.metrics import (
    THRESHOLDS,
    clicks_to_iou,
    mean_segmentation_accuracy,
    segmentation_accuracy,
)
from napari_tinysam.prompts import Prompts
from napari_tinysam.volume.followed import FollowedObject, FollowSettings
from napari_tinysam.volume.following import follow
from napari_tinysam.volume.linking import linked_stack
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.evaluation.simulated_user import next_click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor

#: The volume IoU that clicks are counted for.
GOOD = 0.9

#: IoU with the truth from which an object counts as followed in a plane.
FOLLOWED = 0.5

#: Objects that show in fewer planes are not clicked.
LEAST_PLANES = 3

#: Embeddings in memory: 13 MB each.
_KEPT = 64


@dataclass(frozen=True)
class VolumeSettings:
    """What is measured.

    Parameters
    ----------
    objects : int
        Objects of a stack that are clicked, evenly spaced by label; 0: all.
    clicks : int
        The most clicks on each, at least 1.
    automatic : bool
        Whether all planes are segmented without clicks, and linked.
    """

    objects: int = 8
    clicks: int = 9
    automatic: bool = True


@dataclass(frozen=True)
class VolumeFigures:
    """Figures of a stack; those of several are means.

    Attributes
    ----------
    name : str
    objects : int
        How many were clicked.
    click1_iou : float
        Mean IoU in 3-D after one click.
    followed : float
        Share of the planes of an object that one click reaches before the first whose IoU is below
        0.5, in both directions.
    planes : float
        How many planes that is.
    noc90 : float
        Clicks for an IoU of 0.9 in 3-D; one more than made where they do not suffice.
    last_iou : float
        Mean IoU in 3-D after all clicks.
    msa, ap50 : float or None
        Of all planes segmented without clicks, and linked: mSA and AP50 in 3-D.
    """

    name: str
    objects: int
    click1_iou: float
    followed: float
    planes: float
    noc90: float
    last_iou: float
    msa: float | None = None
    ap50: float | None = None

    def figures(self) -> dict[str, Any]:
        """Name the figures, as JSON has them."""
        return asdict(self)


@dataclass(frozen=True)
class VolumeEntry:
    """A stack and its labels, to be read."""

    name: str
    image: Movie
    labels: Movie

    def read(self) -> tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.int64]]:
        """Read planes as the model sees them, (H, W, 3) uint8 each, and labels, (Z, H, W)."""
        count = len(self.image)
        labels = np.stack([self.labels.labels(number) for number in range(count)])
        planes = []
        for ((series, index),) in self.image.parts:
            plane = series.read(index)
            rgb = to_rgb(plane.pixels, **plane.options)
            if rgb.shape[:2] != labels.shape[1:]:
                raise FileError(f"{self.labels.path} does not fit {self.image.path}.")
            planes.append(rgb)
        return planes, labels


def find_volumes(folder: Path) -> list[VolumeEntry]:
    """List stacks with labels.

    Parameters
    ----------
    folder : Path
        Holds NAME.tif and NAME_label.tif, or other formats and words for labels.

    Raises
    ------
    FileError
        If there are none, or a pair does not fit.
    """
    stems: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if is_zarr(path):
            stems[stem_of_zarr(path)] = path
        elif path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            stems.setdefault(path.stem.removesuffix(".ome"), path)
    images = {image_base(stem) or stem: path for stem, path in stems.items()}
    entries = []
    for stem, path in stems.items():
        label = as_label(stem)
        if label is None or label.base not in images or label.number > 1:
            continue
        image, labels = open_movie(images[label.base]), open_movie(path)
        for each in (image, labels):
            if each.deep:
                raise FileError(f"{each.path} has more axes than depth, Y and X.")
        if image.shape != labels.shape:
            raise FileError(f"{path} does not fit {image.path}.")
        entries.append(VolumeEntry(label.base, image, labels))
    if not entries:
        raise FileError(f"{folder} holds no stack NAME.tif with NAME_label.tif.")
    return entries


def judge_volume(
    predictor: Predictor,
    name: str,
    planes: Sequence[npt.NDArray[np.uint8]],
    labels: npt.NDArray[np.integer[Any]],
    settings: VolumeSettings | None = None,
    progress: Callable[[float], None] | None = None,
) -> VolumeFigures:
    """Measure a stack.

    Parameters
    ----------
    predictor : Predictor
    name : str
    planes : sequence of ndarray of uint8, (H, W, 3)
    labels : ndarray of int, (Z, H, W)
        The truth.
    settings : VolumeSettings, optional
    progress : callable, optional
        Called with the share that is done.

    Raises
    ------
    DataError
        If no object shows in three planes or more.
    """
    settings = settings or VolumeSettings()
    case = _Case(predictor, planes, labels, settings)
    report = progress or (lambda share: None)
    curves = np.zeros((len(case.objects), settings.clicks))
    reached = []
    for turn in range(settings.clicks):
        asked = [each for each in case.objects if each.iou < GOOD or not turn]
        if not asked:
            curves[:, turn:] = curves[:, turn - 1 : turn]
            break
        case.click(asked)
        if not turn:
            reached = [each.reached() for each in case.objects]
        curves[:, turn] = [each.iou for each in case.objects]
        report((turn + 1) / (settings.clicks + settings.automatic))
    msa = ap50 = None
    if settings.automatic:
        found = linked_stack(np.stack([_segmented(predictor, rgb) for rgb in planes]))
        msa = mean_segmentation_accuracy(labels, found)
        ap50 = float(segmentation_accuracy(labels, found, THRESHOLDS[:1])[0])
    report(1.0)
    counts = np.array(reached, float)
    return VolumeFigures(
        name,
        len(case.objects),
        float(curves[:, 0].mean()),
        float((counts[:, 0] / counts[:, 1]).mean()),
        float(counts[:, 0].mean()),
        float(clicks_to_iou(curves, GOOD).mean()),
        float(curves[:, -1].mean()),
        msa,
        ap50,
    )


def mean_of(figures: Sequence[VolumeFigures]) -> VolumeFigures:
    """Return means over stacks."""
    rows = [each.figures() for each in figures]
    means: dict[str, Any] = {"name": "mean", "objects": sum(r["objects"] for r in rows)}
    for key in rows[0]:
        if key not in means:
            values = [row[key] for row in rows]
            means[key] = None if None in values else float(np.mean(values))
    return VolumeFigures(**means)


@dataclass(eq=False)
class _Clicked:
    """One object: the truth, the clicks on it by plane, and what was found."""

    true: dict[int, BoxedMask]
    shape: tuple[int, int]
    points: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)
    anchors: dict[int, BoxedMask] = field(default_factory=dict)
    found: dict[int, BoxedMask] = field(default_factory=dict)
    limits: list[float] = field(default_factory=lambda: [-np.inf, np.inf])

    @property
    def largest(self) -> int:
        return max(self.true, key=lambda plane: self.true[plane].area)

    @property
    def iou(self) -> float:
        both = sum(self._common(plane) for plane in self.true)
        areas = sum(m.area for each in (self.true, self.found) for m in each.values())
        return both / max(areas - both, 1)

    def _common(self, plane: int) -> float:
        if plane not in self.found or plane not in self.true:
            return 0
        one, other = self.true[plane], self.found[plane]
        iou = one.iou(other)
        return iou * (one.area + other.area) / (1 + iou)

    def wrong(self, plane: int) -> float:
        """Pixels of a plane that are wrong."""
        areas = [each[plane].area for each in (self.true, self.found) if plane in each]
        return sum(areas) - 2 * self._common(plane)

    def reached(self) -> tuple[int, int]:
        """Planes that were followed before the first that was not, and true planes."""
        good = {
            plane
            for plane in self.true.keys() & self.found.keys()
            if self.true[plane].iou(self.found[plane]) >= FOLLOWED
        }
        if self.largest not in good:
            return 0, len(self.true)
        count = 1
        for step in (1, -1):
            plane = self.largest + step
            while plane in good:
                count += 1
                plane += step
        return count, len(self.true)

    def choose(self) -> int | None:
        """Click once more; return the plane, None where the click only ends the object."""
        planes = {*self.true, *self.found}
        plane = max(planes, key=self.wrong) if self.found else self.largest
        if plane not in self.true:  # it goes on too far: it ends before
            side = 1 if plane > self.largest else 0
            self.limits[side] = plane - 1 if side else plane + 1
            return None
        nothing = BoxedMask(np.zeros((0, 0), bool), 0, 0, self.shape)
        clicks = self.points.setdefault(plane, [])
        shown = self.found.get(plane, nothing) if clicks else nothing
        before = np.array([click[:2] for click in clicks], np.float32).reshape(-1, 2)
        click = next_click(self.true[plane], shown, before)
        if click is not None:
            clicks.append(click)
        return plane

    def take(self, found: dict[int, BoxedMask]) -> None:
        first, last = self.limits
        self.found = {p: m for p, m in found.items() if first <= p <= last and m.area}


class _Case:
    def __init__(
        self,
        predictor: Predictor,
        planes: Sequence[npt.NDArray[np.uint8]],
        labels: npt.NDArray[np.integer[Any]],
        settings: VolumeSettings,
    ) -> None:
        self._predictor, self._planes = predictor, planes
        self._read: OrderedDict[int, Embedding] = OrderedDict()
        known = []
        for label in np.unique(labels[labels > 0]).tolist():
            shown = np.flatnonzero((labels == label).any(axis=(1, 2))).tolist()
            if len(shown) >= LEAST_PLANES:
                known.append((label, shown))
        if not known:
            raise DataError(f"No object shows in {LEAST_PLANES} planes or more.")
        self.objects = [
            _Clicked(
                {p: BoxedMask.from_full(labels[p] == label) for p in shown},
                (labels.shape[1], labels.shape[2]),
            )
            for label, shown in evenly_spaced(known, settings.objects or len(known))
        ]

    def _embedding(self, plane: int) -> Embedding:
        if plane not in self._read:
            self._read[plane] = self._predictor.encode(self._planes[plane])
            if len(self._read) > _KEPT:
                self._read.popitem(last=False)
        self._read.move_to_end(plane)
        return self._read[plane]

    def click(self, objects: Sequence[_Clicked]) -> None:
        """Click each of the objects once, and follow those again whose anchors changed."""
        again = []
        for each in objects:
            plane = each.choose()
            if plane is None:
                each.take(each.found)
                continue
            clicks = np.array(each.points[plane], np.float32)
            found = self._predictor.predict(
                self._embedding(plane),
                Prompts(
                    points=clicks[None, :, :2], labels=clicks[None, :, 2].astype(int)
                ),
            )
            mask = found.boxed(0).without_specks()
            if mask.area:
                each.anchors[plane] = mask
            if each.anchors:
                again.append(each)
        followed = [FollowedObject(dict(each.anchors)) for each in again]
        if followed:
            last = len(self._planes) - 1
            for _ in follow(
                self._predictor, self._embedding, followed, 0, last, FollowSettings()
            ):
                pass
        for each, known in zip(again, followed, strict=True):
            each.take({plane: one.mask for plane, one in known.found.items()})


def _segmented(
    predictor: Predictor, rgb: npt.NDArray[np.uint8]
) -> npt.NDArray[np.integer[Any]]:
    made = segmentation_of(predictor, rgb, "auto").run()
    return label_proposals(made.proposals, made.settings).labels
