"""Thresholds of everything mode for a model, measured on labelled images and stored with it.

Run as ``python -m tinysam_training.calibrate MODEL DATA -o OUT.safetensors``. Predicted IoU,
stability and the height of logits mean something else in every model: a filter at SAM's 0.88 leaves
nothing of a model whose scores end at 0.8. Use images that the model was trained on, or any others,
but not those that it is judged by.

The order, each step with the results of those before:

1. how the head's maps become objects (`ObjectSettings`), by mSA of the head alone;
2. which prompts guide the decoder, and when its answer replaces the head's outline, by mSA;
3. floors of score and stability for points of the grid: what all but a few good masks pass;
4. the confidence from which a mask becomes an object, for the grid and for the guided search, and
   how few prompts an object suffice for that;
5. what the hierarchical search may leave out, found by taking it from the dense result: the
   foreground of the object head below which half of the points are background, then the lowest τ,
   the logit from which a mask covers a point; both as far as they cost next to nothing in mSA and
   in the IoU of each object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam import checkpoints
from napari_tinysam.checkpoints import CheckpointError
from napari_tinysam.everything import (
    Candidate,
    GuidedSettings,
    LabelSettings,
    Lattice,
    Proposal,
    Proposals,
    SearchReport,
    SearchSettings,
    Thresholds,
    best_apart,
    centred_lattice,
    label_proposals,
)
from napari_tinysam.everything.guided import (
    Answer,
    Guide,
    Instance,
    answers_to,
    best_answer,
    instances_of,
)
from napari_tinysam.everything.search import decoded_points, foreground_at
from napari_tinysam.everything.thresholds import NOTE
from napari_tinysam.metrics import THRESHOLDS, object_overlaps
from napari_tinysam.objects import ObjectSettings, confirmed, segment_objects
from napari_tinysam.predictor import load_model
from tinysam_training.data import find_pairs
from tinysam_training.data.labelled_image import DataError
from tinysam_training.pipeline import evenly_spaced

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.masks import Upscaler
    from napari_tinysam.predictor import Embedding, Predictor
    from tinysam_training.data.labelled_image import ImageEntry, LabelledImage

#: A change of mSA that is not worth another setting than the default one.
_WORTH = 0.002

#: What the hierarchical search may cost, in mSA and in mean IoU; half of it the background.
_COST = 0.005

#: Where the head sees nothing, points are left out only until so many of all are: what it is sure
#: of on training images, it is less right about on others.
_ENOUGH = 0.5

#: A mask is good if its IoU with an object is at least this.
_GOOD = 0.7

#: So many of the good masks may fall below the floors.
_BELOW = 0.02

_GUIDES: tuple[tuple[Guide, ...], ...] = (
    ("point_and_box",),
    ("point",),
    ("box",),
    ("point", "box", "point_and_box"),
)
_TRUSTS = (1.0, 0.5, 2.0)
_AGREEMENTS = (0.5, 0.3, 0.7, 0.8, 0.9, 1.0)
_BACKGROUNDS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
_LOGITS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.5, 10.0, 12.0, 16.0)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What came out.

    Attributes
    ----------
    thresholds : Thresholds
    figures : dict
        Mean mSA on the images: of the head, guided, of the dense grid and hierarchical, and the
        share of the grid's points that τ spares.
    """

    thresholds: Thresholds
    figures: dict[str, float]


@dataclass(eq=False)
class _Seen:
    """One image, and what the model says about it."""

    truth: npt.NDArray[np.int32]
    known: npt.NDArray[np.bool_] | None
    maps: list[npt.NDArray[np.float32]]
    upscaler: Upscaler
    embedding: Embedding | None
    lattice: Lattice
    coarse: list[Candidate]
    dense: list[Candidate]
    foreground: npt.NDArray[np.float32]
    territories: npt.NDArray[np.int32]
    instances: list[Instance]
    answers: dict[Guide, list[list[Answer]]]
    full: dict[int, Proposal] = field(default_factory=dict)

    def proposal(self, candidate: Candidate) -> Proposal:
        """Return a candidate at full size; that takes longer than all else, so once only."""
        if id(candidate) not in self.full:
            self.full[id(candidate)] = Proposal.of_candidate(candidate)
        return self.full[id(candidate)]

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.truth.shape
        return int(height), int(width)

    @cached_property
    def areas(self) -> npt.NDArray[np.int64]:
        """Pixels of each label."""
        return np.bincount(self.truth.ravel()).astype(np.int64)

    def msa(self, labels: npt.NDArray[np.int32]) -> float:
        """How well labels agree with the truth."""
        return self.agreement(labels)[0]

    def agreement(self, labels: npt.NDArray[np.int32]) -> tuple[float, float]:
        """Return mSA, and the mean over true objects of the IoU with the label that fits best."""
        overlaps = object_overlaps(self.truth, labels, self.known)
        accuracies = [overlaps.counts(limit).accuracy for limit in THRESHOLDS]
        return float(np.mean(accuracies)), float(overlaps.best_iou.mean())


