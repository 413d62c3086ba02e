"""How far labels that were made again agree with those of the session, object by object."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.journal.objects import IMPORTED
from napari_tinysam.journal.provenance import same_labels

if TYPE_CHECKING:
    from napari_tinysam.journal.provenance import Provenance
    from napari_tinysam.replay.again import Replayed


@dataclass(frozen=True)
class ComparedObject:
    """An object in the labels of the session and in those that were made again.

    Parameters
    ----------
    label : int
        Its id.
    origin : str
        See `ObjectRecord`.
    again : bool
        Whether the model predicted its mask again; others are put from their pixels.
    area, area_again : int
        Pixels of the session, and those now.
    iou : float
        Of the two, 0–1.
    """

    label: int
    origin: str
    again: bool
    area: int
    area_again: int
    iou: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """All objects of a replay.

    Parameters
    ----------
    objects : list of ComparedObject
        By id.
    identical : bool
        Whether each pixel has the same id.
    """

    objects: list[ComparedObject]
    identical: bool

    @property
    def predicted(self) -> list[ComparedObject]:
        """The objects whose masks were predicted again."""
        return [each for each in self.objects if each.again]

    @property
    def mean(self) -> float:
        """Mean IoU of the objects whose masks were predicted again; NaN without any."""
        ious = [each.iou for each in self.predicted]
        return float(np.mean(ious)) if ious else float("nan")

    def by_origin(self) -> list[tuple[str, int, float, float]]:
        """Return origin, count, mean IoU and least IoU of the objects that were predicted again."""
        found = []
        for origin in sorted({each.origin for each in self.predicted}):
            ious = [each.iou for each in self.predicted if each.origin == origin]
            found.append((origin, len(ious), float(np.mean(ious)), min(ious)))
        return found

    def to_csv(self) -> bytes:
        """Return a table with a row for each object."""
        text = io.StringIO(newline="")
        names = ("label", "origin", "predicted_again", "area", "area_again", "iou")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        for each in self.objects:
            again = "yes" if each.again else "no"
            iou = f"{each.iou:.6g}"
            writer.writerow(
                [each.label, each.origin, again, each.area, each.area_again, iou]
            )
        return text.getvalue().encode()


def compare(told: Provenance, made: Replayed) -> Comparison:
    """Compare labels that were made again with those of the session.

    Objects of which nothing is left in either are passed over.
    """
    old: Counter[int] = Counter()
    new: Counter[int] = Counter()
    both: Counter[int] = Counter()
    mine, its = dict(told.labels.chunks()), dict(made.labels.chunks())
    for start in mine.keys() | its.keys():
        one, other = mine.get(start), its.get(start)
        _count(old, one)
        _count(new, other)
        if one is not None and other is not None:
            _count(both, one[one == other])
    objects = []
    for label in sorted(old.keys() | new.keys()):
        record = told.objects.get(label)
        union = old[label] + new[label] - both[label]
        objects.append(
            ComparedObject(
                label,
                IMPORTED if record is None else record.origin,
                label in made.prompted,
                old[label],
                new[label],
                both[label] / union,
            )
        )
    return Comparison(objects, same_labels(told.labels, made.labels))


def _count(counts: Counter[int], labels: Any) -> None:
    if labels is None:
        return
    ids, pixels = np.unique(labels, return_counts=True)
    for label, count in zip(ids.tolist(), pixels.tolist(), strict=True):
        if label:
            counts[label] += count
