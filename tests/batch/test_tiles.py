"""Tiles of large planes are jobs of their own: whoever does them, in whatever order."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch.discs import contents
from batch.slides import (
    SHAPE,
    TILES,
    encoded,
    load_bright,
    slide,
    write_tiff,
    write_zarr,
)
from everything.plane_of_discs import bright_predictor, field
from napari_tinysam.batch import large_plane, measuring
from napari_tinysam.batch.jobs import Job, find_images, jobs_for
from napari_tinysam.batch.packing import packed, unpacked
from napari_tinysam.batch.run import segment_files
from napari_tinysam.batch.runners.here import Here
from napari_tinysam.batch.runners.processes import Processes
from napari_tinysam.batch.settings import BatchSettings, FileOutcome
from napari_tinysam.batch.tasks import Answer, Failed, Task
from napari_tinysam.batch.work import Worker
from napari_tinysam.everything import Proposal, joining, segment_everything, tiled
from napari_tinysam.files.lazy_pixels import LazyPixels
from napari_tinysam.inference import plane_looks
from napari_tinysam.masks import BoxedMask

SETTINGS = BatchSettings(tiles=256)

needs_kill = pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL")


class Shuffled:
    """A runner that takes several tasks and does any of them, now and then without success."""

    def __init__(
        self,
        worker: Worker,
        seed: int,
        at_once: int = 5,
        others: Sequence[Worker] = (),
    ) -> None:
        self.identity = worker.identity
        self._workers, self._at_once = [worker, *others], at_once
        self._chance = random.Random(seed)
        self._tasks: list[Task] = []
        self._failed: set[Any] = set()

    @property
    def has_room(self) -> bool:
        return len(self._tasks) < self._at_once

    def submit(self, task: Task) -> None:
        self._tasks.append(task)

    def wait(self) -> list[tuple[Task, Answer]]:
        task = self._tasks.pop(self._chance.randrange(len(self._tasks)))
        if task.name not in self._failed and self._chance.random() < 0.2:
            self._failed.add(task.name)
            return [(task, Failed("It was not to be."))]
        return [(task, self._chance.choice(self._workers).perform(task))]

    def close(self) -> None:
        pass


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """A slide as OME-Zarr, and a stack of two."""
    folder = tmp_path / "images"
    folder.mkdir()
    write_zarr(folder / "a.ome.zarr", slide())
    write_tiff(folder / "b.tif", np.stack([slide(1), slide(2)]))
    return folder


def jobs(slides: Path, out: str) -> list[Job]:
    folder = slides.parent / out
    folder.mkdir(exist_ok=True)
    return jobs_for(find_images([str(slides)]).images, folder)


def here(slides: Path, out: str, how: BatchSettings = SETTINGS) -> list[FileOutcome]:
    worker = Worker(load_bright(slides.parent), how)
    return list(segment_files(jobs(slides, out), Here(worker)))


def test_the_objects_are_those_of_the_whole_plane(slides: Path) -> None:
    outcomes = here(slides, "out")
    assert [outcome.state for outcome in outcomes] == ["written"] * 2
    assert outcomes[0].notes == ("The image is searched in 6 tiles of 256 pixels.",)
    labels = tifffile.imread(slides.parent / "out" / "b_labels.tif")
    whole = segment_everything(slide(2), bright_predictor(), tiles_of=256)
    np.testing.assert_array_equal(labels[1], whole)
    assert not list((slides.parent / "out").glob(".*"))


def test_two_processes_share_a_slide_and_write_the_same(slides: Path) -> None:
    here(slides, "one")
    (slides.parent / "encoded").unlink()
    runner = Processes(2, partial(load_bright, slides.parent), SETTINGS, frozenset())
    try:
        steps: list[tuple[str, int, int, str]] = []
        found = list(
            segment_files(
                jobs(slides, "two")[:1],
                runner,
                on_step=lambda job, *rest: steps.append((job.stem, *rest)),
            )
        )
        assert [outcome.state for outcome in found] == ["written"]
        assert len({line.split()[0] for line in encoded(slides.parent)}) == 2
        assert steps == [("a", n, TILES, "tile") for n in range(1, TILES + 1)]
        list(segment_files(jobs(slides, "two"), runner))
    finally:
        runner.close()
    assert contents(slides.parent / "one") == contents(slides.parent / "two")


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 1000), at_once=st.integers(1, 4), group=st.integers(1, 7))
def test_neither_order_nor_groups_nor_failures_matter(
    slides: Path, seed: int, at_once: int, group: int
) -> None:
    if not (slides.parent / "one").exists():
        (slides / "b.tif").unlink()
        here(slides, "one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_plane, "_AT_ONCE", group)
        patch.setattr(large_plane, "_LEAST_TASKS", 1)
        worker = Worker(load_bright(slides.parent), SETTINGS)
        runner = Shuffled(worker, seed, at_once)
        (found,) = segment_files(jobs(slides, "any"), runner)
    assert found.state == "written"
    assert contents(slides.parent / "one") == contents(slides.parent / "any")
    shutil.rmtree(slides.parent / "any")


@needs_kill
def test_a_kill_loses_the_tile_under_way(slides: Path) -> None:
    here(slides, "one")
    whole = len(encoded(slides.parent))
    (slides.parent / "encoded").unlink()
    (slides.parent / "die").write_text("3")
    runner = Processes(1, partial(load_bright, slides.parent), SETTINGS, frozenset())
    try:
        found = list(segment_files(jobs(slides, "killed"), runner))
    finally:
        runner.close()
    assert [outcome.state for outcome in found] == ["written"] * 2
    assert len(encoded(slides.parent)) == whole + 1
    assert contents(slides.parent / "one") == contents(slides.parent / "killed")


def test_nothing_is_made_twice(slides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a larger look, which several tiles with large objects ask for, nor the joining."""
    times: list[int] = []

    def counted(found: Any, grid: Any) -> Any:
        times.append(len(found))
        return joining.joined(found, grid)

    monkeypatch.setattr(tiled, "joined", counted)
    large, _ = field(SHAPE, 140, 40)
    for path in slides.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_zarr(slides / "a.ome.zarr", large)
    (outcome,) = here(slides, "out")
    assert outcome.objects
    looks = encoded(slides.parent)
    assert len(looks) == len(set(looks)) == TILES + 1  # and a larger look
    assert times == [TILES]


