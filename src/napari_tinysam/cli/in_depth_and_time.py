"""``napari-tinysam evaluate --volume`` and ``--movie``: figures of stacks and tracked movies."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tinysam.cli.console import PartsBar, columns
from napari_tinysam.cli.protocols import cell, reported
from napari_tinysam.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tinysam.inference.predictor import Predictor

#: The folder of the frames of a sequence.
_SEQUENCE = re.compile(r"\d+")

_VOLUME = {
    "objects": "objects",
    "click1_iou": "IoU, 1 click",
    "planes": "planes followed",
    "followed": "of an object's",
    "noc90": "clicks to 0.9",
    "last_iou": "IoU, all clicks",
    "msa": "mSA",
    "ap50": "AP50",
}

_MOVIE = {
    "tra": "TRA",
    "det": "DET",
    "seg": "SEG",
    "objects": "objects",
    "merged": "merged",
    "missing": "missing",
    "false": "false",
    "false_links": "false links",
    "missing_links": "missing links",
    "wrong_links": "wrong links",
}


def by_volumes(
    load: Callable[..., Predictor],
    data: Path,
    asked: tuple[int, int, bool],
    most: int | None,
    path: Path | None,
) -> str:
    """Judge a model on stacks.

    Parameters
    ----------
    load : callable
        Loads the model for this many ``images``.
    data : Path
    asked : (int, int, bool)
        Objects of a stack, clicks on each, and whether planes are segmented without clicks.
    most : int, optional
        Stacks at most.
    path : Path or None
        A file for the figures.

    Returns
    -------
    str
        Lines for people.
    """
    from tinysam_training.evaluation.volumes import (
        VolumeSettings,
        find_volumes,
        judge_volume,
        mean_of,
    )

    entries = find_volumes(data)[:most]
    predictor = load(images=sum(len(each.image) for each in entries))
    found = []
    with PartsBar() as bar:
        for entry in entries:
            planes, labels = entry.read()

            def report(share: float, name: str = entry.name) -> None:
                bar.report(name, round(100 * share), 100)

            found.append(
                judge_volume(
                    predictor,
                    entry.name,
                    planes,
                    labels,
                    VolumeSettings(*asked),
                    report,
                )
            )
    every = [*found, mean_of(found)] if len(found) > 1 else found
    rows = _rows(_VOLUME, {each.name: each.figures() for each in every})
    figures = {**mean_of(found).figures(), "stacks": [f.figures() for f in found]}
    return reported("volume", predictor, figures, rows, path)


def by_movies(
    load: Callable[..., Predictor], model: Path, data: Path, path: Path | None
) -> str:
    """Judge a model on movies, or a result; otherwise as `by_volumes`.

    Parameters
    ----------
    load : callable
    model : Path
        The folder of a result, or the name of a model.
    data : Path
    path : Path or None
    """
    from napari_tinysam.files.atomic import write_text
    from tinysam_training.evaluation.movies import judge_folders

    sequences = _sequences(data)
    found: dict[str, dict[str, Any]] = {}
    with PartsBar() as bar:
        if (model / "res_track.txt").is_file():
            truth = sequences[0][1]
            if len(sequences) > 1:
                raise FileError(
                    f"{data} has {len(sequences)} sequences; give the one that {model} is of."
                )
            found[model.name] = judge_folders(truth, model).figures()
            lines = [str(model), columns(_rows(_MOVIE, found))]
            if path is not None:
                known = {"protocol": "movie", "result": str(model), **found[model.name]}
                write_text(path, json.dumps(known, indent=2, allow_nan=False))
                lines.append(f"{path}: these figures")
            return "\n".join(lines)
        predictor = load(images=100)
        for frames, truth in sequences:
            with tempfile.TemporaryDirectory() as folder:
                _track(predictor, frames, Path(folder), bar)
                found[frames.name] = judge_folders(truth, Path(folder)).figures()
    rows = _rows(_MOVIE, found)
    return reported("movie", predictor, {"sequences": found}, rows, path)


def _rows(
    headings: dict[str, str], figures: dict[str, dict[str, Any]]
) -> list[list[str]]:
    rows = [["", *headings.values()]]
    for name, known in figures.items():
        values = [known[key] for key in headings]
        shown = [str(v) if isinstance(v, int) else cell(v) for v in values]
        rows.append([name, *shown])
    return rows


def _sequences(data: Path) -> list[tuple[Path, Path]]:
    """List the folders of frames and of the truth about them."""

    def truth_of(folder: Path) -> Path:
        return folder.with_name(f"{folder.name}_GT")

    if truth_of(data).is_dir():
        return [(data, truth_of(data))]
    inside = sorted(data.iterdir()) if data.is_dir() else []
    found = [
        (folder, truth_of(folder))
        for folder in inside
        if _SEQUENCE.fullmatch(folder.name) and truth_of(folder).is_dir()
    ]
    if not found:
        raise FileError(
            f"{data} is no data set of the Cell Tracking Challenge: it holds no folder 01 with "
            "01_GT beside it."
        )
    return found


def _track(predictor: Predictor, frames: Path, folder: Path, bar: PartsBar) -> None:
    """Segment and track a sequence as `track` does, and write the result."""
    import numpy as np

    from napari_tinysam.batch.jobs import find_images
    from napari_tinysam.everything import label_proposals, segmentation_of
    from napari_tinysam.files.movie import open_movie
    from napari_tinysam.volume.ctc import write_ctc
    from napari_tinysam.volume.linking import linked_stack
    from napari_tinysam.volume.measuring import MeasuredFrames
    from napari_tinysam.volume.tracking import track

    movie = open_movie(frames, find_images([str(frames)]).images)
    labels = []
    for number, parts in enumerate(movie.parts, start=1):
        planes = []
        for series, index in parts:
            plane = series.read(index)
            made = segmentation_of(predictor, plane.pixels, "auto", **plane.options)
            done = made.run()
            planes.append(label_proposals(done.proposals, done.settings).labels)
        labels.append(linked_stack(np.stack(planes)) if movie.deep else planes[0])
        bar.report(frames.name, number, len(movie))
    found = track(MeasuredFrames.of(labels))
    relabelled = (found.links.relabelled(n, frame) for n, frame in enumerate(labels))
    write_ctc(folder, relabelled, found.tracks)
