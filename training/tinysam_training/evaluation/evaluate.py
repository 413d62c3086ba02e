"""Measures a model on labelled images: boxes, clicks, and all objects at once.

It uses only the public `Predictor` and `Segmentation`, like the dock's button and
``napari-tinysam auto``, so the same code judges every runtime and every checkpoint. Masks are
compared with the labels at the image's own resolution.

An image's figure is a mean over objects; a report's is a mean over images. So an image with a
thousand nuclei counts no more than one with ten.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

from napari_tinysam.everything import Segmentation, Thresholds
from napari_tinysam.masks import BoxedMask
from napari_tinysam.metrics import (
    MatchCounts,
    clicks_to_iou,
)
from napari_tinysam.objects.finding import segment_objects
from tinysam_training.evaluation.automatic import (
    AUTOMATIC,
    automatic_figures,
    counts_of,
)
from tinysam_training.evaluation.boxes import loose_boxes, tight_boxes
from tinysam_training.evaluation.simulated_user import (
    Answer,
    ClickTrace,
    answer_boxes,
    answer_clicks,
    off_centre_clicks,
    simulate_clicks,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from tinysam_training.labelled_image import ImageEntry, LabelledImage

#: Clicks are counted until the mask has this IoU, in percent.
GOOD = (80, 85, 90)


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of an evaluation.

    Parameters
    ----------
    objects : int
        Most objects that get prompts per image, a random choice that is always the same; 0 for all.
    clicks : int
        Most clicks per object, at least one.
    loose : float
        Boxes are tried again, each side off by up to this share of the extent; 0 skips that.
    off_centre : float
        The first click is tried again, away from the deepest pixel by this share of the object's
        inner radius, below 1; 0 skips that.
    seed : int
        Chooses the objects, together with the image's name.
    drop_specks : bool
        Judge masks without stray pixels, as the plugin and the command line give them.
    automatic : bool
        Also segment each image without prompts, as Auto-segment does. This takes most of the time.
        The object head alone, where there is one, is always judged.
    keep_masks : bool
        Keep the masks for pictures; about 0.1 MB an image, more where objects are large.
    """

    objects: int = 8
    clicks: int = 9
    loose: float = 0.15
    off_centre: float = 1 / 3
    seed: int = 0
    drop_specks: bool = True
    automatic: bool = True
    keep_masks: bool = False

    def __post_init__(self) -> None:
        if self.objects < 0:
            raise ValueError("The number of objects is 0 (all) or more.")
        if self.clicks < 1:
            raise ValueError("At least one click is needed.")
        if not 0 <= self.loose < np.inf:
            raise ValueError("The error of loose boxes is 0 (none) or more.")
        if not 0 <= self.off_centre < 1:
            raise ValueError(
                "The share that clicks are off the centre is 0 (none) or more, below 1."
            )


@dataclass(frozen=True, eq=False)
class Prompted:
    """The prompted objects of one image, for pictures.

    Parameters
    ----------
    truth : list of BoxedMask
        N objects.
    boxes : numpy.ndarray
        (N, 4) float32 tight boxes.
    by_box : Answer
        To those boxes.
    clicks : ClickTrace
        The clicks and the resulting masks.
    """

    truth: list[BoxedMask]
    boxes: npt.NDArray[np.float32]
    by_box: Answer
    clicks: ClickTrace


