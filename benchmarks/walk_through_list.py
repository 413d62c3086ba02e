"""A list of images from the folder to labels, with a model that is adapted on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from qtpy.QtWidgets import QFileDialog
from scipy import ndimage as ndi

from benchmarks.hand import Walk, iou
from benchmarks.poorly_known import write_sheathed
from napari_tinysam.ui.canvas.preview import OBJECT
from tinysam_training.data import find_pairs

#: An outline is good from this IoU on; below it the hand goes on.
_GOOD = 0.8

#: Most that is done to an outline after the first click: twice another, a box, three corrections.
_STEPS = 6

#: Real images have at least so many objects.
_LEAST = 12


def images(
    folder: Path, minutes: float, data: Path | None = None, model: str = "default"
) -> None:
    """Annotate three of ten images, adapt, use, segment the rest, and correct it.

    The images are synthetic fibres; or ten of ``data/train``, those with the fewest objects from a
    dozen on.
    """
    folder = folder / "fibres"
    truth = write_sheathed(folder) if data is None else _write_real(folder, data)
    walk = Walk()
    session, dock = walk.session, walk.dock
    session.set_model(model, session.device)
    QFileDialog.getExistingDirectory = staticmethod(lambda *_: str(folder))
    walk.press(dock.images.folder)
    walk.presses += 1  # the dialog
    for at in range(3):
        _reach(walk, at)
        for label in np.unique(truth[at])[1:]:
            _outline(walk, truth[at] == label)
        walk.key("O")
    walk.told("list: annotate three images", _in_files(folder, truth, range(3)))

    _reach(walk, 3)
    walk.press(dock.images.adapt)
    session.adapting.set(minutes=minutes)
    walk.presses += 2  # how long it takes: the list, and its entry
    walk.press(dock.adapt.adapt)
    walk.wait(lambda: session.adapting.result is not None)
    result = session.adapting.result
    if result.model:
        walk.press(dock.adapt.use)
    walk.told("list: adapt, use", result.text)
    if not result.model:
        return

    walk.press(dock.adapt.rest)
    _reach(walk, 3)
    walk.key("A")
    walk.press(dock.auto.accept)
    rest = range(4, len(truth))
    walk.told("list: the rest", _in_files(folder, truth, rest))
    for at in range(3, len(truth)):
        _reach(walk, at)
        _correct_objects(walk, truth[at])
        walk.key("O")
    walk.wait(lambda: session.listed.images.entries[-1].saved)
    walk.told("list: correct the rest", _in_files(folder, truth, range(3, len(truth))))
    walk.press(dock.adapt.back)  # napari keeps the choice
    walk.viewer.close()


def _write_real(folder: Path, data: Path, count: int = 10) -> list[Any]:
    """Copy images of a set; return their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    read = [entry.read() for entry in find_pairs(data, "train")]
    enough = [image for image in read if len(image.boxes) >= _LEAST]
    chosen = sorted(enough, key=lambda image: len(image.boxes))[:count]
    for number, image in enumerate(chosen):
        tifffile.imwrite(folder / f"fibres_{number:02}.tif", image.rgb)
    return [image.labels[0] for image in chosen]


def _reach(walk: Walk, at: int) -> None:
    """Wait until an image of the list can be clicked."""
    session = walk.session
    walk.wait(
        lambda: (
            session.listed.current is not None
            and session.listed.images.at == at
            and session.status.kind.name == "READY"
        )
    )


def _outline(walk: Walk, mask: Any) -> None:
    """Click an object; take another outline, draw a box, correct it, until it is good."""
    ys, xs = np.nonzero(mask)
    walk.point_at(ys.mean(), xs.mean())
    walk.click()
    walk.wait(lambda: walk.session.candidate_scores)
    for step in range(_STEPS):
        current = _current(walk, mask.shape)
        if iou(current, mask) >= _GOOD:
            break
        if step < 2:
            walk.key("W")
        elif step == 2:
            walk.shifted("C")
            walk.box((ys.min() - 1, xs.min() - 1), (ys.max() + 1, xs.max() + 1))
        else:
            missing, extra = (
                _deepest(part) for part in (mask & ~current, current & ~mask)
            )
            walk.point_at(*max(missing, extra)[1:])
            walk.click(right=extra > missing)
        walk.wait(lambda: walk.session.candidate_scores)
        walk.wait(lambda: True)
    walk.key("C")
    walk.wait(lambda: not walk.session.can_commit)


def _deepest(part: Any) -> tuple[float, int, int]:
    """Return how deep the deepest pixel of a part lies, and its y and x."""
    depth = ndi.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(depth[y, x]), int(y), int(x)


def _current(walk: Walk, shape: tuple[int, ...]) -> Any:
    """Return the mask of the object that is clicked."""
    full = np.zeros(shape, bool)
    shown = walk.session._parts.masks.preview.shown
    for mask, look in shown.looks if shown is not None else ():
        if look == OBJECT:
            full[mask.slices] |= mask.mask
    return full


def _correct_objects(walk: Walk, truth: Any) -> None:
    """Delete what is no object, and click what is missing or poor."""
    target = walk.session.target
    found = np.asarray(target.data) if target is not None else np.zeros_like(truth)
    wanted = []
    kept = set()
    for label in np.unique(truth)[1:]:
        mask = truth == label
        ids, counts = np.unique(found[mask], return_counts=True)
        at = int(ids[counts.argmax()])
        if at and iou(found == at, mask) >= _GOOD:
            kept.add(at)
        else:
            wanted.append(mask)
    for label in set(np.unique(found)[1:].tolist()) - kept:
        y, x = np.argwhere(found == label)[np.count_nonzero(found == label) // 2]
        walk.point_at(y, x)
        walk.key("Delete")
    for mask in wanted:
        _outline(walk, mask)


def _in_files(folder: Path, truth: list[Any], which: Any) -> str:
    """Compare the label files with the truth."""
    good = total = made = 0
    for at in which:
        file = folder / f"fibres_{at:02}_labels.tif"
        found = tifffile.imread(file) if file.exists() else np.zeros_like(truth[at])
        made += len(np.unique(found)) - 1
        for label in np.unique(truth[at])[1:]:
            mask = truth[at] == label
            counts = np.bincount(found[mask])
            counts[0] = 0
            total += 1
            good += bool(counts.any()) and iou(found == counts.argmax(), mask) >= _GOOD
    return f"{made} objects for {total}, {good} good"
