"""Guided search: the object head says where objects are, the decoder draws them.

A blind grid asks everywhere. The object head has seen the whole image already: its segmentation
gives one prompt an object, the decoder's answer a better outline and a score. Where the answer is
another object than the one that was meant, the head's own segmentation stays; and where the head
sees foreground that nothing explains, points of the grid ask what is there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_tinysam.everything.lattice import centred_lattice
from napari_tinysam.everything.proposals import Proposal
from napari_tinysam.everything.search import (
    SearchReport,
    SearchSettings,
    decoded_points,
)
from napari_tinysam.labels import object_masks
from napari_tinysam.masks import BoxedMask, stability_scores
from napari_tinysam.metrics import boxed_iou
from napari_tinysam.objects.finding import ObjectSettings, confirmed, segment_objects
from napari_tinysam.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor

#: What an object of the head's is prompted with.
Guide = Literal["point", "box", "point_and_box"]

#: Prompts that are decoded between two reports of progress.
_REPORT_EVERY = 16

#: The head's word counts so many times as much as the decoder's: a fit of the true IoU on training
#: images gave 0.97 to 0.55.
_HEAD_COUNTS = 2.0

#: Points of the grid ask about foreground with nothing that is explained within so many pixels of
#: the model's frame to all sides: nearer, it is the rim of that.
_RIM = 8.0


@dataclass(frozen=True)
class GuidedSettings:
    """How the object head guides the decoder.

    Attributes
    ----------
    objects : ObjectSettings
        How the head's maps become objects.
    guides : tuple of {"point", "box", "point_and_box"}
        The prompts that each object gets: the pixel deepest inside, its box, or both at once. The
        best answer counts.
    agreement : float
        IoU with the head's object below which an answer is taken for another object, and the
        head's own outline is kept.
    trust : float
        Among the answers to an object's prompts the one with the largest score · agreement^trust
        is taken.
    fill : bool
        Whether points of the grid are decoded where the head sees foreground that nothing
        explains.
    fill_worth : float
        0–1, what the scores of such finds are multiplied with: the head saw no object there, so
        they may have to be surer than others, or be shown only where a user lowers the confidence.
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


