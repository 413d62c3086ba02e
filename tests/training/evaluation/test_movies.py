"""SEG, DET and TRA against a plain restatement, and folders that do not fit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_tinysam.errors import DataError, FileError, TinySAMError
from napari_tinysam.volume.ctc import read_ctc, write_ctc
from napari_tinysam.volume.lineage import Track, tracks_of
from tinysam_training.evaluation.movies import judge_folders
from volume.plain_tra import plain_tra

pytest.importorskip("ctc_metrics")

FRAMES = np.zeros((4, 12, 30), np.uint16)
FRAMES[:, 1:7, 1:7] = 1
FRAMES[:2, 1:9, 12:20] = 2
FRAMES[2:, 1:9, 12:16] = 3
FRAMES[2:, 1:9, 17:21] = 4
PARENTS = {3: 2, 4: 2}


def save(folder: Path, frames: np.ndarray, parents: dict[int, int]) -> Path:
    write_ctc(folder, list(frames), tracks_of(list(frames), parents))
    return folder


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return save(tmp_path / "true", FRAMES, PARENTS)


def plain_seg(true: np.ndarray, found: np.ndarray) -> float:
    values = []
    for one, other in zip(true, found, strict=True):
        for label in np.unique(one[one > 0]).tolist():
            mask, best = one == label, 0.0
            for name in np.unique(other[mask]).tolist():
                both = (mask & (other == name)).sum()
                if name and 2 * both > mask.sum():
                    best = both / (mask | (other == name)).sum()
            values.append(best)
    return float(np.mean(values))


def test_the_truth_is_perfect(truth: Path) -> None:
    found = judge_folders(truth, truth)
    assert (found.seg, found.det, found.tra) == (1, 1, 1)
    assert (found.objects, found.links) == (10, 8)


@pytest.mark.parametrize(
    ("spoil", "name", "worth"),
    [
        (lambda f: f[1].__setitem__(f[1] == 1, 0), "missing", 1),
        (lambda f: f[0].__setitem__((slice(10, 12), slice(0, 4)), 9), "false", 1),
        (lambda f: f[3].__setitem__(f[3] == 4, 3), "merged", 1),
        (lambda f: f[2:].__setitem__(f[2:] == 1, 8), "missing_links", 1),
    ],
)
def test_each_mistake_is_counted(
    tmp_path: Path,
    truth: Path,
    spoil: Callable[[np.ndarray], None],
    name: str,
    worth: int,
) -> None:
    frames = FRAMES.copy()
    spoil(frames)
    found = judge_folders(truth, save(tmp_path / "found", frames, PARENTS))
    assert getattr(found, name) == worth
    assert found.tra < 1


def test_kinds_of_links(tmp_path: Path, truth: Path) -> None:
    """A daughter that goes on as her mother, and a mother of nobody."""
    frames = FRAMES.copy()
    frames[2:][FRAMES[2:] == 3] = 2
    found = judge_folders(truth, save(tmp_path / "found", frames, {}))
    assert (found.wrong_links, found.missing_links, found.false_links) == (1, 1, 0)


cases = st.tuples(st.integers(0, 2**32), st.booleans())


@given(case=cases)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_as_the_papers_say(tmp_path: Path, case: tuple[int, bool]) -> None:
    """Any two movies of labels, with any parents that can be."""
    seed, alike = case
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 5, (5, 4, 6)) * (rng.random((5, 4, 6)) < 0.8)
    found = true.copy() if alike else rng.integers(0, 6, true.shape)
    if alike:
        found[rng.random(found.shape) < 0.15] = 6
    folders, given_ = [], []
    for name, frames in (("true", true), ("found", found)):
        parents = {}
        tracks = tracks_of(frames)
        for each in tracks:
            before = [one.label for one in tracks if one.last < each.first]
            if before and rng.random() < 0.7:
                parents[each.label] = int(rng.choice(before))
        folders.append(save(tmp_path / name, frames, parents))
        movie = read_ctc(folders[-1])
        shown = np.stack([movie.frame(n) for n in range(5)])
        given_ += [shown, {t.label: t.parent for t in movie.tracks}]
        for path in folders[-1].iterdir():
            assert path.suffix in (".tif", ".txt")
    if not true.any() or not found.any():
        return
    judged = judge_folders(*folders)
    tra, det = plain_tra(*given_)
    assert judged.tra == pytest.approx(tra)
    assert judged.det == pytest.approx(det)
    assert judged.seg == pytest.approx(plain_seg(given_[0], given_[2]))


def test_nothing_found_and_nothing_to_find(tmp_path: Path, truth: Path) -> None:
    empty = save(tmp_path / "empty", FRAMES * 0, {})
    found = judge_folders(truth, empty)
    assert (found.seg, found.det, found.tra) == (0, 0, 0)
    assert (found.missing, found.missing_links) == (10, 8)
    with pytest.raises(DataError, match="shows no object"):
        judge_folders(empty, truth)


def test_the_folders_of_a_data_set(tmp_path: Path, truth: Path) -> None:
    """Markers for tracking, and some frames or planes that are segmented wholly."""
    deep = np.stack([FRAMES, FRAMES * 0], axis=1)
    markers = deep.copy()
    markers[:, :, 4:] = 0
    gt = tmp_path / "01_GT"
    save(gt / "TRA", markers, PARENTS)
    for path in (gt / "TRA").glob("mask*"):
        path.rename(path.with_name(path.name.replace("mask", "man_track")))
    (gt / "TRA" / "res_track.txt").rename(gt / "TRA" / "man_track.txt")
    (gt / "SEG").mkdir()
    tifffile.imwrite(gt / "SEG" / "man_seg_001_0000.tif", FRAMES[1])
    tifffile.imwrite(gt / "SEG" / "man_seg003.tif", deep[3], photometric="minisblack")
    result = deep.copy()
    result[1, 0, 6, 1:7] = 0  # a sixth of object 1
    found = judge_folders(gt, save(tmp_path / "01_RES", result, PARENTS))
    assert (found.det, found.tra) == (1, 1)
    assert found.seg == pytest.approx((5 / 6 + 1 + 3) / 5)
    tifffile.imwrite(gt / "SEG" / "man_seg009.tif", deep[3], photometric="minisblack")
    with pytest.raises(FileError, match="frame 9"):
        judge_folders(gt, tmp_path / "01_RES")


def test_folders_that_do_not_fit(tmp_path: Path, truth: Path) -> None:
    short = save(tmp_path / "short", FRAMES[:2], {})
    with pytest.raises(FileError, match="2 frames, the truth 4"):
        judge_folders(truth, short)
    small = save(tmp_path / "small", FRAMES[:, :5], {})
    with pytest.raises(FileError, match="Frame 0 of the result is 5 × 30"):
        judge_folders(truth, small)
    with pytest.raises(FileError, match="no frames"):
        judge_folders(truth, tmp_path)
    broken = tmp_path / "broken"
    write_ctc(broken, list(FRAMES), [Track(1, (0, 1, 2, 3))])
    tifffile.imwrite(broken / "mask001.tif", FRAMES[1] * 0)
    with pytest.raises(FileError, match="object 1 is away"):
        judge_folders(truth, broken)


def test_without_the_library(truth: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctc_metrics", None)
    monkeypatch.setitem(sys.modules, "ctc_metrics.utils.representations", None)
    with pytest.raises(TinySAMError, match="pip install"):
        judge_folders(truth, truth)
