"""Hierarchical search: masks of all objects of an image, from a grid of points.

TinySAM (arXiv 2312.13789), section 3.4. A coarse grid is decoded first. Points of the dense grid
inside its confident masks are skipped. `SearchSettings.lattice` chooses between the points of the
published code and those of Segment Anything (see `lattice`).

Micrographs are mostly background, where no mask is confident. If the model has an object head, the
second round also skips points in what the head takes for background
(`SearchSettings.background`); this is not in the paper.

The search is a generator: it yields its finds and its progress after each batch, and the caller may
stop at any time. Results do not depend on the batch size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_tinysam.everything.candidates import Candidate, best_apart, found_by
from napari_tinysam.everything.lattice import centred_lattice, official_lattice
from napari_tinysam.masks import stability_scores
from napari_tinysam.objects.maps import means_of_squares
from napari_tinysam.prompts import Prompts

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.masks import Upscaler

#: Largest difference between the stability at the resolution of the logits and that at full size.
#: Closer to the threshold, the full size decides.
_STABILITY_MARGIN = 0.03

#: Prompts that are decoded between two reports of progress.
_REPORT_EVERY = 16


@dataclass(frozen=True)
class SearchSettings:
    """Settings of a search with a grid of points.

    Attributes
    ----------
    points_per_side : int
        Of the dense grid.
    hierarchical : bool
        Whether the dense grid skips confident masks of the coarse one. Otherwise all points are
        decoded.
    lattice : {"centred", "official"}
        Segment Anything's grid, or the points of TinySAM's published code. With the latter, scores
        are filtered and stability is computed exactly as there. Only empty masks, which that code
        keeps without thresholds, are dropped.
    confident_logit : float
        τ: a point is skipped if the logit of a found mask exceeds this there.
    background : float
        Points of the second round are also skipped where the object head's foreground is below
        this; 0 skips none. Without effect on the official lattice and without an object head.
    score_threshold : float
        Masks are kept if their predicted IoU is above this.
    stability_threshold : float
        Masks are kept if their stability is at least this.
    box_overlap : float
        Of two masks whose boxes have a larger IoU, the one with the better score is kept.
    """

    points_per_side: int = 32
    hierarchical: bool = True
    lattice: Literal["centred", "official"] = "centred"
    confident_logit: float = 8.5
    background: float = 0.0
    score_threshold: float = 0.88
    stability_threshold: float = 0.95
    box_overlap: float = 0.7

    def __post_init__(self) -> None:
        if self.points_per_side < 1:
            raise ValueError("At least one point per side is needed.")
        if self.lattice not in ("centred", "official"):
            raise ValueError(
                f'There is no lattice {self.lattice!r}: use "centred" or "official".'
            )


@dataclass
class SearchReport:
    """The work of a search.

    Attributes
    ----------
    points : int
        Of the whole grid.
    decoded, skipped : int
        Prompts that were decoded, and that were skipped because the first round covers them or the
        object head sees background there.
    found : int
        Masks before non-maximum suppression.
    seconds : dict
        By stage: ``decode``, ``filter``, ``skip``, ``suppress``, and ``head`` in a guided search.
    """

    points: int = 0
    decoded: int = 0
    skipped: int = 0
    found: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, other: SearchReport) -> None:
        """Add the work of another search."""
        self.points += other.points
        self.decoded += other.decoded
        self.skipped += other.skipped
        self.found += other.found
        for stage, seconds in other.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def spent(self, stage: str, begun: float) -> None:
        """Add the time since `begun`, of `time.perf_counter`, to a stage."""
        elapsed = time.perf_counter() - begun
        self.seconds[stage] = self.seconds.get(stage, 0.0) + elapsed

    @property
    def done(self) -> int:
        """Prompts that were decoded or skipped."""
        return self.decoded + self.skipped


class Search:
    """A search with a grid of points.

    Iterating decodes; `result` has the finds so far, at any time.

    Parameters
    ----------
    predictor : Predictor
    embedding : Embedding
        Of the image, by this predictor.
    settings : SearchSettings, optional
    where : ndarray of bool, (H, W), optional
        Where points may lie.
    """

    def __init__(
        self,
        predictor: Predictor,
        embedding: Embedding,
        settings: SearchSettings | None = None,
        where: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.predictor = predictor
        self.embedding = embedding
        self.settings = settings or SearchSettings()
        self.where = where
        self.report = SearchReport()
        self.candidates: list[Candidate] = []
        self._first_round = 0  # how many of them the first round found

    def __iter__(self) -> Iterator[list[Candidate]]:
        """Decode batch by batch; yields what each batch found."""
        settings, report = self.settings, self.report
        size = self.embedding.original_size
        make = official_lattice if settings.lattice == "official" else centred_lattice
        lattice = make(size, settings.points_per_side)
        if self.where is not None:
            lattice = lattice.inside(self.where)
        report.points = len(lattice.coarse) + len(lattice.dense)
        rounds = (lattice.coarse, lattice.dense)
        if not settings.hierarchical:
            rounds = (lattice.all, lattice.dense[:0])
        yield from self._decode(rounds[0])
        self._first_round = len(self.candidates)
        begun = time.perf_counter()
        covered = np.zeros(len(rounds[1]), bool)
        for candidate in self.candidates:
            left = np.flatnonzero(~covered)
            covered[left] = candidate.covers(rounds[1][left], settings.confident_logit)
        if settings.background > 0 and settings.lattice != "official":
            covered |= foreground_at(self.predictor, self.embedding, rounds[1]) < (
                settings.background
            )
        report.skipped = int(covered.sum())
        self.report.spent("skip", begun)
        yield from self._decode(rounds[1][~covered])

    @property
    def result(self) -> list[Candidate]:
        """The finds so far without near duplicates, the best first."""
        begun = time.perf_counter()
        # Of equal scores the second round wins, as in the published code.
        early, late = (
            self.candidates[: self._first_round],
            self.candidates[self._first_round :],
        )
        kept = best_apart([*late, *early], self.settings.box_overlap)
        self.report.spent("suppress", begun)
        return kept

    def _decode(self, points: npt.NDArray[np.float64]) -> Iterator[list[Candidate]]:
        for start in range(0, len(points), _REPORT_EVERY):
            new = decoded_points(
                self.predictor,
                self.embedding,
                points[start : start + _REPORT_EVERY],
                self.settings,
                self.report,
            )
            self.candidates += new
            yield new


def foreground_at(
    predictor: Predictor,
    embedding: Embedding,
    points: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """Probability that points lie in objects, from the object head.

    Parameters
    ----------
    predictor : Predictor
    embedding : Embedding
    points : ndarray of float64, (P, 2)
        x and y in pixels of the image.

    Returns
    -------
    ndarray of float32, (P,)
        1 everywhere if the model has no object head.
    """
    maps = predictor.object_maps(embedding)
    if maps is None:
        return np.ones(len(points), np.float32)
    x, y = points.astype(np.intp).T
    rows, columns = embedding.upscaler.weights
    # At the points only: the image may have a hundred million pixels.
    found = ((rows[y] @ means_of_squares(maps[0])) * columns[x]).sum(axis=1)
    return np.asarray(found, np.float32)


def decoded_points(
    predictor: Predictor,
    embedding: Embedding,
    points: npt.NDArray[np.float64],
    settings: SearchSettings,
    report: SearchReport,
) -> list[Candidate]:
    """Decode points and keep the masks that pass the thresholds.

    Parameters
    ----------
    predictor : Predictor
    embedding : Embedding
    points : ndarray of float64, (P, 2)
        x and y in pixels of the image; each point is one prompt.
    settings : SearchSettings
    report : SearchReport
        Is updated.

    Returns
    -------
    list of Candidate
    """
    begun = time.perf_counter()
    prompts = Prompts(points=points[:, np.newaxis].astype(np.float32))
    masks = predictor.predict(
        embedding,
        prompts,
        least_score=_least(settings),
        exact=settings.lattice == "official",  # as in the published code
    )
    report.spent("decode", begun)
    begun = time.perf_counter()
    found = _good(masks.logits, masks.scores, points, embedding.upscaler, settings)
    report.decoded += len(points)
    report.found += len(found)
    report.spent("filter", begun)
    return found


def _good(
    logits: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    points: npt.NDArray[np.float64],
    upscaler: Upscaler,
    settings: SearchSettings,
) -> list[Candidate]:
    """Keep masks by score, then by stability; only the likely ones are upscaled."""
    exact = settings.lattice == "official"
    rows, numbers = np.nonzero(scores > _least(settings))
    planes = logits[rows, numbers]
    height, width = upscaler.valid_size
    stability = stability_scores(planes[:, :height, :width])
    least = settings.stability_threshold - _STABILITY_MARGIN
    likely = np.ones(len(planes), bool) if exact else stability >= least
    candidates = found_by(
        planes[likely],
        scores[rows, numbers][likely],
        points[rows][likely],
        upscaler,
        stability[likely],
    )
    settled = (
        _settled(each, settings.stability_threshold, exact) for each in candidates
    )
    return [candidate for candidate in settled if candidate is not None]


def _least(settings: SearchSettings) -> float:
    """Score that masks must exceed; the published code ignores a threshold of 0."""
    exact = settings.lattice == "official"
    if exact and settings.score_threshold <= 0:
        return -np.inf
    return settings.score_threshold


def _settled(candidate: Candidate, threshold: float, exact: bool) -> Candidate | None:
    """Compare the stability with the threshold, at full size if that can change the result."""
    if exact or abs(candidate.stability - threshold) < _STABILITY_MARGIN:
        candidate = candidate.with_exact_stability()
    return candidate if candidate.stability >= threshold else None