@dataclass(frozen=True, eq=False)
class Instance:
    """An object as the head sees it.

    Attributes
    ----------
    label : int
        In the head's segmentation.
    mask : BoxedMask
    point : (float, float)
        The pixel deepest inside, x and y.
    confirmed : float
        0–1, how well the head's maps agree with it.
    """

    label: int
    mask: BoxedMask
    point: tuple[float, float]
    confirmed: float = 1.0

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the first and last pixels."""
        return self.mask.box


def instances_of(
    labels: npt.NDArray[np.int32], confirmed: npt.NDArray[np.float64] | None = None
) -> list[Instance]:
    """List the objects of a segmentation.

    Parameters
    ----------
    labels : ndarray of int32, (H, W)
    confirmed : ndarray of float64, (N + 1,), optional
        From `napari_tinysam.objects.finding.confirmed`.
    """
    return [
        Instance(
            label,
            mask,
            mask.deepest,
            1.0 if confirmed is None else float(confirmed[label]),
        )
        for label, mask in object_masks(labels)
    ]


class GuidedSearch:
    """A guided search that is on its way; iterating decodes.

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
        Where prompts may lie; objects of the head's that lie mostly elsewhere are left out.

    Attributes
    ----------
    territories : ndarray of int32, (H, W)
        The head's segmentation, once the iteration has begun.
    proposals : list of Proposal
        What was found so far.
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
        self.territories = np.zeros(embedding.original_size, np.int32)
        self.proposals: list[Proposal] = []
        self._elsewhere: list[Instance] = []  # objects that are not wanted

    def __iter__(self) -> Iterator[list[Proposal]]:
        """Decode batch after batch; gives what each of them found."""
        begun = time.perf_counter()
        maps = self.predictor.object_maps(self.embedding)
        assert maps is not None, "checked before: there is an object head"
        upscaler = self.embedding.upscaler
        objects = self.settings.objects
        self.territories = segment_objects(maps, upscaler, objects)
        sure = confirmed(self.territories, maps, upscaler)
        instances = []
        for instance in instances_of(self.territories, sure):
            if self.where is None or mostly_inside(instance.mask, self.where):
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
        """Prompt some objects; for each the best answer, or the head's own outline."""
        answers: list[list[Answer]] = [[] for _ in instances]
        for guide in self.settings.guides:
            found = answers_to(
                self.predictor, self.embedding, instances, guide, self.report
            )
            for own, more in zip(answers, found, strict=True):
                own += more
        chosen = [
            best_answer(instance, own, self.settings)
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
    """Ask at points of the grid that lie in foreground which nothing explains.

    Parameters
    ----------
    predictor : Predictor
    embedding : Embedding
    seen : ndarray of float32, (H, W)
        The head's probability of foreground.
    explained : sequence of BoxedMask
        What is known already.
    settings : GuidedSettings
    grid : SearchSettings
        Thresholds and density of the grid.
    report : SearchReport
        Is told.
    where : ndarray of bool, (H, W), optional
        Where points may lie.

    Yields
    ------
    list of Proposal
        What a batch of points found.
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
    # In two rounds, as in the hierarchical search: what the first finds spares the second.
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
                _worth_of_seen(proposal, seen, settings)
                for proposal in map(Proposal.of_candidate, candidates)
                if proposal.area and mostly_inside(proposal.mask, free)
            ]
            found += new
            yield new
        for proposal in found:
            free[proposal.mask.slices] &= ~proposal.mask.mask


def _surrounded(
    points: npt.NDArray[np.float64], free: npt.NDArray[np.bool_], rim: int
) -> npt.NDArray[np.bool_]:
    """Whether (P, 2) points, x and y, have nothing but free pixels, so many to all sides."""
    # Only around the points: distances of all pixels of a large image take seconds.
    squares = (
        free[max(y - rim, 0) : y + rim + 1, max(x - rim, 0) : x + rim + 1]
        for x, y in points.astype(np.intp).tolist()
    )
    return np.fromiter((square.all() for square in squares), bool, len(points))


def _worth_of_seen(
    proposal: Proposal, seen: npt.NDArray[np.float32], settings: GuidedSettings
) -> Proposal:
    """Score a find of the grid by the head's foreground in it and the decoder: both must be sure.

    The head saw no object there; of what else lies in its foreground, on training images next to
    nothing was one.
    """
    mask = proposal.mask
    inside = float(seen[mask.slices][mask.mask].mean())
    sure = inside * min(max(proposal.score, 0.0), 1.0)
    return replace(proposal, score=settings.fill_worth * sure)


def _worth(head: float, decoder: float) -> float:
    """Weigh what the head and the decoder say of an object, each 0–1."""
    word = _HEAD_COUNTS * head + min(max(decoder, 0.0), 1.0)
    return word / (_HEAD_COUNTS + 1)


def mostly_inside(mask: BoxedMask, where: npt.NDArray[np.bool_]) -> bool:
    """Whether more than half of a mask lies in a region, (H, W) bool."""
    return 2 * int(np.count_nonzero(mask.mask & where[mask.slices])) > mask.area


@dataclass(frozen=True, eq=False)
class Answer:
    """One of the decoder's masks for an object of the head's.

    Attributes
    ----------
    mask : BoxedMask
    score, stability : float
    agreement : float
        IoU with the head's object.
    """

    mask: BoxedMask
    score: float
    stability: float
    agreement: float


def answers_to(
    predictor: Predictor,
    embedding: Embedding,
    instances: Sequence[Instance],
    guide: Guide,
    report: SearchReport,
) -> list[list[Answer]]:
    """Prompt objects of the head's.

    Parameters
    ----------
    predictor : Predictor
    embedding : Embedding
    instances : sequence of Instance
    guide : str
        What with.
    report : SearchReport
        Is told.

    Returns
    -------
    list of list of Answer
        Three for each object.
    """
    begun = time.perf_counter()
    masks = predictor.predict(embedding, _prompts(instances, guide), exact=False)
    report.decoded += len(instances)
    report.spent("decode", begun)
    begun = time.perf_counter()
    height, width = embedding.upscaler.valid_size
    stable = stability_scores(masks.logits[:, :, :height, :width])
    found = []
    for row, instance in enumerate(instances):
        own = []
        for number, score in enumerate(masks.scores[row].tolist()):
            mask = masks.boxed(row, number).without_specks()
            agreement = boxed_iou(mask, instance.mask) if mask.area else 0.0
            own.append(Answer(mask, score, float(stable[row, number]), agreement))
        found.append(own)
    report.spent("filter", begun)
    return found


def best_answer(
    instance: Instance, answers: Sequence[Answer], settings: GuidedSettings
) -> Proposal:
    """Choose among answers by score and agreement; the head's outline where none agrees.

    Parameters
    ----------
    instance : Instance
    answers : sequence of Answer
        At least one.
    settings : GuidedSettings
    """
    best = max(answers, key=lambda a: max(a.score, 0.0) * a.agreement**settings.trust)
    point, label = instance.point, instance.label
    expected = max(answer.score * answer.agreement for answer in answers)
    worth = _worth(instance.confirmed, expected)
    if best.mask.area and best.agreement >= settings.agreement:
        return Proposal(best.mask, worth, point, "prompt", best.stability, label)
    return Proposal(instance.mask, worth, point, "head", 1.0, label)


def _prompts(instances: Sequence[Instance], guide: Guide) -> Prompts:
    points = np.array([each.point for each in instances], np.float32)[:, np.newaxis]
    boxes = np.array([each.box for each in instances], np.float32)
    return Prompts(
        points=points if guide != "box" else None,
        boxes=boxes if guide != "point" else None,
    )