@dataclass(frozen=True, eq=False)
class ImageResult:
    """The figures of one image.

    Parameters
    ----------
    name, dataset : str
        Which image.
    objects : int
        Number of its objects with prompts.
    figures : dict
        Each a mean over these objects, or None where there is nothing to measure (no objects, no
        object head, not that many clicks): ``box_iou``, ``box_oracle`` (best of the three masks),
        ``loose_box_iou``, ``off_click_iou``, ``click1_iou``, ``click1_oracle``, … ``click9_iou``,
        ``clicks_to_80``, ``clicks_to_85``, ``clicks_to_90`` (an object that misses the target after
        the last click counts as one click more), ``box_score_error``, ``click_score_error`` and
        ``score_error`` (absolute difference of predicted and true IoU for the box, one click, and
        both); for all objects at once, as Auto-segment finds them with the model's own thresholds,
        ``msa``, ``ap50``, ``precision50``, ``recall50``, ``f1_50``, ``pq50``; and the same with the
        prefix ``head_``, as the object head alone finds them.
    scores, ious : numpy.ndarray
        (K,) predicted and true IoU of the masks for a box and for one click.
    counts : tuple of MatchCounts, or None
        Of the automatic segmentation at each of `THRESHOLDS`; None if the settings skip it.
    prompted : Prompted, optional
        If the settings keep masks and there are objects.
    automatic : numpy.ndarray, optional
        (H, W) int32 automatic segmentation, or the object head's if the settings skip the former;
        only if the settings keep masks.
    head_counts : tuple of MatchCounts, or None
        Of the object head alone; None without one.
    mode : str
        Mode of the automatic segmentation (`napari_tinysam.everything.Mode`); "head" if it was
        skipped, empty if there is no head either.
    """

    name: str
    dataset: str
    objects: int
    figures: dict[str, float | None]
    scores: npt.NDArray[np.float64]
    ious: npt.NDArray[np.float64]
    counts: tuple[MatchCounts, ...] | None
    prompted: Prompted | None = None
    automatic: npt.NDArray[np.int32] | None = None
    head_counts: tuple[MatchCounts, ...] | None = None
    mode: str = ""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results of all images, and the settings behind them.

    Parameters
    ----------
    model, runtime : str
        Readable names of the judged model and runtime.
    settings : EvaluationSettings
    results : tuple of ImageResult
        In the order of the images.
    """

    model: str
    runtime: str
    settings: EvaluationSettings
    results: tuple[ImageResult, ...]

    @property
    def by_set(self) -> dict[str, tuple[ImageResult, ...]]:
        """Results of each set, in the order of their first images."""
        sets: dict[str, list[ImageResult]] = {}
        for result in self.results:
            sets.setdefault(result.dataset, []).append(result)
        return {name: tuple(results) for name, results in sets.items()}


def evaluate(
    predictor: Predictor,
    entries: Sequence[ImageEntry],
    settings: EvaluationSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure a model on labelled images.

    Parameters
    ----------
    predictor : Predictor
        The model.
    entries : sequence of ImageEntry
        Labelled images.
    settings : EvaluationSettings, optional
        What to measure.
    progress : callable, optional
        Called after each image with the number done and the total.

    Returns
    -------
    Evaluation
        All measurements; `tinysam_training.evaluation.report` turns them into means, tables, files.

    Raises
    ------
    DataError
        If an image cannot be read.
    """
    settings = settings or EvaluationSettings()
    results = []
    for result in evaluate_images(predictor, entries, settings):
        results.append(result)
        if progress is not None:
            progress(len(results), len(entries))
    return Evaluation(predictor.name, predictor.runtime_name, settings, tuple(results))


def evaluate_images(
    predictor: Predictor,
    entries: Sequence[ImageEntry],
    settings: EvaluationSettings,
) -> Iterator[ImageResult]:
    """Measure one image after another; callers may stop in between."""
    for entry in entries:
        yield evaluate_image(predictor, entry.read(), settings)


def evaluate_image(
    predictor: Predictor, image: LabelledImage, settings: EvaluationSettings
) -> ImageResult:
    """Measure one image; see `ImageResult`."""
    embedding = predictor.encode(image.rgb)
    figures: dict[str, float | None] = dict.fromkeys(figure_names(settings))
    automatic = counts = head_counts = prompted = None
    mode = ""
    maps = predictor.object_maps(embedding)
    if maps is not None:
        own = Thresholds.from_notes(predictor.notes).guided.objects
        mode, automatic = "head", segment_objects(maps, embedding.upscaler, own)
        head_counts = counts_of(image, automatic)
        found_by_head = automatic_figures(head_counts)
        figures.update({f"head_{name}": v for name, v in found_by_head.items()})
    if settings.automatic:
        everything = Segmentation(predictor, embedding).run()
        mode, automatic = everything.mode, everything.labels().labels
        counts = counts_of(image, automatic)
        figures.update(automatic_figures(counts))
    scores = ious = np.zeros(0)
    truth = chosen_objects(image, settings)
    if truth:
        prompted = _prompted(predictor, embedding, truth, settings)
        figures.update(_prompted_figures(prompted))
        careless = np.random.default_rng(
            [settings.seed, zlib.crc32(image.name.encode())]
        )
        if settings.loose:
            loose = loose_boxes(
                prompted.boxes, settings.loose, truth[0].shape, careless
            )
            found = answer_boxes(
                predictor, embedding, loose, truth, drop_specks=settings.drop_specks
            )
            figures["loose_box_iou"] = float(found.iou.mean())
        if settings.off_centre:
            points = off_centre_clicks(truth, settings.off_centre, careless)
            found = answer_clicks(
                predictor, embedding, points, truth, drop_specks=settings.drop_specks
            )
            figures["off_click_iou"] = float(found.iou.mean())
        clicks, by_box = prompted.clicks, prompted.by_box
        scores = np.concatenate([by_box.scores, clicks.scores[:, 0]])
        ious = np.concatenate([by_box.iou, clicks.iou[:, 0]])
    return ImageResult(
        name=image.name,
        dataset=image.dataset,
        objects=len(truth),
        figures=figures,
        scores=scores,
        ious=ious,
        counts=counts,
        prompted=prompted if settings.keep_masks else None,
        automatic=automatic if settings.keep_masks else None,
        head_counts=head_counts,
        mode=mode,
    )