@pytest.fixture(scope="module")
def fine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A slide of discs that are seen only if they are enlarged, and what is found in it."""
    folder = tmp_path_factory.mktemp("fine")
    (folder / "images").mkdir()
    pixels, _ = field((1100, 1600), 60, 3)
    write_zarr(folder / "images" / "a.ome.zarr", pixels)
    whole = segment_everything(pixels, load_bright(folder))
    (outcome,) = here(folder / "images", "one", BatchSettings())
    assert "tiles of 512 pixels" in outcome.notes[0]
    labels = folder / "one" / "a_labels.tif"
    np.testing.assert_array_equal(tifffile.imread(labels), whole)
    return folder, labels.read_bytes()


@pytest.mark.parametrize("seed", range(3))
def test_the_side_is_chosen_by_all_in_any_order(
    fine: tuple[Path, bytes], seed: int
) -> None:
    folder, expected = fine
    (folder / "encoded").unlink(missing_ok=True)
    workers = [Worker(load_bright(folder), BatchSettings()) for _ in range(2)]
    runner = Shuffled(workers[0], seed, others=workers[1:])
    (found,) = segment_files(jobs(folder / "images", f"any{seed}"), runner)
    assert found.state == "written"
    assert (folder / f"any{seed}" / "a_labels.tif").read_bytes() == expected
    looks = encoded(folder)
    assert len(looks) == len(set(looks))  # those of the choice are not searched again


def test_what_was_chosen_and_is_lost_is_chosen_again(fine: tuple[Path, bytes]) -> None:
    folder, expected = fine
    worker = Fails(load_bright(folder), BatchSettings())
    worker.times = 2
    (first,) = segment_files(jobs(folder / "images", "lost"), Here(worker))
    assert first.state == "failed"
    (plan,) = (folder / "lost").rglob("plan.json")
    plan.unlink()
    again = Worker(load_bright(folder), BatchSettings())
    (found,) = segment_files(jobs(folder / "images", "lost"), Here(again))
    assert found.state == "written"
    assert (folder / "lost" / "a_labels.tif").read_bytes() == expected


class Fails(Worker):
    """Fails at a tile, or at the first one, as often as is said."""

    tile, times = -1, 0

    def perform(self, task: Task) -> Answer:
        here = task.tiles and (self.tile < 0 or self.tile in task.tiles)
        if here and task.side is None and self.times:
            self.times -= 1
            return Failed("It was not to be.")
        return super().perform(task)


def test_tiles_that_are_there_are_not_searched_again(slides: Path) -> None:
    here(slides, "one")
    (slides.parent / "encoded").unlink()
    worker = Fails(load_bright(slides.parent), SETTINGS)
    worker.tile, worker.times = 5, 2
    first = list(segment_files(jobs(slides, "again")[:1], Here(worker)))
    assert [(one.state, one.reason) for one in first] == [
        ("failed", "It was not to be.")
    ]
    kept = sorted((slides.parent / "again").rglob("*.npz"))
    assert len(kept) == 5
    assert len(encoded(slides.parent)) == 5 + 1  # and a larger look
    # One of them is damaged, and only seen to be when all are joined.
    kept[0].write_bytes(kept[0].read_bytes()[:50])
    list(segment_files(jobs(slides, "again")[:1], Here(worker)))
    looks = [line.split()[1] for line in encoded(slides.parent)]
    assert len(looks) - len(set(looks)) == 1  # but no larger look
    for path in (slides.parent / "again").iterdir():
        if path.is_file():
            assert path.read_bytes() == (slides.parent / "one" / path.name).read_bytes()
    # Other settings take nothing of it.
    assert not list((slides.parent / "again").glob(".*"))


def test_a_slide_is_read_in_parts(
    slides: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    get = LazyPixels.__getitem__

    def counted(self: LazyPixels, key: Any) -> Any:
        found = get(self, key)
        read.append(found.size)
        return found

    monkeypatch.setattr(LazyPixels, "__getitem__", counted)
    monkeypatch.setattr(measuring, "_BLOCK", 128)
    monkeypatch.setattr(plane_looks, "_MOST_READ", 256)  # also of larger looks
    here(slides, "out")
    assert len(read) > 3 * TILES
    assert max(read) <= 256 * 256


def test_many_channels_are_read_as_they_are_at_once(tmp_path: Path) -> None:
    pixels = np.stack([slide(0), slide(1)])
    images = tmp_path / "images"
    images.mkdir()
    write_tiff(images / "c.tif", pixels, "CYX")
    how = BatchSettings(tiles=256, channel=(1,))
    (outcome,) = here(images, "out", how)
    assert outcome.state == "written"
    labels = tifffile.imread(tmp_path / "out" / "c_labels.tif")
    whole = segment_everything(slide(1), bright_predictor(), tiles_of=256)
    np.testing.assert_array_equal(labels, whole)
    (both,) = here(images, "both", BatchSettings(tiles=256, channel=(0, 1)))
    assert both.state == "written"


masks = st.builds(
    lambda height, width, y, x, seed: BoxedMask(
        np.random.default_rng(seed).random((height, width)) < 0.7, y, x, (90, 95)
    ),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(0, 70),
    st.integers(0, 70),
    st.integers(0, 99),
)
proposals = st.builds(
    Proposal,
    masks,
    st.floats(0, 1),
    st.tuples(st.floats(0, 90), st.floats(0, 90)),
    st.sampled_from(["grid", "prompt", "head"]),
    st.floats(0, 1),
    st.none() | masks,
)


@given(st.lists(proposals, max_size=6))
def test_proposals_are_the_same_after_packing(some: list[Proposal]) -> None:
    again = unpacked(packed(some), (90, 95))
    assert len(again) == len(some)
    for one, other in zip(some, again, strict=True):
        for name in ("score", "stability", "point", "source"):
            assert getattr(one, name) == getattr(other, name)
        for mine, theirs in ((one.mask, other.mask), (one.territory, other.territory)):
            if mine is None or theirs is None:
                assert mine is theirs
                continue
            assert (mine.y0, mine.x0, mine.shape) == (
                theirs.y0,
                theirs.x0,
                theirs.shape,
            )
            np.testing.assert_array_equal(mine.mask, theirs.mask)
