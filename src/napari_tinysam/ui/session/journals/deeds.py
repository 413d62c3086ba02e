"""What the steps of a session say in the journal: names, and arguments that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from napari_tinysam.journal.prompted import mask_to_json, prompts_to_json
from napari_tinysam.ui.state.drafts import PlaneDrafts
from napari_tinysam.ui.state.history import Deed

if TYPE_CHECKING:
    from napari_tinysam.everything import LabelSettings, Proposals
    from napari_tinysam.inference.candidates import Candidates
    from napari_tinysam.inference.drafts import ObjectDraft
    from napari_tinysam.labels import Overlap
    from napari_tinysam.ui.state.history import Step
    from napari_tinysam.ui.state.images import ImageState
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.seeing import SeenPlane

#: Names of steps that say nothing of themselves, by their text; other texts are names.
_NAMES = {
    "point": "prompt",
    "points": "prompt",
    "box": "prompt",
    "boxes": "prompt",
    "prompts of a layer": "prompt",
    "clear": "prompt",
    "next object": "prompt",
    "selection": "select",
    "choice of mask": "choose",
    "split here": "split",
    "accept all": "accept",
    "discard": "reject",
    "filter": "setting",
    "auto-segment": "propose",
    "auto-segment all": "fill",
    "link planes": "link",
    "linking": "link",
    "tracking": "track",
    "painting": "paint",
}

#: The action that tells of all prompts that are not committed.
DRAFTS = "drafts"

#: Actions in which the model takes part.
BY_MODEL = frozenset({"prompt", "choose", "commit", "accept", "propose", "fill"}) | {
    "follow"
}


def plane_to_json(plane: Plane) -> dict[str, Any]:
    """Say which plane of an image it is: its index on each axis, None on those it has."""
    told: dict[str, Any] = {"plane": list(plane.index)}
    if plane.transposed:
        told["transposed"] = True
    return told


def deed_of(step: Step) -> Deed:
    """Say what a step was: its own arguments, its text, its plane, and the drafts it leaves."""
    name = step.deed.name or _NAMES.get(step.text, step.text)
    arguments: dict[str, Any] = {**plane_to_json(step.plane), **step.deed.arguments}
    if step.text != name:
        arguments["text"] = step.text
    if step.after is not step.before and step.after != step.before:
        arguments["drafts"] = drafts_to_json(step.before, step.after)
    return Deed(name, arguments, step.deed.ids)


def drafts_to_json(before: PlaneDrafts, after: PlaneDrafts) -> dict[str, Any]:
    """Say which drafts a step leaves: how many of the first stay, and those that follow."""
    old, new = before.objects, after.objects
    keep = 0
    while keep < min(len(old), len(new)) and old[keep] == new[keep]:
        keep += 1
    return {"keep": keep, "then": [_draft(draft) for draft in new[keep:]]}


def open_drafts_to_json(state: ImageState) -> list[dict[str, Any]]:
    """Say what is not committed on each plane of an image."""
    return [
        {**plane_to_json(plane), "drafts": drafts_to_json(PlaneDrafts(()), drafts)}
        for plane, drafts in state.all_drafts.items()
    ]


def _draft(draft: ObjectDraft) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if draft.points:
        told["points"] = [[point.y, point.x, point.label] for point in draft.points]
    if draft.box is not None:
        x0, y0, x1, y1 = draft.box
        told["box"] = [y0, x0, y1, x1]
    if draft.candidate is not None:
        told["candidate"] = draft.candidate
    if draft.edited is not None:
        told["id"] = draft.edited.label
        told["mask"] = mask_to_json(draft.edited.mask)
    return told


def commit_deed(
    plane: Plane,
    seen: SeenPlane,
    overlap: Overlap,
    objects: Sequence[tuple[int, ObjectDraft, Candidates, float]],
) -> Deed:
    """Say what was committed.

    Parameters
    ----------
    plane : Plane
    seen : SeenPlane
        How the model saw the plane.
    overlap : Overlap
        What became of objects that were there.
    objects : sequence of (int, ObjectDraft, Candidates, float)
        Id, draft, masks, and seconds of work of each.
    """
    limits = seen.limits or seen.found_limits()
    contrast = "percentiles" if limits is None else list(limits)
    told = []
    for label, draft, found, seconds in objects:
        candidate = found.best if draft.candidate is None else draft.candidate
        mask = None if draft.edited is None else draft.edited.mask
        told.append(
            {
                "id": label,
                "origin": "clicks" if draft.points or draft.box is None else "box",
                "plane": list(plane.index),
                "prompts": prompts_to_json(
                    [(point.x, point.y, point.label) for point in draft.points],
                    draft.box,
                    mask,
                ),
                "candidate": candidate,
                "chosen": draft.candidate is not None,
                "score": round(found.scores[candidate], 4),
                "seconds": round(seconds, 2),
                "look": list(found.look),
            }
        )
    arguments = {"objects": told, "contrast": contrast, "overlap": overlap.value}
    return Deed("commit", arguments, tuple(label for label, *_ in objects))


def accept_deed(
    plane: Plane,
    proposals: Proposals,
    settings: LabelSettings,
    numbers: Sequence[int],
    labels: Sequence[int],
    seconds: float,
    *,
    all_shown: bool,
) -> Deed:
    """Say which proposals were accepted.

    Parameters
    ----------
    plane : Plane
    proposals : Proposals
    settings : LabelSettings
        By which they were shown.
    numbers, labels : sequence of int
        Of the proposals, and the ids they got; 0 for what had no free pixel.
    seconds : float
        Of work on all of them.
    all_shown : bool
        Whether all that were shown were accepted at once.
    """
    told: list[dict[str, Any]] = [
        {
            "id": label,
            "origin": "automatic",
            "plane": list(plane.index),
            "prompts": prompts_to_json((), None),
            "candidate": None,
            "score": round(float(proposals.scores[number]), 4),
            "seconds": round(seconds / len(numbers), 2),
        }
        for number, label in zip(numbers, labels, strict=True)
        if label
    ]
    arguments = {
        "objects": told,
        "all": all_shown,
        "settings": settings_to_json(settings),
    }
    return Deed("accept", arguments, tuple(each["id"] for each in told))


def paint_deed(plane: Plane, ids: Sequence[int], seconds: float) -> Deed:
    """Say what was painted.

    Parameters
    ----------
    plane : Plane
    ids : sequence of int
        What was painted with; 0 erases.
    seconds : float
        Of work on it.
    """
    told = [
        {
            "id": label,
            "origin": "painted",
            "plane": list(plane.index),
            "prompts": prompts_to_json((), None),
            "candidate": None,
            "score": None,
            "seconds": round(seconds / len(ids), 2),
        }
        for label in ids
        if label
    ]
    return Deed("paint", {"objects": told, "erased": 0 in ids}, tuple(ids))


def settings_to_json(settings: Any) -> dict[str, Any]:
    """Return the fields of settings; infinity, which JSON lacks, as None."""
    return {
        name: None if value == float("inf") else value
        for name, value in asdict(settings).items()
    }


def changed_settings(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings that have another value now."""
    return {
        name: value
        for name, value in now.items()
        if name not in before or before[name] != value
    }