def figure_names(settings: EvaluationSettings) -> list[str]:
    """Names of all figures of `ImageResult`, in the order of reports."""
    clicks = range(1, max(3, settings.clicks) + 1)
    return [
        "box_iou",
        "box_oracle",
        "loose_box_iou",
        "off_click_iou",
        *(f"click{n}_iou" for n in clicks),
        *(f"click{n}_oracle" for n in clicks),
        *(f"clicks_to_{percent}" for percent in GOOD),
        "score_error",
        "box_score_error",
        "click_score_error",
        *AUTOMATIC,
        *(f"head_{name}" for name in AUTOMATIC),
    ]


def chosen_objects(
    image: LabelledImage, settings: EvaluationSettings
) -> list[BoxedMask]:
    """Choose the objects of an image that get prompts, from all its layers.

    The choice depends on the name of the image, its labels and the seed only.
    """
    places = [
        (layer, number, box)
        for layer, labels in enumerate(image.labels)
        for number, box in enumerate(ndi.find_objects(labels), start=1)
        if box is not None
    ]
    rng = np.random.default_rng([settings.seed, zlib.crc32(image.name.encode())])
    order = rng.permutation(len(places))[: settings.objects or None]
    height, width = image.labels.shape[1:]
    truth = []
    for layer, number, (rows, columns) in (places[i] for i in order):
        mask = image.labels[layer, rows, columns] == number
        truth.append(BoxedMask(mask, rows.start, columns.start, (height, width)))
    return truth


def _prompted(
    predictor: Predictor,
    embedding: Embedding,
    truth: list[BoxedMask],
    settings: EvaluationSettings,
) -> Prompted:
    boxes = tight_boxes(truth)
    clicks = simulate_clicks(
        predictor,
        embedding,
        truth,
        settings.clicks,
        drop_specks=settings.drop_specks,
    )
    by_box = answer_boxes(
        predictor, embedding, boxes, truth, drop_specks=settings.drop_specks
    )
    return Prompted(truth, boxes, by_box, clicks)


def _prompted_figures(prompted: Prompted) -> dict[str, float | None]:
    by_box, clicks = prompted.by_box, prompted.clicks
    figures: dict[str, float | None] = {
        "box_iou": float(by_box.iou.mean()),
        "box_oracle": float(by_box.oracle.mean()),
    }
    for turn in range(clicks.iou.shape[1]):
        figures[f"click{turn + 1}_iou"] = float(clicks.iou[:, turn].mean())
        figures[f"click{turn + 1}_oracle"] = float(clicks.oracle[:, turn].mean())
    for percent in GOOD:
        needed = clicks_to_iou(clicks.iou, percent / 100)
        figures[f"clicks_to_{percent}"] = float(needed.mean())
    of_box = float(np.abs(by_box.scores - by_box.iou).mean())
    of_click = float(np.abs(clicks.scores[:, 0] - clicks.iou[:, 0]).mean())
    figures["box_score_error"] = of_box
    figures["click_score_error"] = of_click
    figures["score_error"] = (of_box + of_click) / 2
    return figures
