"""Thresholds of everything mode for a model, measured on labelled images and stored with it.

The work behind ``napari-tinysam calibrate``. The scale of predicted IoU, stability and logits
differs between models: a filter at SAM's 0.88 drops every mask of a model with scores up to 0.8.
Use images that the model was trained on, or any others, but not the test images.

Each step uses the results of those before:

1. how the head's maps become objects (`ObjectSettings`), by mSA of the head alone;
2. which prompts guide the decoder, and when its answer replaces the head's outline, by mSA; the
   confidence from which such an object is shown, and how few prompts an object suffice for that;
3. floors of score and stability for points of the grid, which all but a few good masks pass;
4. the score of masks found in foreground that no object explains;
5. the confidence from which a mask of the grid becomes an object;
6. what the hierarchical search may leave out, found by taking it from the dense result: the
   foreground of the object head below which half of the points are background, then the lowest τ,
   the logit from which a mask covers a point; both as far as they cost next to nothing in mSA and
   in the IoU of each object.

The whole grid takes much longer than the rest, so 3, 5 and 6 may use fewer of the images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from napari_tinysam.everything import (
    GuidedSettings,
    LabelSettings,
    SearchSettings,
    Thresholds,
)
from napari_tinysam.everything.thresholds import NOTE
from tinysam_training.calibration import grid as calibrate_grid
from tinysam_training.calibration import guided as calibrate_guided
from tinysam_training.calibration.image import CalibrationImage, GridAnswers
from tinysam_training.data.spacing import evenly_spaced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_tinysam.inference.predictor import Predictor
    from tinysam_training.labelled_image import ImageEntry


@dataclass(frozen=True, eq=False)
class Calibration:
    """The measured thresholds.

    Attributes
    ----------
    thresholds : Thresholds
    figures : dict
        Mean mSA on the images: of the head and guided; and on those with the whole grid: of the
        dense grid and hierarchical, and the share of the grid's points that are spared.
    """

    thresholds: Thresholds
    figures: dict[str, float]


def calibrate(
    predictor: Predictor,
    entries: Sequence[ImageEntry],
    *,
    points_per_side: int = 32,
    grid_images: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Measure the thresholds of a model.

    Parameters
    ----------
    predictor : Predictor
    entries : sequence of ImageEntry
        Labelled images; a dozen is enough, of all kinds that are to be segmented.
    points_per_side : int
        Side of the decoded grid. The points that may be left out depend on it: the first round of
        a sparse grid finds too little.
    grid_images : int, optional
        How many of the images, evenly spaced, are decoded with the whole grid; by default all.
    progress : callable, optional
        Called with the images done and their number.

    Raises
    ------
    DataError
        If there is no image with objects.
    """
    images: list[CalibrationImage] = []
    for number, entry in enumerate(entries, start=1):
        image = entry.read()
        if image.labels[0].any():
            images.append(CalibrationImage.seen_by(predictor, image))
        if progress is not None:
            progress(number, len(entries))
    if not images:
        raise DataError("There is no image with objects to calibrate with.")
    with_grid = evenly_spaced(images, grid_images or len(images))
    for number, one in enumerate(with_grid, start=1):
        one.grid = GridAnswers.asked(predictor, one.embedding, points_per_side)
        if progress is not None:
            progress(number, len(with_grid))
    figures: dict[str, float] = {}
    guided = GuidedSettings()
    guided_labels = LabelSettings(confidence=0.0)
    search = calibrate_grid.floors(with_grid, SearchSettings())
    if predictor.has_object_head:
        objects, figures["head"] = calibrate_guided.object_settings(images)
        calibrate_guided.find_objects(images, objects)
        calibrate_guided.prompt(predictor, images)
        guided = calibrate_guided.guidance(
            images, GuidedSettings(objects), guided_labels
        )
        guided, guided_labels = calibrate_guided.fewest_prompts(
            images, guided, guided_labels
        )
        guided, figures["guided"] = calibrate_guided.worth_of_finds(
            predictor, images, guided, guided_labels, search
        )
    labels, figures["dense"] = calibrate_grid.confidence(with_grid, search)
    search, figures["hierarchical"], figures["spared"] = calibrate_grid.spared(
        with_grid, search, labels
    )
    return Calibration(Thresholds(search, guided, labels, guided_labels), figures)


def calibrate_guided_search(
    predictor: Predictor, entries: Sequence[ImageEntry], start: Thresholds
) -> Calibration:
    """Measure only what guides the search by the object head: some seconds an image.

    The thresholds of the grid, which takes much longer, stay those of the start.

    Parameters
    ----------
    predictor : Predictor
        With an object head.
    entries : sequence of ImageEntry
        Labelled images.
    start : Thresholds
        Of the model that this one was made from.

    Raises
    ------
    DataError
        If there is no image with objects.
    """
    read = (entry.read() for entry in entries)
    images = [
        CalibrationImage.seen_by(predictor, image)
        for image in read
        if image.labels[0].any()
    ]
    if not images:
        raise DataError("There is no image with objects to calibrate with.")
    figures: dict[str, float] = {}
    objects, figures["head"] = calibrate_guided.object_settings(images)
    calibrate_guided.find_objects(images, objects)
    calibrate_guided.prompt(predictor, images)
    guided, labels = calibrate_guided.fewest_prompts(
        images,
        calibrate_guided.guidance(
            images,
            replace(start.guided, objects=objects),
            LabelSettings(confidence=0.0),
        ),
        LabelSettings(confidence=0.0),
    )
    found = replace(start, guided=guided, guided_labels=labels)
    return Calibration(found, figures)


def write(model: str, path: Path, found: Calibration) -> None:
    """Write a model again with its thresholds; weights and precision do not change.

    Parameters
    ----------
    model : str
        As `napari_tinysam.load_model` takes it.
    path : Path
        A .safetensors file; may be the model's own.
    found : Calibration
    """
    source = checkpoints.load(model)
    notes: dict[str, Any] = {**source.notes, NOTE: found.thresholds.to_note()}
    notes.pop("format", None)
    checkpoints.save(source.model, path, notes, half=checkpoints.is_half(source.path))
