"""Batches in one process: in order, tried again, gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from batch.discs import load_discs
from napari_tinysam.batch import work as batch_work
from napari_tinysam.batch.jobs import Job
from napari_tinysam.batch.run import segment_files
from napari_tinysam.batch.runners.here import Here
from napari_tinysam.batch.settings import BatchSettings, FileOutcome
from napari_tinysam.batch.work import Task, Worker

Jobs = Callable[..., list[Job]]


class Flaky(Worker):
    """Fails at some tasks, as often as is said."""

    fails: dict[tuple[str, int | None], int]

    def perform(self, task: Task) -> batch_work.Answer:
        key = task.job.stem, task.plane
        if self.fails.get(key, 0):
            self.fails[key] -= 1
            return batch_work.Failed("It was not to be.")
        return super().perform(task)


def run(
    jobs: list[Job],
    tmp_path: Path,
    settings: BatchSettings | None = None,
    fails: dict[tuple[str, int | None], int] | None = None,
) -> list[FileOutcome]:
    worker = Flaky(load_discs(tmp_path), settings or BatchSettings())
    worker.fails = fails or {}
    return list(segment_files(jobs, Here(worker)))


def encoded(tmp_path: Path) -> int:
    return len((tmp_path / "encoded").read_text().splitlines())


def test_outcomes_come_in_the_order_of_the_files(jobs: Jobs, tmp_path: Path) -> None:
    outcomes = run(jobs(), tmp_path)
    names = ["a_stack", "p1", "p2", "p3", "p4", "p5"]
    assert [outcome.job.stem for outcome in outcomes] == names
    assert [outcome.planes for outcome in outcomes] == [4, 1, 1, 1, 1, 1]
    assert {outcome.state for outcome in outcomes} == {"written"}
    assert encoded(tmp_path) == 9


def test_what_fails_once_is_tried_again(jobs: Jobs, tmp_path: Path) -> None:
    fails: dict[tuple[str, int | None], int] = {("p2", None): 1, ("a_stack", 2): 1}
    assert {one.state for one in run(jobs(), tmp_path, fails=fails)} == {"written"}


def test_what_fails_twice_is_named(jobs: Jobs, tmp_path: Path) -> None:
    fails: dict[tuple[str, int | None], int] = {("p2", None): 2, ("a_stack", 2): 2}
    outcomes = run(jobs(), tmp_path, fails=fails)
    failed = {one.job.stem: one.reason for one in outcomes if one.state == "failed"}
    assert failed == {
        "a_stack": "plane 2: It was not to be.",
        "p2": "It was not to be.",
    }
    assert sum(one.state == "written" for one in outcomes) == 4
    assert not (tmp_path / "out" / "a_stack_labels.tif").exists()


def test_finished_planes_are_not_done_again(jobs: Jobs, tmp_path: Path) -> None:
    run(jobs(), tmp_path, fails={("a_stack", 3): 2})
    before = encoded(tmp_path)
    again = run(jobs(), tmp_path)
    assert [one.state for one in again] == ["written"] + ["there"] * 5
    assert encoded(tmp_path) == before + 1
    assert not list((tmp_path / "out").glob(".*"))
    run(jobs("whole"), tmp_path)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_planes_of_other_settings_are_not_taken(jobs: Jobs, tmp_path: Path) -> None:
    run(jobs(), tmp_path, fails={("a_stack", 3): 2})
    before = encoded(tmp_path)
    run(jobs()[:1], tmp_path, BatchSettings(labels={"confidence": 0.7}))
    assert encoded(tmp_path) == before + 4
    assert not list((tmp_path / "out").glob(".*"))


def test_a_damaged_plane_is_made_again(jobs: Jobs, tmp_path: Path) -> None:
    run(jobs()[:1], tmp_path, fails={("a_stack", 3): 2})
    (first,) = (tmp_path / "out").rglob("0.npz")
    first.write_bytes(first.read_bytes()[:100])
    (outcome,) = run(jobs()[:1], tmp_path)
    assert (outcome.state, outcome.objects) == ("written", 12)


def test_other_forms_are_the_same_at_once_and_later(jobs: Jobs, tmp_path: Path) -> None:
    pytest.importorskip("roifile")
    all_forms = BatchSettings(also=("coco", "roi", "geojson"), overlay=True)
    run(jobs("at-once")[:2], tmp_path, all_forms)
    run(jobs("later")[:2], tmp_path)
    before = encoded(tmp_path)
    outcomes = run(jobs("later")[:2], tmp_path, all_forms)
    assert {one.state for one in outcomes} == {"completed"}
    assert encoded(tmp_path) == before
    assert contents(tmp_path / "at-once") == contents(tmp_path / "later")
    coco = json.loads((tmp_path / "later" / "a_stack_coco.json").read_text())
    assert len(coco["images"]) == 4
    assert {each["label"] for each in coco["annotations"]} == {1, 2, 3}
    assert all(each["score"] > 0.5 for each in coco["annotations"])


def test_tables_as_parquet(jobs: Jobs, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (the extra test)")
    parquet = BatchSettings(table_form="parquet")
    run(jobs("one")[:2], tmp_path, parquet)
    run(jobs("other")[:2], tmp_path)
    # Each is made from the other where it is missing.
    for folder, settings in (("one", BatchSettings()), ("other", parquet)):
        again = run(jobs(folder)[:2], tmp_path, settings)
        assert {outcome.state for outcome in again} == {"completed"}
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_a_foreign_table_is_not_read(jobs: Jobs, tmp_path: Path) -> None:
    run(jobs()[:1], tmp_path)
    (tmp_path / "out" / "a_stack_objects.csv").write_text("mine\n1\n")
    (outcome,) = run(jobs()[:1], tmp_path, BatchSettings(also=("coco",)))
    assert outcome.state == "failed"
    assert "is not the table of this image; move it away." in outcome.reason
