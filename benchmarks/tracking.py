"""How well cells of movies are tracked, from true masks and from those of a model.

``python -m benchmarks.tracking --movies 3`` draws movies of 50 cells and 50 frames with divisions,
forgets which cell is which, tracks them, and judges the result by the figures of the Cell Tracking
Challenge; then the same with what auto-segmentation finds in each frame. ``--speed`` sets the usual
step of a cell in pixels (a cell is about 25 pixels wide). ``--real FOLDER`` takes NAME001.png and
NAME001_label.png instead, consecutive frames whose labels stay with their cells; ``--unnamed`` says
that the labels do not: then only what the tracks look like can be told. ``--write FOLDER`` keeps
the movies as a data set of the challenge.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import tifffile

from napari_tinysam.everything import label_proposals, segmentation_of
from napari_tinysam.inference.load import load_model
from napari_tinysam.volume.ctc import write_ctc
from napari_tinysam.volume.lineage import tracks_of
from napari_tinysam.volume.measuring import MeasuredFrames
from napari_tinysam.volume.tracking import Tracking, TrackSettings, track
from tinysam_training.evaluation.movies import judge_folders
from tinysam_training.synthetic.volumes import synthetic_movie

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_tinysam.inference.predictor import Predictor

    Frames = Sequence[npt.NDArray[np.integer[Any]]]


@dataclass(frozen=True)
class Movie:
    """A movie and the truth about it."""

    name: str
    images: Sequence[npt.NDArray[Any]]
    labels: Frames
    parents: dict[int, int]


def forgotten(frames: Frames) -> list[npt.NDArray[np.int64]]:
    """Give the objects of each frame numbers in any order."""
    rng = np.random.default_rng(0)
    found = []
    for frame in frames:
        ids, index = np.unique(frame, return_inverse=True)
        new = np.append(0, 1 + rng.permutation(int((ids > 0).sum())))
        new = new[-len(ids) :] if ids[0] else new
        found.append(new[index].reshape(frame.shape))
    return found


def segmented(predictor: Predictor, movie: Movie) -> tuple[Frames, float]:
    """Find the objects of all frames; returns also seconds a frame."""
    begun = time.perf_counter()
    found = []
    for image in movie.images:
        made = segmentation_of(predictor, image, "auto", tiles_of="off").run()
        found.append(label_proposals(made.proposals, made.settings).labels)
    return found, (time.perf_counter() - begun) / len(found)


def tracked(frames: Frames, settings: TrackSettings) -> tuple[Tracking, float, float]:
    """Track, and return CPU seconds for measuring and for tracking."""
    begun = time.process_time()
    measured = MeasuredFrames.of(frames)
    between = time.process_time()
    track(measured, settings)  # the first call loads libraries
    again = time.process_time()
    found = track(measured, settings)
    return found, between - begun, time.process_time() - again


def row(
    movie: Movie, name: str, frames: Frames, settings: TrackSettings, seconds: str = "–"
) -> str:
    """Track and judge; a line of the table."""
    found, measuring, tracking = tracked(frames, settings)
    with tempfile.TemporaryDirectory() as folder:
        truth, result = Path(folder) / "true", Path(folder) / "found"
        write_ctc(truth, movie.labels, tracks_of(movie.labels, movie.parents))
        write_ctc(
            result,
            [found.links.relabelled(n, frame) for n, frame in enumerate(frames)],
            found.tracks,
        )
        judged = judge_folders(truth, result)
    taken = sum(each.taken for each in found.divisions)
    right = len(set(movie.parents.values()))
    return (
        f"| {movie.name} | {name} | {found.way} | {judged.tra:.4f} | {judged.det:.4f} | "
        f"{judged.seg:.3f} | {judged.merged}/{judged.missing}/{judged.false} | "
        f"{judged.false_links}/{judged.missing_links}/{judged.wrong_links} | "
        f"{taken} of {right} | {seconds} | {measuring:.2f} | {tracking:.3f} |"
    )


HEAD = (
    "| movie | masks | way | TRA | DET | SEG | merged/missing/false | false/missing/wrong links | "
    "divisions taken, true | s a frame, segmenting | s, measuring | s, tracking |\n"
    + "|---" * 12
    + "|"
)


def real(folder: Path) -> list[Movie]:
    """Read frames by the numbers in their names."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in folder.glob("*_label.png"):
        name = re.fullmatch(r"(.*?)(\d+)_label\.png", path.name)
        if name is not None:
            found.setdefault(name.group(1), []).append((int(name.group(2)), path))
    movies = []
    for name, files in sorted(found.items()):
        paths = [path for _, path in sorted(files)]
        images = [iio.imread(str(p).replace("_label.png", ".png")) for p in paths]
        labels = [np.asarray(iio.imread(path), np.int64) for path in paths]
        movies.append(Movie(f"{folder.parent.name} {name}", images, labels, {}))
    return movies


