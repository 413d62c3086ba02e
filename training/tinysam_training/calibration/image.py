"""A calibration image: its true objects, and all predictions for it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.everything import (
    Candidate,
    LabelSettings,
    Lattice,
    Proposal,
    Proposals,
    SearchReport,
    SearchSettings,
    centred_lattice,
    label_proposals,
)
from napari_tinysam.everything.search import decoded_points, foreground_at
from napari_tinysam.metrics import THRESHOLDS, object_overlaps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from napari_tinysam.everything.instances import Guide, Instance, InstanceAnswer
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.masks import Upscaler
    from tinysam_training.labelled_image import LabelledImage

#: A gain in mSA up to this does not justify a setting other than the default.
WORTH = 0.002


@dataclass(eq=False)
class CalibrationImage:
    """One image and the model's predictions.

    Attributes
    ----------
    truth : ndarray of int32, (H, W)
    known : ndarray of bool, (H, W), optional
        Where the truth is known; None: everywhere.
    embedding : Embedding
    maps : ndarray of float32, (3, m, m), optional
        The object head's, if there is one.
    instances : list of Instance
        Objects of the head's segmentation with the chosen settings.
    answers : dict
        For each kind of prompt, the decoder's answer for each instance.
    filled : list of Proposal
        Masks of points in foreground that no object explains.
    grid : GridAnswers, optional
    """

    truth: npt.NDArray[np.int32]
    known: npt.NDArray[np.bool_] | None
    embedding: Embedding
    maps: npt.NDArray[np.float32] | None
    instances: list[Instance] = field(default_factory=list)
    answers: dict[Guide, list[list[InstanceAnswer]]] = field(default_factory=dict)
    filled: list[Proposal] = field(default_factory=list)
    grid: GridAnswers | None = None

    @classmethod
    def seen_by(cls, predictor: Predictor, image: LabelledImage) -> CalibrationImage:
        """Encode an image and keep the object maps.

        Parameters
        ----------
        predictor : Predictor
        image : LabelledImage
        """
        embedding = predictor.encode(image.rgb)
        truth = image.labels[0]
        return cls(
            truth=truth,
            known=None if image.complete else truth > 0,
            embedding=embedding,
            maps=predictor.object_maps(embedding),
        )

    @property
    def upscaler(self) -> Upscaler:
        """Map the model's logits to the image."""
        return self.embedding.upscaler

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.truth.shape
        return int(height), int(width)

    @cached_property
    def areas(self) -> npt.NDArray[np.int64]:
        """Pixels of each label."""
        return np.bincount(self.truth.ravel()).astype(np.int64)

    def msa(self, labels: npt.NDArray[np.int32]) -> float:
        """Compare labels with the truth."""
        return self.agreement(labels)[0]

    def agreement(self, labels: npt.NDArray[np.int32]) -> tuple[float, float]:
        """Return mSA, and the mean over true objects of the IoU with the label that fits best."""
        overlaps = object_overlaps(self.truth, labels, self.known)
        accuracies = [overlaps.counts(limit).accuracy for limit in THRESHOLDS]
        return float(np.mean(accuracies)), float(overlaps.best_iou.mean())

    def best_iou(self, proposal: Proposal) -> float:
        """Return the IoU with the object that a proposal covers best."""
        mask = proposal.mask
        inside = np.bincount(self.truth[mask.slices][mask.mask], minlength=2)[1:]
        if not inside.any():
            return 0.0
        label = int(inside.argmax()) + 1
        common = int(inside[label - 1])
        return common / (int(self.areas[label]) + int(mask.area) - common)


@dataclass(eq=False)
class GridAnswers:
    """The masks that a dense grid of points finds in an image.

    Attributes
    ----------
    lattice : Lattice
    coarse, dense : list of Candidate
        Of the points of the first round, and of all others.
    foreground : ndarray of float32, (P,)
        The head's, at the points of the second round.
    """

    lattice: Lattice
    coarse: list[Candidate]
    dense: list[Candidate]
    foreground: npt.NDArray[np.float32]
    _full: dict[int, Proposal] = field(default_factory=dict)

    @classmethod
    def asked(
        cls, predictor: Predictor, embedding: Embedding, points_per_side: int
    ) -> GridAnswers:
        """Decode the whole grid, without any threshold.

        Parameters
        ----------
        predictor : Predictor
        embedding : Embedding
        points_per_side : int
        """
        lattice = centred_lattice(embedding.original_size, points_per_side)
        everything = SearchSettings(score_threshold=0.0, stability_threshold=0.0)
        report = SearchReport()
        coarse, dense = (
            [
                candidate
                for start in range(0, len(part), 16)
                for candidate in decoded_points(
                    predictor, embedding, part[start : start + 16], everything, report
                )
            ]
            for part in (lattice.coarse, lattice.dense)
        )
        foreground = foreground_at(predictor, embedding, lattice.dense)
        return cls(lattice, coarse, dense, foreground)

    @property
    def all(self) -> list[Candidate]:
        """Candidates of both rounds."""
        return [*self.coarse, *self.dense]

    def proposal(self, candidate: Candidate) -> Proposal:
        """Return a candidate at full size; cached, since this is the slowest step."""
        if id(candidate) not in self._full:
            self._full[id(candidate)] = Proposal.of_candidate(candidate)
        return self._full[id(candidate)]


def mean_over(
    images: Sequence[CalibrationImage], value: Callable[[CalibrationImage], float]
) -> float:
    """Mean of a value over images, several at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return float(np.mean(list(pool.map(value, images))))


def best_confidence(
    images: Sequence[CalibrationImage],
    proposals: Callable[[CalibrationImage], Proposals],
    labels: LabelSettings,
) -> tuple[LabelSettings, float]:
    """Find the confidence from which a proposal should become an object.

    Parameters
    ----------
    images : sequence of CalibrationImage
    proposals : callable
        Gives those of an image.
    labels : LabelSettings
        Its confidence is the least that is tried.

    Returns
    -------
    (LabelSettings, float)
        Settings with the lowest confidence that is as good as the best, and the mean mSA. The
        lowest, since scores are lower on other images.
    """
    found = {id(image): proposals(image) for image in images}
    scores = np.concatenate([each.scores for each in found.values()])
    tried = [labels]
    if len(scores):
        values = np.unique(np.quantile(scores, np.linspace(0, 1, 21)).round(3))
        tried += [
            replace(labels, confidence=float(value))
            for value in np.clip(values, 0, 1).tolist()
            if value > labels.confidence
        ]
    results = [
        (
            settings,
            mean_over(
                images,
                lambda one, own=settings: one.msa(  # type: ignore[misc]
                    label_proposals(found[id(one)], own).labels
                ),
            ),
        )
        for settings in tried
    ]
    best = max(mean for _, mean in results)
    return next(each for each in results if each[1] >= best - WORTH)
