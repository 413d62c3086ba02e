"""Zero-shot masks for points as in the papers: mean IoU over all valid masks at 1–9 points.

Segment Anything (Kirillov et al., 2023, section 7.1) and TinySAM (its figure of 1–9 points on
BBBC038, DOORS, TimberSeg and LVIS) put the first point where the distance to the object's border is
largest, and every further one where the distance within the wrong part of the mask is largest. A
mask is valid when it has pixels. Unlike in `evaluate`, the mean is over masks, not over images,
every mask counts, and specks stay in the masks. `point_curve` runs the whole protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.errors import DataError
from tinysam_training.evaluation.evaluate import EvaluationSettings, chosen_objects
from tinysam_training.evaluation.simulated_user import simulate_clicks

if TYPE_CHECKING:
    from napari_tinysam.inference.predictor import Predictor
    from tinysam_training.labelled_image import ImageEntry


@dataclass(frozen=True)
class PointCurve:
    """Mean IoU over the number of points.

    Attributes
    ----------
    masks : int
        Number of valid masks.
    iou : tuple of float
        Mean IoU at 1, 2, … points, of the mask with the best predicted score.
    oracle : tuple of float
        Of the best of the three masks.
    """

    masks: int
    iou: tuple[float, ...]
    oracle: tuple[float, ...]

    def figures(self) -> dict[str, float]:
        """Name the figures: ``points1_iou``, ``points1_oracle``, … and ``masks``."""
        found: dict[str, float] = {"masks": self.masks}
        pairs = zip(self.iou, self.oracle, strict=True)
        for number, (iou, oracle) in enumerate(pairs, start=1):
            found[f"points{number}_iou"] = iou
            found[f"points{number}_oracle"] = oracle
        return found


def point_curve(
    predictor: Predictor,
    entries: Sequence[ImageEntry],
    points: int = 9,
    *,
    feed_back: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> PointCurve:
    """Measure mean IoU at 1–9 points.

    Parameters
    ----------
    predictor : Predictor
        The model.
    entries : sequence of ImageEntry
        Labelled images; all objects of all layers are prompted.
    points : int
        The most points per object.
    feed_back : bool
        Give the model its previous mask along with the points, as Segment Anything's evaluation
        does; TinySAM's paper leaves it open.
    progress : callable, optional
        Called after each image with the number done and the total.

    Raises
    ------
    DataError
        If an image cannot be read, or no image has objects.
    """
    everything = EvaluationSettings(objects=0)
    totals = np.zeros((2, points))
    count = 0
    for done, entry in enumerate(entries, start=1):
        image = entry.read()
        truth = chosen_objects(image, everything)
        if truth:
            trace = simulate_clicks(
                predictor,
                predictor.encode(image.rgb),
                truth,
                points,
                feed_back=feed_back,
                drop_specks=False,
            )
            totals += trace.iou.sum(axis=0), trace.oracle.sum(axis=0)
            count += len(truth)
        if progress is not None:
            progress(done, len(entries))
    if not count:
        raise DataError("There are no objects to put points on.")
    iou, oracle = (tuple(float(v) for v in row) for row in totals / count)
    return PointCurve(count, iou, oracle)