def calibrate(
    predictor: Predictor,
    entries: Sequence[ImageEntry],
    *,
    points_per_side: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Measure the thresholds of a model.

    Parameters
    ----------
    predictor : Predictor
    entries : sequence of ImageEntry
        Labelled images; a dozen is enough, of all kinds that are to be segmented.
    points_per_side : int
        Of the grid that is decoded for it.
    progress : callable, optional
        Called with images looked at and their number.

    Raises
    ------
    DataError
        If there is no image with objects.
    """
    seen: list[_Seen] = []
    for number, entry in enumerate(entries):
        image = entry.read()
        if image.labels[0].any():
            seen.append(_looked_at(predictor, image, points_per_side))
        if progress is not None:
            progress(number + 1, len(entries))
    if not seen:
        raise DataError("There is no image with objects to calibrate with.")
    figures: dict[str, float] = {}
    guided = GuidedSettings()
    guided_labels = LabelSettings(confidence=0.0)
    if predictor.has_object_head:
        guided, figures["head"] = _object_settings(seen, guided)
        _prompt(predictor, seen, guided)
        guided, figures["guided"] = _guidance(seen, guided, guided_labels)
        guided, guided_labels, figures["guided"] = _fewest_prompts(
            seen, guided, guided_labels
        )
    search = _floors(seen, SearchSettings())
    labels, figures["dense"] = _confidence(
        seen,
        lambda one: _of_grid(one, [*one.coarse, *one.dense], search),
        LabelSettings(confidence=min(search.score_threshold, 1.0)),
    )
    search, figures["hierarchical"], figures["spared"] = _spared(seen, search, labels)
    return Calibration(Thresholds(search, guided, labels, guided_labels), figures)


def _looked_at(predictor: Predictor, image: LabelledImage, points: int) -> _Seen:
    """Encode an image and decode the whole grid, without any threshold."""
    embedding = predictor.encode(image.rgb)
    lattice = centred_lattice(embedding.original_size, points)
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
    truth = image.labels[0]
    return _Seen(
        truth=truth,
        known=None if image.complete else truth > 0,
        maps=predictor.looked_maps(embedding),
        upscaler=embedding.upscaler,
        embedding=embedding,
        lattice=lattice,
        coarse=coarse,
        dense=dense,
        foreground=foreground_at(predictor, embedding, lattice.dense),
        territories=np.zeros(truth.shape, np.int32),
        instances=[],
        answers={},
    )


# -------------------------------------------------------------------- the object head


def _object_settings(
    seen: Sequence[_Seen], guided: GuidedSettings
) -> tuple[GuidedSettings, float]:
    """Step 1: one setting after the other, twice."""

    def msa(objects: ObjectSettings) -> float:
        return _mean(one.msa(_head(one, objects)) for one in seen)

    choices: dict[str, tuple[float, ...]] = {
        "foreground_threshold": (0.5, 0.4, 0.45, 0.55, 0.6),
        "boundary_threshold": (0.5, 0.3, 0.4, 0.6, 0.7),
        "centre_threshold": (0.5, 0.3, 0.4, 0.6, 0.7),
        "smoothing": (0.5, 0.0, 1.0),
    }
    objects = guided.objects
    best = msa(objects)
    for name, values in [*choices.items(), *choices.items()]:
        for value in values:
            other = replace(objects, **{name: value})
            if other != objects and (found := msa(other)) > best + _WORTH:
                objects, best = other, found
    for one in seen:
        one.territories = _head(one, objects)
        sure = confirmed(one.territories, one.maps, one.upscaler, objects)
        one.instances = instances_of(one.territories, sure)
    return replace(guided, objects=objects), best


def _head(one: _Seen, objects: ObjectSettings) -> npt.NDArray[np.int32]:
    return segment_objects(one.maps, one.upscaler, objects)


def _prompt(
    predictor: Predictor, seen: Sequence[_Seen], guided: GuidedSettings
) -> None:
    """Ask for every object of the head's with every kind of prompt."""
    report = SearchReport()
    kinds: tuple[Guide, ...] = ("point", "box", "point_and_box")
    for one in seen:
        assert one.embedding is not None
        for guide in kinds:
            one.answers[guide] = [
                answer
                for start in range(0, len(one.instances), 16)
                for answer in answers_to(
                    predictor,
                    one.embedding,
                    one.instances[start : start + 16],
                    guide,
                    report,
                )
            ]
        one.embedding = None  # it is not needed any more


def _guidance(
    seen: Sequence[_Seen], guided: GuidedSettings, labels: LabelSettings
) -> tuple[GuidedSettings, float]:
    """Step 2."""

    def msa(settings: GuidedSettings) -> float:
        return _mean(
            one.msa(label_proposals(_guided(one, settings), labels).labels)
            for one in seen
        )

    chosen, best = guided, msa(guided)
    choices: dict[str, tuple[Any, ...]] = {
        "guides": _GUIDES,
        "agreement": _AGREEMENTS,
        "trust": _TRUSTS,
    }
    for name, values in [*choices.items(), *choices.items()]:
        for value in values:
            other = replace(chosen, **{name: value})
            if other != chosen and (found := msa(other)) > best + _WORTH:
                chosen, best = other, found
    return chosen, best


def _fewest_prompts(
    seen: Sequence[_Seen], guided: GuidedSettings, labels: LabelSettings
) -> tuple[GuidedSettings, LabelSettings, float]:
    """Confidence for the guided search (step 4), with no more prompts than it needs.

    Where the head's outlines stay, prompts only say how much they are worth: one an object may do.
    """
    found = []
    for guides in sorted({guided.guides, *_GUIDES}, key=lambda g: (len(g), g)):
        other = replace(guided, guides=guides)

        def proposals(one: _Seen, other: GuidedSettings = other) -> Proposals:
            return _guided(one, other)

        found.append((other, *_confidence(seen, proposals, labels)))
    best = max(msa for *_, msa in found)
    return next(each for each in found if each[-1] >= best - _WORTH)


def _guided(one: _Seen, settings: GuidedSettings) -> Proposals:
    """Do what the guided search does, without the points that fill in."""
    members = []
    for number, instance in enumerate(one.instances):
        answers = [a for guide in settings.guides for a in one.answers[guide][number]]
        members.append(best_answer(instance, answers, settings))
    return Proposals(members, one.shape, one.territories)


# --------------------------------------------------------------------------- the grid


def _floors(seen: Sequence[_Seen], search: SearchSettings) -> SearchSettings:
    """Step 3."""
    good = [
        candidate
        for one in seen
        for candidate in (*one.coarse, *one.dense)
        if _best_iou(one, candidate) >= _GOOD
    ]
    if not good:
        return search
    score, stability = (
        float(np.quantile([getattr(c, name) for c in good], _BELOW))
        for name in ("score", "stability")
    )
    return replace(
        search,
        score_threshold=round(max(score, 0.0), 3),
        stability_threshold=round(stability, 3),
    )


def _best_iou(one: _Seen, candidate: Candidate) -> float:
    """IoU with the object that it covers best."""
    mask = one.proposal(candidate).mask
    inside = np.bincount(one.truth[mask.slices][mask.mask], minlength=2)[1:]
    if not inside.any():
        return 0.0
    label = int(inside.argmax()) + 1
    common = int(inside[label - 1])
    return common / (int(one.areas[label]) + int(mask.area) - common)


def _of_grid(
    one: _Seen, candidates: Iterable[Candidate], search: SearchSettings
) -> Proposals:
    passed = [
        candidate
        for candidate in candidates
        if candidate.score > search.score_threshold
        and candidate.stability >= search.stability_threshold
    ]
    kept = best_apart(passed, search.box_overlap)
    return Proposals(map(one.proposal, kept), one.shape)


def _confidence(
    seen: Sequence[_Seen],
    proposals: Callable[[_Seen], Proposals],
    labels: LabelSettings,
) -> tuple[LabelSettings, float]:
    """Step 4."""
    found = [proposals(one) for one in seen]
    scores = np.concatenate([each.scores for each in found])

    def msa(settings: LabelSettings) -> float:
        return _mean(
            one.msa(label_proposals(each, settings).labels)
            for one, each in zip(seen, found, strict=True)
        )

    tried = [labels]
    if len(scores):
        values = np.unique(np.quantile(scores, np.linspace(0, 1, 21)).round(3))
        tried += [
            replace(labels, confidence=float(value))
            for value in np.clip(values, 0, 1).tolist()
            if value > labels.confidence
        ]
    results = [(settings, msa(settings)) for settings in tried]
    best = max(mean for _, mean in results)
    # The lowest of those that are as good: on other images scores are lower.
    return next(each for each in results if each[1] >= best - _WORTH)


def _spared(
    seen: Sequence[_Seen], search: SearchSettings, labels: LabelSettings
) -> tuple[SearchSettings, float, float]:
    """Step 5: the settings, the mSA with them, and the share of points that they spare."""

    def judged(settings: SearchSettings) -> tuple[float, float, float]:
        """Return mSA, mean IoU and the share that is spared."""
        spared = total = 0
        values = []
        for one in seen:
            covered = _covered(one, settings)
            spared += int(covered.sum())
            total += len(one.lattice.all)
            left = {
                (float(x), float(y)) for x, y in one.lattice.dense[~covered].tolist()
            }
            rest = [c for c in one.dense if c.point in left]
            found = _of_grid(one, [*one.coarse, *rest], settings)
            values.append(one.agreement(label_proposals(found, labels).labels))
        msa, iou = np.mean(values, axis=0).tolist()
        return msa, iou, spared / total

    chosen = replace(search, background=0.0, confident_logit=np.inf)
    dense = result = judged(chosen)
    steps: list[tuple[str, float, Iterable[float]]] = [
        ("background", _COST / 2, _BACKGROUNDS),
        ("confident_logit", _COST, sorted(_LOGITS, reverse=True)),
    ]
    for name, cost, values in steps:
        for value in values:
            change: dict[str, Any] = {name: value}
            other = replace(chosen, **change)
            found = judged(other)
            if min(found[0] - dense[0], found[1] - dense[1]) < -cost:
                break
            chosen, result = other, found
            if name == "background" and found[2] >= _ENOUGH:
                break
    if np.isinf(chosen.confident_logit):  # a note has no place for that
        chosen = replace(chosen, confident_logit=max(_LOGITS))
    return chosen, result[0], result[2]


def _covered(one: _Seen, search: SearchSettings) -> npt.NDArray[np.bool_]:
    """Which points of the second round the search would leave out."""
    points = one.lattice.dense
    covered = one.foreground < search.background
    for candidate in one.coarse:
        if (
            candidate.score > search.score_threshold
            and candidate.stability >= search.stability_threshold
        ):
            covered |= candidate.covers(points, search.confident_logit)
    return covered


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


# ------------------------------------------------------------------------ command line


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--images", type=int, default=6, help="of each folder")
    parser.add_argument("--points-per-side", type=int, default=16)
    arguments = parser.parse_args()
    try:
        entries = [
            entry
            for folder in arguments.data
            for entry in evenly_spaced(
                find_pairs(folder, arguments.split), arguments.images
            )
        ]
        predictor = load_model(arguments.model, convert=_say)
        found = calibrate(
            predictor,
            entries,
            points_per_side=arguments.points_per_side,
            progress=lambda done, total: _say(f"{done} of {total} images"),
        )
        write(arguments.model, arguments.output, found)
    except (DataError, CheckpointError, ValueError) as error:
        sys.exit(f"Error: {error}")
    _say(json.dumps(found.figures, indent=1))
    _say(found.thresholds.to_note())


def write(model: str, path: Path, found: Calibration) -> None:
    """Write a model again with its thresholds; weights and precision stay as they are.

    Parameters
    ----------
    model : str
        As `napari_tinysam.load_model` takes it.
    path : Path
        A .safetensors file; may be the same.
    found : Calibration
    """
    source = checkpoints.load(model)
    notes: dict[str, Any] = {**source.notes, NOTE: found.thresholds.to_note()}
    notes.pop("format", None)
    checkpoints.save(source.model, path, notes, half=checkpoints.is_half(source.path))


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
