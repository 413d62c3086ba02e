"""Guided search: the object head finds the objects, the decoder outlines them.

A grid of points prompts everywhere. The object head has already seen the whole image: its
segmentation gives one prompt for each instance, and the decoder returns a better outline and a
score. If the decoder returns another object than the prompted one, the head's own outline is kept.
Points of a grid are prompted only where the head sees foreground that no proposal covers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.everything.instances import (
    Guide,
    Instance,
    InstanceAnswer,
    answers_to,
    best_answer,
    instances_of,
)
from napari_tinysam.everything.lattice import centred_lattice
from napari_tinysam.everything.proposals import Proposal
from napari_tinysam.everything.search import (
    SearchReport,
    SearchSettings,
    decoded_points,
)
from napari_tinysam.objects.confirmation import confirmed
from napari_tinysam.objects.finding import ObjectSettings, segment_objects

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.masks import BoxedMask

#: Prompts that are decoded between two reports of progress.
_REPORT_EVERY = 16

#: Distance of grid points to explained pixels on all sides, in pixels of the model's frame: closer
#: foreground is the rim of something known.
_RIM = 8.0


@dataclass(frozen=True)
class GuidedSettings:
    """How the object head guides the decoder.

    Attributes
    ----------
    objects : ObjectSettings
        How the head's maps become objects.
    guides : tuple of {"point", "box", "point_and_box"}
        The prompts for each instance: the pixel deepest inside, its box, or both at once. The best
        answer is used.
    agreement : float
        IoU with the instance below which an answer counts as another object, and the instance's
        own outline is kept.
    trust : float
        The answer with the largest score · agreement^trust is the best one.
    fill : bool
        Whether grid points are decoded where the head sees foreground that no proposal covers.
    fill_worth : float
        0–1, factor for the scores of such finds. The head saw no object there, so a value below 1
        shows only the surest of them, or those that a user asks for with a lower confidence.
    """

    objects: ObjectSettings = field(default_factory=ObjectSettings)
    guides: tuple[Guide, ...] = ("point_and_box",)
    agreement: float = 0.5
    trust: float = 1.0
    fill: bool = True
    fill_worth: float = 1.0

    def __post_init__(self) -> None:
        if not self.guides:
            raise ValueError("An object needs at least one prompt.")
        if unknown := set(self.guides) - {"point", "box", "point_and_box"}:
            raise ValueError(f"There is no prompt {sorted(unknown)[0]!r}.")
        for name in ("agreement", "fill_worth"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} lies between 0 and 1.")


class GuidedSearch:
    """A guided search; iterating over it decodes.

    Parameters
    ----------
    predictor : Predictor
        Of a model with an object head.
    embedding : Embedding
        Of the image, by this predictor.
    settings : GuidedSettings, optional
    grid : SearchSettings, optional
        Thresholds and density of the grid that fills in.
    where : ndarray of bool, (H, W), optional
        Where prompts may lie; instances that lie mostly elsewhere are left out.

    Attributes
    ----------
    proposals : list of Proposal
        Found so far.
    report : SearchReport

    Raises
    ------
    ValueError
        If the model has no object head.
    """

    def __init__(
        self,
        predictor: Predictor,
        embedding: Embedding,
        settings: GuidedSettings | None = None,
        grid: SearchSettings | None = None,
        where: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        if not predictor.has_object_head:
            raise ValueError(f"The model {predictor.name!r} has no object head.")
        self.predictor = predictor
        self.embedding = embedding
        self.settings = settings or GuidedSettings()
        self.grid = grid or SearchSettings()
        self.where = where
        self.report = SearchReport()
        self.proposals: list[Proposal] = []
        self._elsewhere: list[Instance] = []  # outside `where`

    def __iter__(self) -> Iterator[list[Proposal]]:
        """Decode batch by batch; yields what each batch found."""
        begun = time.perf_counter()
        maps = self.predictor.object_maps(self.embedding)
        assert maps is not None, "checked before: there is an object head"
        upscaler = self.embedding.upscaler
        objects = self.settings.objects
        labels = segment_objects(maps, upscaler, objects)
        sure = confirmed(labels, maps, upscaler)
        instances = []
        for instance in instances_of(labels, sure):
            if self.where is None or instance.mask.lies_in(self.where):
                instances.append(instance)
            else:
                self._elsewhere.append(instance)
        self.report.spent("head", begun)
        guides = self.settings.guides
        self.report.points = len(instances) * len(guides)
        size = max(1, _REPORT_EVERY // len(guides))
        for start in range(0, len(instances), size):
            new = self._answers(instances[start : start + size])
            self.proposals += new
            yield new
        if self.settings.fill:
            explained = [known.mask for known in self.proposals]
            explained += [instance.mask for instance in self._elsewhere]
            for new in fill(
                self.predictor,
                self.embedding,
                upscaler.full(maps[0]),
                explained,
                self.settings,
                self.grid,
                self.report,
                self.where,
            ):
                self.proposals += new
                yield new

    def _answers(self, instances: list[Instance]) -> list[Proposal]:
        """Prompt some instances; returns the best answer or the own outline of each."""
        answers: list[list[InstanceAnswer]] = [[] for _ in instances]
        for guide in self.settings.guides:
            found = answers_to(
                self.predictor, self.embedding, instances, guide, self.report
            )
            for own, more in zip(answers, found, strict=True):
                own += more
        given = self.settings
        chosen = [
            best_answer(
                instance, own, trust=given.trust, least_agreement=given.agreement
            )
            for instance, own in zip(instances, answers, strict=True)
        ]
        self.report.found += len(chosen)
        return chosen


def fill(
    predictor: Predictor,
    embedding: Embedding,
    seen: npt.NDArray[np.float32],
    explained: Sequence[BoxedMask],
    settings: GuidedSettings,
    grid: SearchSettings,
    report: SearchReport,
    where: npt.NDArray[np.bool_] | None = None,
) -> Iterator[list[Proposal]]:
    """Decode grid points in foreground that no known object explains.

    Parameters
    ----------
    predictor : Predictor
    embedding : Embedding
    seen : ndarray of float32, (H, W)
        The head's probability of foreground.
    explained : sequence of BoxedMask
        Known objects.
    settings : GuidedSettings
    grid : SearchSettings
        Thresholds and density of the grid.
    report : SearchReport
        Is updated.
    where : ndarray of bool, (H, W), optional
        Where points may lie.

    Yields
    ------
    list of Proposal
        Found by a batch of points.
    """
    size = embedding.original_size
    free = np.ones(size, bool)
    for mask in explained:
        free[mask.slices] &= ~mask.mask
    wanted = seen >= settings.objects.foreground_threshold
    if where is not None:
        wanted &= where
    lattice = centred_lattice(size, grid.points_per_side)
    report.points += len(lattice.all)
    rim = int(np.ceil(_RIM * max(size) / embedding.frame_size))
    # In two rounds, as in the hierarchical search: finds of the first save points of the second.
    for points in (lattice.coarse, lattice.dense):
        x, y = points.astype(np.intp).T
        asked = points[wanted[y, x]]
        asked = asked[_surrounded(asked, free, rim)]
        report.skipped += len(points) - len(asked)
        found: list[Proposal] = []
        for start in range(0, len(asked), _REPORT_EVERY):
            candidates = decoded_points(
                predictor, embedding, asked[start : start + _REPORT_EVERY], grid, report
            )
            new = [
                _rescored(proposal, seen, settings)
                for proposal in map(Proposal.of_candidate, candidates)
                if proposal.area and proposal.mask.lies_in(free)
            ]
            found += new
            yield new
        for proposal in found:
            free[proposal.mask.slices] &= ~proposal.mask.mask


def _surrounded(
    points: npt.NDArray[np.float64], free: npt.NDArray[np.bool_], rim: int
) -> npt.NDArray[np.bool_]:
    """Whether (P, 2) points, x and y, have free pixels only up to `rim` pixels to all sides."""
    # Only around the points: a distance transform of a large image takes seconds.
    squares = (
        free[max(y - rim, 0) : y + rim + 1, max(x - rim, 0) : x + rim + 1]
        for x, y in points.astype(np.intp).tolist()
    )
    return np.fromiter((square.all() for square in squares), bool, len(points))


def _rescored(
    proposal: Proposal, seen: npt.NDArray[np.float32], settings: GuidedSettings
) -> Proposal:
    """Score a find of the grid by the decoder and the head's foreground in it: both must be sure.

    The head saw no object there, and on training images hardly any of such finds was one.
    """
    mask = proposal.mask
    inside = float(seen[mask.slices][mask.mask].mean())
    sure = inside * min(max(proposal.score, 0.0), 1.0)
    return replace(proposal, score=settings.fill_worth * sure)