def write(folder: Path, movie: Movie) -> None:
    """Write frames, and the truth beside them, as the Cell Tracking Challenge has them."""
    folder.mkdir(parents=True)
    for number, image in enumerate(movie.images):
        tifffile.imwrite(folder / f"t{number:03d}.tif", image, photometric="minisblack")
    truth = folder.with_name(f"{folder.name}_GT") / "TRA"
    write_ctc(truth, movie.labels, tracks_of(movie.labels, movie.parents))
    for path in sorted(
        truth.iterdir()
    ):  # annotations are called otherwise than results
        name = path.name.replace("mask", "man_track").replace("res_", "man_")
        path.rename(path.with_name(name))


def described(name: str, frames: Frames, settings: TrackSettings) -> str:
    """What can be told without the truth about tracks."""
    measured = MeasuredFrames.of(frames)
    found = track(measured, settings)
    objects = sum(map(len, measured.overlaps.ids))
    lengths = [len(each.frames) for each in found.tracks]
    pieces = len(lengths) + sum(len(each.runs()) - 1 for each in found.tracks)
    return (
        f"{name}: {len(frames)} frames, typical IoU {measured.typical_overlap():.2f}, {found.way}; "
        f"{objects} objects in {len(lengths)} tracks (mean {np.mean(lengths):.1f} frames), "
        f"{pieces - len(lengths)} gaps closed, {sum(d.taken for d in found.divisions)} divisions "
        f"taken of {len(found.divisions)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--movies", type=int, default=3)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--cells", type=int, default=50)
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--speed", type=float, default=1.6)
    parser.add_argument("--way", default="auto", choices=("auto", "overlap", "centres"))
    parser.add_argument("--division", type=float, default=TrackSettings.division)
    parser.add_argument("--model", default="default")
    parser.add_argument("--no-model", action="store_true")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--unnamed", action="store_true")
    parser.add_argument("--write", type=Path, help="write the movies, as a data set")
    asked = parser.parse_args()
    settings = TrackSettings(asked.way, division=asked.division)
    if asked.real is not None:
        movies = real(asked.real)
    else:
        shape = (asked.frames, asked.size, asked.size)
        movies = []
        for seed in range(asked.movies):
            rng = np.random.default_rng(2000 + seed)
            made = synthetic_movie(rng, shape, asked.cells, speed=asked.speed)
            name = f"synthetic {seed}, speed {asked.speed:g}"
            movies.append(
                Movie(name, list(made.image), list(made.labels), made.parents)
            )
    if asked.write is not None:
        for number, movie in enumerate(movies, start=1):
            write(asked.write / f"{number:02d}", movie)
    predictor = (
        None if asked.no_model else load_model(asked.model, convert=lambda _: None)
    )
    lines = [] if asked.unnamed else [HEAD]
    for movie in movies:
        ways: dict[str, tuple[Frames, str]] = {"true": (forgotten(movie.labels), "–")}
        if predictor is not None:
            masks, spent = segmented(predictor, movie)
            ways[predictor.name] = masks, f"{spent:.2f}"
        for name, (frames, seconds) in ways.items():
            if asked.unnamed:
                lines.append(described(f"{movie.name}, {name}", frames, settings))
            else:
                lines.append(row(movie, name, frames, settings, seconds))
        sys.stderr.write(f"{movie.name} done\n")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
