"""A simulated annotator who labels every object of image after image: gestures and waiting time.

What auto-segmentation finds well enough is accepted, all at once; what it finds wrongly is
deleted, one gesture each. All other objects are clicked as in `simulated_user`, until their mask is
good enough. What is not after some clicks is painted by hand, counted apart: nobody knows how many
gestures that takes. After some images the model may be adapted to those annotated so far, in the
background, as in the dock; the next images are then annotated with the better one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.everything.any_size import segment_everything
from napari_tinysam.masks import BoxedMask
from napari_tinysam.metrics import object_overlaps
from tinysam_training.evaluation.simulated_user import simulate_clicks
from tinysam_training.labelled_image import ImageEntry, LabelledImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from napari_tinysam.inference.predictor import Predictor


@dataclass(frozen=True)
class AnnotatorSettings:
    """How the annotator works.

    Attributes
    ----------
    good : float
        IoU with the true object from which a mask is accepted.
    clicks : int
        Most clicks on an object; then it is painted by hand.
    automatic : bool
        Whether each image is auto-segmented first.
    every : int
        Images between adaptations.
    """

    good: float = 0.8
    clicks: int = 9
    automatic: bool = True
    every: int = 5


@dataclass(frozen=True)
class AnnotatedResult:
    """What one image took.

    Attributes
    ----------
    name : str
    objects : int
    accepted : int
        Objects that auto-segmentation found well enough.
    gestures : int
        Clicks, deletions, one to accept all proposals and one to commit.
    painted : int
        Objects that clicks did not get right.
    seconds : float
        That the machine took: encoding, auto-segmentation, masks.
    adapted : int
        How often the model had been adapted before.
    """

    name: str
    objects: int
    accepted: int
    gestures: int
    painted: int
    seconds: float
    adapted: int = 0


def annotate_images(
    predictor: Predictor,
    entries: Sequence[ImageEntry],
    settings: AnnotatorSettings | None = None,
    adapt: Callable[[Sequence[ImageEntry]], Predictor | None] | None = None,
) -> Iterator[AnnotatedResult]:
    """Annotate images in turn.

    Parameters
    ----------
    predictor : Predictor
        To begin with.
    entries : sequence of ImageEntry
    settings : AnnotatorSettings, optional
    adapt : callable, optional
        Called after each `every` images with all annotated so far, with the labels that the
        annotator made. Returns the model for the next images, or None for the same.

    Yields
    ------
    AnnotatedResult
    """
    settings = settings or AnnotatorSettings()
    annotated: list[ImageEntry] = []
    adapted = 0
    for number, entry in enumerate(entries):
        if adapt is not None and number and number % settings.every == 0:
            better = adapt(annotated)
            if better is not None:
                predictor, adapted = better, adapted + 1
        image = entry.read()
        if not image.labels[0].any():
            continue
        result, labels = annotate(predictor, image, settings)
        made = LabelledImage(
            image.name, image.dataset, image.rgb, labels[np.newaxis], image.complete
        )
        annotated.append(replace(entry, read=_Made(made)))
        yield replace(result, adapted=adapted)


@dataclass(frozen=True, eq=False)
class _Made:
    """Returns an image that is in memory."""

    image: LabelledImage

    def __call__(self) -> LabelledImage:
        return self.image


def annotate(
    predictor: Predictor, image: LabelledImage, settings: AnnotatorSettings
) -> tuple[AnnotatedResult, npt.NDArray[np.int32]]:
    """Annotate every object of layer 0 of an image.

    Returns
    -------
    AnnotatedResult
    labels : ndarray of int32, (H, W)
        What the annotator made: accepted and clicked masks, and true ones where they were painted.
        True objects keep their numbers.
    """
    true = image.labels[0]
    begun = time.perf_counter()
    made = np.zeros_like(true)
    accepted: set[int] = set()
    gestures = 1  # to commit
    if settings.automatic:
        found = segment_everything(image.rgb, predictor)
        known = None if image.complete else true > 0
        overlaps = object_overlaps(true, found, known)
        pairs = overlaps.match(settings.good)
        for row, column in zip(
            overlaps.rows[pairs], overlaps.columns[pairs], strict=True
        ):
            number = int(overlaps.true_ids[row])
            accepted.add(number)
            made[(found == overlaps.found_ids[column]) & (made == 0)] = number
        gestures += 1 + len(overlaps.found_ids) - len(pairs)
    left = [n for n in range(1, int(true.max()) + 1) if n not in accepted]
    painted = 0
    if left:
        embedding = predictor.encode(image.rgb)
        truth = [BoxedMask.from_full(true == number) for number in left]
        trace = simulate_clicks(predictor, embedding, truth, settings.clicks)
        right = trace.iou >= settings.good
        needed = np.where(right.any(1), right.argmax(1) + 1, settings.clicks)
        gestures += int(needed.sum())
        painted = int((~right.any(1)).sum())
        for row, number in enumerate(left):
            # The annotator stops at the first good mask; the last stands for it if it is as good.
            last = trace.last[row]
            mask = last if trace.iou[row, -1] >= settings.good else truth[row]
            part = made[mask.slices]
            part[mask.mask & (part == 0)] = number
    seconds = time.perf_counter() - begun
    count = len(accepted) + len(left)
    return (
        AnnotatedResult(image.name, count, len(accepted), gestures, painted, seconds),
        made,
    )


def summary(results: Sequence[AnnotatedResult]) -> dict[str, float]:
    """Return gestures, seconds, and shares of accepted and painted objects, per object."""
    objects = max(sum(each.objects for each in results), 1)
    return {
        "images": len(results),
        "objects": sum(each.objects for each in results),
        "gestures": sum(each.gestures for each in results) / objects,
        "seconds": sum(each.seconds for each in results) / objects,
        "accepted": sum(each.accepted for each in results) / objects,
        "painted": sum(each.painted for each in results) / objects,
    }
