"""What the user clicked and corrected becomes training data: images, labels, prompts.

The layout is one that training reads: ``images/NAME.tif`` and ``labels/NAME.tif``, one plane each,
and ``annotation.yaml``. ``prompts/NAME.json`` tells how each object was asked for and corrected.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import FileError
from napari_tinysam.files.atomic import replacing, write_text
from napari_tinysam.files.writing import write_labels
from napari_tinysam.replay.image import ReplayedImage, View, view_of
from napari_tinysam.replay.planes import LabelPlane

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from napari_tinysam.journal.provenance import Provenance
    from napari_tinysam.journal.sparse import SparseLabels

#: What ``annotation.yaml`` says: nobody knows whether all objects were labelled.
_ANNOTATION = """\
# Pixels without a label may belong to objects that nobody clicked. If all objects of all images in
# this folder are labelled, write true: the model then learns from the background, too.
complete: false
"""


def write_training_data(
    told: Provenance, image: ReplayedImage, labels: SparseLabels, folder: Path
) -> list[Path]:
    """Write the planes that have objects as training data.

    Parameters
    ----------
    told : Provenance
    image : ReplayedImage
    labels : SparseLabels
        What is learned: the labels of the session.
    folder : Path
        Made if it does not exist; data of other images in it stay.

    Returns
    -------
    list of Path
        The images that were written.

    Raises
    ------
    FileError
        If something cannot be written, there is nothing to write, or an image of another content
        has the same name there.
    """
    name = Path(told.about.image.name or told.about.image.address).stem or "image"
    name = "".join("_" if letter in '/\\:*?"<>| ' else letter for letter in name)
    planes = list(_planes(told, image, labels))
    if not planes:
        raise FileError("There is no object in these labels to learn from.")
    content, written = told.about.image.content, []
    stems = ["_".join([name, *(f"{at:03d}" for at in place)]) for place, _, _ in planes]
    for stem in stems:
        _check_free(folder / "prompts" / f"{stem}.json", content)
    try:
        for part in ("images", "labels", "prompts"):
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder} cannot be made.") from error
    for stem, (_, view, ids) in zip(stems, planes, strict=True):
        prompts = {
            "image": told.about.image.to_json(),
            "plane": list(view.index),
            "transposed": view.transposed,
            "objects": _objects(told, view, ids),
        }
        path = folder / "images" / f"{stem}.tif"
        _write_image(path, image.plane(view))
        write_labels(folder / "labels" / f"{stem}.tif", ids)
        text = json.dumps(prompts, indent=1, ensure_ascii=False)
        write_text(folder / "prompts" / f"{stem}.json", text)
        written.append(path)
    if not (folder / "annotation.yaml").exists():
        write_text(folder / "annotation.yaml", _ANNOTATION)
    return written


def _check_free(path: Path, content: str) -> None:
    """Refuse to replace the data of another image of the same name."""
    try:
        there = json.loads(path.read_bytes())["image"]["content"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        there = None
    if there != content:
        raise FileError(
            f"{path.parent.parent} holds data of another image called {path.stem}; choose another "
            "folder."
        )


def _planes(
    told: Provenance, image: ReplayedImage, labels: SparseLabels
) -> Iterator[tuple[tuple[int, ...], View, npt.NDArray[Any]]]:
    """Give the planes with objects: their place in the labels, how they are seen, their ids."""
    views: dict[tuple[int | None, ...], View] = {}
    channel: int | None = None
    latest: View | None = None
    for each in told.actions:
        action = each.action
        if action.name == "setting" and "channel_axis" in action.arguments:
            channel = action.arguments["channel_axis"]
        if "plane" in action.arguments and action.ids:
            latest = view_of(action.arguments, image)
            views.setdefault(_place(latest, labels, channel), latest)
    seen = set()
    for start, _ in labels.chunks():
        index: list[int | None] = list(start)
        for axis in (-2, -1):
            index[axis] = None
        if channel is not None and len(labels.shape) == len(_index(latest, labels)):
            index[channel] = 0
        place = tuple(index)
        if place in seen:
            continue
        seen.add(place)
        view = views.get(place) or _elsewhere(place, latest, image)
        # Planes that were not shown as rows and columns of the file are left out.
        if view is None or view.index[-2:] != (None, None) or view.transposed:
            continue
        plane = LabelPlane(labels, view.index, channel_axis=channel)
        ids = plane.read(slice(0, plane.shape[0]), slice(0, plane.shape[1]))
        yield tuple(at for at in place if at is not None), view, _numbered(ids)


def _index(view: View | None, labels: SparseLabels) -> tuple[int | None, ...]:
    return tuple(None for _ in labels.shape) if view is None else view.index


def _place(
    view: View, labels: SparseLabels, channel: int | None
) -> tuple[int | None, ...]:
    """Return the index of a plane in the labels; that of the first channel."""
    index = list(view.index)
    if channel is not None and index[channel] is not None:
        index[channel] = 0
    return tuple(index[len(index) - len(labels.shape) :])


def _elsewhere(
    place: tuple[int | None, ...], latest: View | None, image: ReplayedImage
) -> View | None:
    """Return how a plane without actions would be seen: as the last one that was shown."""
    if latest is None:
        axes = image.data.ndim
        colours = axes - len(place) if axes - len(place) in (0, 1) else None
        return None if colours is None else View(place)
    lead = len(latest.index) - len(place)
    return View((*latest.index[:lead], *place), latest.transposed, latest.limits)


def _numbered(ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ids as the smallest type that a label file holds."""
    small = int(ids.max(initial=0)) <= np.iinfo(np.uint16).max
    return ids.astype(np.uint16 if small else np.uint32)


def _objects(
    told: Provenance, view: View, ids: npt.NDArray[Any]
) -> list[dict[str, Any]]:
    """Tell how each object of a plane was asked for: its first prompts, then corrections."""
    there = set(np.unique(ids).tolist()) - {0}
    rounds: dict[int, list[Mapping[str, Any]]] = {}
    for each in told.actions:
        if each.action.name != "commit" or _undone(told, each.action.step):
            continue
        for one in each.action.arguments.get("objects", ()):
            if int(one["id"]) in there and tuple(one["plane"]) == view.index:
                kept = ("prompts", "candidate", "chosen", "score", "look")
                rounds.setdefault(int(one["id"]), []).append(
                    {key: one[key] for key in kept if key in one}
                )
    return [
        {
            "id": label,
            **(told.objects[label].to_json() if label in told.objects else {}),
            "rounds": rounds.get(label, []),
        }
        for label in sorted(there)
    ]


def _undone(told: Provenance, step: int) -> bool:
    """Whether a step was undone in the end."""
    turns = [
        each.action.name
        for each in told.actions
        if each.action.step == step and each.action.name in ("undo", "redo")
    ]
    return bool(step and turns) and turns[-1] == "undo"


def _write_image(path: Path, pixels: npt.NDArray[Any]) -> None:
    import tifffile

    colours = pixels.ndim == 3
    with replacing(path) as file:
        tifffile.imwrite(
            file,
            np.ascontiguousarray(pixels),
            photometric="rgb" if colours else "minisblack",
            compression="zlib",
            metadata={"axes": "YXS" if colours else "YX"},
        )
