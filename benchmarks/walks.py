"""A stack, a movie and a list of images from the opened dock to files, with mouse and keys.

    xvfb-run -a python -m benchmarks.walks [FOLDER]

Four walks on synthetic data with the bundled model, in a real window (``--data`` and ``--model``
take real images and another start for the last one): one nucleus of a stack is followed,
corrected, ended and saved; all its planes are segmented, linked and saved; the cells of a movie are
tracked, corrected and exported in three forms; of ten images of a kind that the model is poor at
three are annotated, the model is adapted to them, the rest is segmented and corrected. Counts what
is pressed (clicks and keys) and seconds, and compares what the files hold with the truth. File
dialogs are answered with what they suggest, one key each; going to a plane is one press.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from qtpy.QtWidgets import QFileDialog

from benchmarks.hand import Walk, iou
from benchmarks.walk_through_list import images
from napari_tinysam.volume.ctc import read_ctc
from napari_tinysam.volume.exchange.geff_store import read_geff
from napari_tinysam.volume.exchange.tables import read_csv
from tinysam_training.synthetic.volumes import (
    SyntheticStack,
    synthetic_movie,
    synthetic_volume,
)

#: The nucleus of the stack that is followed, and the plane in which it is clicked.
_NUCLEUS, _PLANE = 11, 14


def stack(folder: Path) -> None:
    """Follow one nucleus; then segment and link all planes."""
    made = synthetic_volume(np.random.default_rng(1002), (30, 256, 256), 12)
    walk = Walk(made.image, "stack", ("z", "y", "x"))
    truth = made.labels == _NUCLEUS
    path = folder / "stack_labels.tif"
    walk.go_to(_PLANE)
    walk.point(_PLANE, truth[_PLANE])
    walk.click()
    walk.wait(lambda: walk.session.can_commit)
    walk.key("G")
    walk.wait(lambda: walk.session.follower.current and not walk.busy)
    walk.key("J")
    weakest = int(walk.viewer.dims.current_step[0])
    walk.point(weakest, walk.session.target.data[weakest] > 0)
    walk.key("E")
    walk.click()
    walk.wait(lambda: walk.session.can_commit)
    walk.key("C")
    last = int(np.flatnonzero(walk.session.target.data.any((1, 2)))[-1])
    walk.go_to(last - 1)
    walk.key("H")
    walk.save(path)
    found = tifffile.imread(path)
    planes = np.flatnonzero(found.any((1, 2)))
    where = f"planes {planes[0]} to {planes[-1]}"
    walk.told("stack: follow one, correct", f"IoU {iou(found > 0, truth):.2f}, {where}")

    walk.segment_all()
    walk.save(path)
    found = tifffile.imread(path)
    ious = []
    for label in np.unique(made.labels)[1:]:
        mask = made.labels == label
        ids = np.bincount(found[mask])
        ids[0] = 0
        ious.append(iou(found == ids.argmax(), mask))
    number = len(np.unique(found)) - 1
    result = f"{number} objects of {len(ious)}, mean IoU {np.mean(ious):.2f}"
    walk.told("stack: all planes, linked", result)
    walk.viewer.close()


def movie(folder: Path) -> None:
    """Segment and track; confirm, cut, link and follow; export."""
    made = synthetic_movie(np.random.default_rng(3), (24, 256, 256), 14)
    walk = Walk(made.image, "movie", ("t", "y", "x"))
    walk.segment_all()
    walk.told("movie: all frames, tracked", walk.session.tracking.note)
    correct(walk, made)
    box = walk.dock.link.tracks.files
    QFileDialog.getExistingDirectory = staticmethod(lambda *_: str(folder))
    named = staticmethod(lambda *given: (str(folder / Path(given[2]).name), ""))
    QFileDialog.getSaveFileName = named
    for at, form in enumerate(("Cell Tracking Challenge", "GEFF", "CSV")):
        box.form.show_choice(form)
        walk.presses += 2 if at else 0  # the list, and its entry
        walk.press(box.export)
        walk.presses += 1  # the dialog
    frames = read_ctc(folder / "movie_tracks")
    places = read_geff(folder / "movie_tracks.geff")
    rows = read_csv(folder / "movie_tracks.csv")
    numbers = {len(frames.tracks), len(places.tracks()), len(rows.tracks())}
    divided = {len(set(each.parents.values())) for each in (places, rows)}
    truth = len(np.unique(made.labels)) - 1, len(set(made.parents.values()))
    result = f"tracks {numbers} of {truth[0]}, divisions {divided} of {truth[1]}"
    walk.told("movie: correct, export", result)
    walk.viewer.close()


def correct(walk: Walk, made: SyntheticStack) -> None:
    """Refuse and confirm a division, cut a track, link it again, follow another anew."""
    labels = made.labels
    child, others = next(iter(made.parents)), set(made.parents)
    born = int(np.flatnonzero((labels == child).any((1, 2)))[0])
    walk.go_to(born)
    walk.point(born, labels[born] == child)
    walk.shifted("D")
    walk.key("D")
    resting = [
        label
        for label in np.unique(labels[0])[1:]
        if (labels == label).any((1, 2)).all() and label not in others
    ]
    cut, again = resting[:2]
    walk.point(born, labels[born] == cut)
    walk.shifted("K")
    walk.go_to(born - 1)
    walk.key("K")
    walk.go_to(born)
    walk.key("K")
    walk.point(born, labels[born] == again)
    walk.shifted("G")
    walk.wait(lambda: not walk.busy)


def main() -> None:
    """Do all four, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="keep the files there")
    parser.add_argument("--only", choices=("stack", "movie", "images"))
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="for adapting to the images"
    )
    parser.add_argument("--data", type=Path, help="real images instead, with labels")
    parser.add_argument("--model", default="default", help="to begin with")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = given.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("NAPARI_TINYSAM_MODELS", str(folder / "models"))
        if given.only in (None, "stack"):
            stack(folder)
        if given.only in (None, "movie"):
            movie(folder)
        if given.only in (None, "images"):
            images(folder, given.minutes, given.data, given.model)


if __name__ == "__main__":
    main()
