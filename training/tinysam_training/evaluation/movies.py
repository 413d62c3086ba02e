"""Figures of tracked movies as the Cell Tracking Challenge has them: SEG, DET and TRA.

SEG is the mean IoU of true objects with the found one that covers more than half of each; DET and
TRA say how much of the work of drawing the truth by hand a result saves: in objects, and with the
links between them (Maška et al., Bioinformatics 2014; Matula et al., PLoS ONE 2015, with the
weights there: 5 for a merged object, 10 for a missing one, 1 for a false one; 1, 1.5 and 1 for
false, missing and wrong links). Objects are matched here; the operations are counted by
py-ctcmetrics (BSD-2), which is optional.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import DataError, FileError, TinySAMError, sentence
from napari_tinysam.metrics import object_overlaps
from napari_tinysam.volume.ctc import TrackedFrames, read_ctc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

#: Names of frames that are segmented wholly, and of single planes of them.
_SEGMENTED = re.compile(r"man_seg_?(\d+)(?:_(\d+))?\.tif", re.IGNORECASE)


@dataclass(frozen=True)
class MovieFigures:
    """How good a result is.

    Attributes
    ----------
    seg, det, tra : float
        0 to 1, higher is better.
    objects, links : int
        True objects of all frames, and true links.
    merged, missing, false : int
        Found objects that cover several true ones (each more than one counts), true ones that are
        not found, and found ones that are not true.
    false_links, missing_links, wrong_links : int
        Of wrong links the kind is wrong: a daughter instead of the same object, or the reverse.
    """

    seg: float
    det: float
    tra: float
    objects: int
    links: int
    merged: int
    missing: int
    false: int
    false_links: int
    missing_links: int
    wrong_links: int

    def figures(self) -> dict[str, float]:
        """Name the figures, as JSON has them."""
        return asdict(self)


def judge_folders(
    truth: Path, result: Path, *, progress: Callable[[int], None] | None = None
) -> MovieFigures:
    """Judge a result folder.

    Parameters
    ----------
    truth : Path
        ``01_GT`` of a data set, with TRA and SEG; or a folder with ``man_track.txt`` and frames, or
        with a result that is true. Without SEG, those frames are taken for it as well.
    result : Path
        With ``res_track.txt`` and ``mask000.tif`` ….
    progress : callable, optional
        Called with the frames that are judged.

    Raises
    ------
    FileError
        If a folder is not of the challenge, or they are not of one movie.
    DataError
        If the truth shows no object.
    TinySAMError
        If py-ctcmetrics is missing.
    """
    count = _library()
    true = read_ctc(truth / "TRA" if (truth / "TRA").is_dir() else truth)
    found = read_ctc(result)
    if len(true) != len(found):
        raise FileError(
            f"{result} has {len(found)} frames, the truth {len(true)}: they are of two movies."
        )
    matches = []
    for number in range(len(true)):
        matches.append(_matched(true.frame(number), found.frame(number), number))
        if progress is not None:
            progress(number + 1)
    segmented = _segmented(truth / "SEG", found) or matches
    labels = [[each.true.tolist() for each in matches]]
    labels += [[each.found.tolist() for each in matches]]
    pairs = [[each.pairs[:, side].tolist() for each in matches] for side in (0, 1)]
    if not any(labels[0]):
        raise DataError(f"{truth} shows no object.")
    given = [_rows(truth, true), _rows(result, found), *labels, *pairs]
    if any(labels[1]):
        work = {name: int(value) for name, value in count(*given).items()}
    else:  # nothing was found, which the library does not expect
        links = sum(len(t.frames) - 1 + bool(t.parent) for t in true.tracks)
        missing = sum(map(len, labels[0]))
        work = {"FN": missing, "num_vertices": missing, "EA": links, "num_edges": links}
    return _figures(segmented, work)


@dataclass(frozen=True, eq=False)
class _Matched:
    """The objects of a frame: labels, pairs of labels, and the IoU of each pair."""

    true: npt.NDArray[np.int64]
    found: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.int64]
    iou: npt.NDArray[np.float64]


def _matched(
    true: npt.NDArray[np.integer[Any]], found: npt.NDArray[np.integer[Any]], number: int
) -> _Matched:
    """Match each true object to the found one that covers more than half of it."""
    if true.shape != found.shape:
        raise FileError(
            f"Frame {number} of the result is {' × '.join(map(str, found.shape))}, of the truth "
            f"{' × '.join(map(str, true.shape))}."
        )
    overlaps = object_overlaps(true, found)
    ids, areas = np.unique(true[true > 0], return_counts=True)
    _, sizes = np.unique(found[found > 0], return_counts=True)
    rows, columns = overlaps.rows, overlaps.columns
    # IoU = c / (a + b − c), so c = IoU (a + b) / (1 + IoU).
    common = overlaps.iou * (areas[rows] + sizes[columns]) / (1 + overlaps.iou)
    covers = 2 * np.rint(common) > areas[rows]
    names = overlaps.found_ids.astype(np.int64)
    pairs = np.stack([ids[rows[covers]], names[columns[covers]]], axis=1)
    return _Matched(
        ids.astype(np.int64), names, pairs.astype(np.int64), overlaps.iou[covers]
    )


def _segmented(folder: Path, found: TrackedFrames) -> list[_Matched]:
    """Match the frames, or planes of them, that are segmented wholly."""
    import tifffile

    if not folder.is_dir():
        return []
    matches = []
    for path in sorted(folder.iterdir()):
        name = _SEGMENTED.fullmatch(path.name)
        if name is None:
            continue
        number = int(name.group(1))
        if number >= len(found):
            raise FileError(
                f"{path.name} is of frame {number}, which the result lacks."
            )
        labels = found.frame(number)
        if name.group(2) is not None and int(name.group(2)) < len(labels):
            labels = labels[int(name.group(2))]
        try:
            true = tifffile.imread(path)
        except Exception as error:
            raise FileError(sentence(error, f"{path} cannot be read")) from error
        matches.append(_matched(true, labels, number))
    return matches


def _rows(folder: Path, movie: TrackedFrames) -> npt.NDArray[np.int64]:
    """(N, 4) label, first frame, last frame and parent of each track."""
    for each in movie.tracks:
        if len(each.runs()) > 1:
            raise FileError(
                f"{folder}: object {each.label} is away for some frames; the challenge knows no "
                "gaps."
            )
    rows = [(t.label, t.first, t.last, t.parent) for t in movie.tracks]
    return np.array(rows, np.int64).reshape(-1, 4)


def _figures(segmented: Sequence[_Matched], work: dict[str, int]) -> MovieFigures:
    of = work.get
    objects, links = work["num_vertices"], work["num_edges"]
    detection = 5 * of("NS", 0) + 10 * of("FN", 0) + of("FP", 0)
    linking = of("ED", 0) + 1.5 * of("EA", 0) + of("EC", 0)
    by_hand = 10 * objects
    true = sum(len(each.true) for each in segmented)
    return MovieFigures(
        seg=float(sum(each.iou.sum() for each in segmented) / max(true, 1)),
        det=1 - min(detection / by_hand, 1),
        tra=1 - min((detection + linking) / (by_hand + 1.5 * links), 1),
        objects=objects,
        links=links,
        merged=of("NS", 0),
        missing=of("FN", 0),
        false=of("FP", 0),
        false_links=of("ED", 0),
        missing_links=of("EA", 0),
        wrong_links=of("EC", 0),
    )


def _library() -> Callable[..., dict[str, Any]]:
    try:
        from ctc_metrics.utils.representations import (
            count_acyclic_graph_correction_operations as count,
        )
    except ImportError as error:
        raise TinySAMError(
            "Figures of the Cell Tracking Challenge need py-ctcmetrics: pip install "
            "'napari-tinysam[tracks]'."
        ) from error
    found: Callable[..., dict[str, Any]] = count
    return found
