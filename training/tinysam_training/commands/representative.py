"""Which images stand for the others: those that a model finds neither easy nor hard.

Of few images one or two are held out, and what the model gains is judged on them. On the easiest
one nothing is gained where all others gain, and the better model would be thrown away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinysam_training.evaluation.evaluate import EvaluationSettings, evaluate
from tinysam_training.evaluation.report import means
from tinysam_training.run.held_out import HELD_OUT_OF, by_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_tinysam.inference.predictor import Predictor
    from tinysam_training.labelled_image import ImageEntry

#: From so many images on enough are held out for chance to choose them.
MANY = 3 * HELD_OUT_OF

_SETTINGS = EvaluationSettings(
    objects=8, clicks=1, loose=0.0, off_centre=0.0, automatic=False
)

#: What is measured of each image: masks of boxes and of clicks, and the object head alone.
_FIGURES = ("box_iou", "click1_iou", "head_msa")


def most_usual(
    load: Callable[[], Predictor], entries: Sequence[ImageEntry]
) -> list[str]:
    """Sort images by how far what a model makes of them is from the median.

    Parameters
    ----------
    load : callable
        Loads the model; not called where nothing is to be compared.
    entries : sequence of ImageEntry
        Planes and tiles of an image count as one.

    Returns
    -------
    list of str
        Names of all images, the most usual first; empty where there are fewer than three, or
        `MANY`.
    """
    images = by_image(entries)
    if not 3 <= len(images) < MANY:
        return []
    predictor = load()
    names = list(images)
    scores = []
    for name in names:
        middle = images[name][len(images[name]) // 2]
        found = means(evaluate(predictor, [middle], _SETTINGS).results)
        scores.append(np.mean([found.get(figure) or 0.0 for figure in _FIGURES]))
    away = np.abs(scores - np.median(scores))
    return [names[number] for number in np.argsort(away, kind="stable")]
