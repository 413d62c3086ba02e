"""Measures how the object head's maps become objects, and how those guide the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_tinysam.everything import (
    GuidedSettings,
    LabelSettings,
    Proposals,
    SearchReport,
    SearchSettings,
    label_proposals,
)
from napari_tinysam.everything.guided import fill
from napari_tinysam.everything.instances import (
    Guide,
    answers_to,
    best_answer,
    instances_of,
)
from napari_tinysam.objects.confirmation import confirmed
from napari_tinysam.objects.finding import ObjectSettings, segment_objects
from tinysam_training.calibration.image import (
    WORTH,
    CalibrationImage,
    best_confidence,
    mean_over,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_tinysam.everything import Proposal
    from napari_tinysam.inference.predictor import Predictor

_GUIDES: tuple[tuple[Guide, ...], ...] = (
    ("point_and_box",),
    ("point",),
    ("box",),
    ("point", "box", "point_and_box"),
)
_TRUSTS = (1.0, 0.5, 2.0)
_AGREEMENTS = (0.5, 0.3, 0.7, 0.8, 0.9, 1.0)

#: The least gain in mSA that justifies another prompt for every object: it at least doubles the
#: time.
_PROMPT_WORTH = 0.004

#: Low first: masks without support from the head count only as far as that raises mSA. None, no
#: such masks, comes last: with low scores they stay available to users who lower the confidence.
_FILL_WORTHS = (0.4, 0.6, 0.8, 1.0, None)


def object_settings(
    images: Sequence[CalibrationImage],
) -> tuple[ObjectSettings, float]:
    """Tune how maps become objects: each setting in turn, twice, by mSA of the head alone.

    Parameters
    ----------
    images : sequence of CalibrationImage
        With maps.

    Returns
    -------
    (ObjectSettings, float)
        The settings, and mSA with them.
    """

    def msa(objects: ObjectSettings) -> float:
        return mean_over(
            images,
            lambda one: one.msa(segment_objects(_maps(one), one.upscaler, objects)),
        )

    choices: dict[str, tuple[float, ...]] = {
        "foreground_threshold": (0.5, 0.4, 0.45, 0.55, 0.6, 0.65),
        "seed_height": (0.15, 0.08, 0.1, 0.12, 0.2, 0.25, 0.3),
        "least_depth": (0.3, 0.2, 0.4, 0.5),
        "smoothing": (0.5, 0.0, 1.0, 1.5),
        # No more: objects of a seventh of the usual area may well be real.
        "minimum_share": (0.1, 0.05, 0.15),
    }
    objects = ObjectSettings()
    best = msa(objects)
    for name, values in [*choices.items(), *choices.items()]:
        for value in values:
            other = replace(objects, **{name: value})
            if other != objects and (found := msa(other)) > best + WORTH:
                objects, best = other, found
    return objects, best


def find_objects(images: Sequence[CalibrationImage], objects: ObjectSettings) -> None:
    """Turn the head's maps into objects.

    Parameters
    ----------
    images : sequence of CalibrationImage
        With maps; the objects are stored in them.
    objects : ObjectSettings
    """
    for one in images:
        maps = _maps(one)
        labels = segment_objects(maps, one.upscaler, objects)
        sure = confirmed(labels, maps, one.upscaler)
        one.instances = instances_of(labels, sure)


def prompt(predictor: Predictor, images: Sequence[CalibrationImage]) -> None:
    """Prompt for every object of the head with every kind of prompt.

    Parameters
    ----------
    predictor : Predictor
    images : sequence of CalibrationImage
        With their objects; the answers are stored in them.
    """
    report = SearchReport()
    kinds: tuple[Guide, ...] = ("point", "box", "point_and_box")
    for one in images:
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


def guidance(
    images: Sequence[CalibrationImage], guided: GuidedSettings, labels: LabelSettings
) -> GuidedSettings:
    """Choose prompts, and when the decoder's answer replaces the head's outline, by mSA.

    Parameters
    ----------
    images : sequence of CalibrationImage
        With answers.
    guided : GuidedSettings
    labels : LabelSettings
        Without a confidence yet.
    """

    def msa(settings: GuidedSettings) -> float:
        return mean_over(
            images,
            lambda one: one.msa(label_proposals(_guided(one, settings), labels).labels),
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
            if other != chosen and (found := msa(other)) > best + WORTH:
                chosen, best = other, found
    return chosen


def fewest_prompts(
    images: Sequence[CalibrationImage], guided: GuidedSettings, labels: LabelSettings
) -> tuple[GuidedSettings, LabelSettings]:
    """Choose a confidence, and the fewest prompts that are worth their time.

    Where the head's outlines stay, prompts only give their scores: one per object may be enough.
    """
    found = []
    for guides in sorted({guided.guides, *_GUIDES}, key=lambda g: (len(g), g)):
        other = replace(guided, guides=guides)

        def proposals(
            one: CalibrationImage, other: GuidedSettings = other
        ) -> Proposals:
            return _guided(one, other)

        found.append((other, *best_confidence(images, proposals, labels)))
    # The first of equals has the fewest prompts.
    chosen, settings, _ = max(
        found, key=lambda each: each[-1] - _PROMPT_WORTH * len(each[0].guides)
    )
    return chosen, settings


def worth_of_finds(
    predictor: Predictor,
    images: Sequence[CalibrationImage],
    guided: GuidedSettings,
    labels: LabelSettings,
    search: SearchSettings,
) -> tuple[GuidedSettings, float]:
    """Choose the score of masks found in unexplained foreground, at a given confidence.

    Parameters
    ----------
    predictor : Predictor
    images : sequence of CalibrationImage
        The masks are stored in them.
    guided : GuidedSettings
    labels : LabelSettings
        With the confidence of the guided search.
    search : SearchSettings
        Of the grid that fills in.

    Returns
    -------
    (GuidedSettings, float)
        The settings, and mSA of the whole guided search.
    """
    whole = replace(guided, fill_worth=1.0)
    for one in images:
        explained = [each.mask for each in _members(one, whole)]
        seen = one.upscaler.full(_maps(one)[0])
        report = SearchReport()
        found = fill(predictor, one.embedding, seen, explained, whole, search, report)
        one.filled = [proposal for new in found for proposal in new]

    def msa(worth: float | None) -> float:
        def labelled(one: CalibrationImage) -> float:
            finds = [] if worth is None else one.filled
            finds = [replace(p, score=(worth or 0.0) * p.score) for p in finds]
            members = [*_members(one, whole), *finds]
            proposals = Proposals(members, one.shape)
            return one.msa(label_proposals(proposals, labels).labels)

        return mean_over(images, labelled)

    results = [(worth, msa(worth)) for worth in _FILL_WORTHS]
    best = max(mean for _, mean in results)
    worth, mean = next(each for each in results if each[1] >= best - WORTH)
    if worth is None:
        return replace(guided, fill=False), mean
    return replace(guided, fill_worth=worth), mean


def _maps(one: CalibrationImage) -> npt.NDArray[np.float32]:
    assert one.maps is not None
    return one.maps


def _guided(one: CalibrationImage, settings: GuidedSettings) -> Proposals:
    """Run the guided search without the points that fill in."""
    return Proposals(_members(one, settings), one.shape)


def _members(one: CalibrationImage, settings: GuidedSettings) -> list[Proposal]:
    members = []
    for number, instance in enumerate(one.instances):
        answers = [a for guide in settings.guides for a in one.answers[guide][number]]
        best = best_answer(
            instance, answers, trust=settings.trust, least_agreement=settings.agreement
        )
        members.append(best)
    return members
