"""Batches in several processes: the same results, whoever dies."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from batch.discs import (
    contents,
    encoded,
    load_discs,
    load_noting_threads,
    load_together,
    refuse,
)
from napari_tinysam.batch.jobs import Job
from napari_tinysam.batch.run import segment_files
from napari_tinysam.batch.runners.here import Here
from napari_tinysam.batch.runners.processes import Processes
from napari_tinysam.batch.settings import BatchSettings, FileOutcome
from napari_tinysam.batch.work import Worker
from napari_tinysam.errors import TinySAMError

Jobs = Callable[..., list[Job]]

needs_kill = pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL")


def in_processes(jobs: list[Job], tmp_path: Path, count: int = 2) -> list[FileOutcome]:
    load = partial(load_discs, tmp_path)
    runner = Processes(count, load, BatchSettings(), frozenset())
    try:
        assert runner.identity.model_id == "discs/cpu"
        assert len(set(runner.process_ids)) == count
        return list(segment_files(jobs, runner))
    finally:
        runner.close()


def test_two_processes_write_what_one_writes(jobs: Jobs, tmp_path: Path) -> None:
    one = Here(Worker(load_discs(tmp_path), BatchSettings()))
    expected = list(segment_files(jobs("one"), one))
    (tmp_path / "encoded").unlink()
    found = in_processes(jobs("two"), tmp_path)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert [outcome.job.stem for outcome in found] == [
        outcome.job.stem for outcome in expected
    ]
    done = encoded(tmp_path)
    assert len(done) == 9  # nothing twice
    assert len({process for process, _ in done}) == 2
    assert os.getpid() not in {process for process, _ in done}


def test_processes_share_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    load = partial(load_noting_threads, tmp_path)
    runner = Processes(2, load, BatchSettings(), frozenset(), threads=6, at_once=True)
    try:
        while not all(member.greeted for member in runner._members):
            runner._listen()
    finally:
        runner.close()
    told = [path.read_text() for path in tmp_path.glob("*.threads")]
    assert told == ["3 3 3 3"] * 2
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "OPENBLAS_NUM_THREADS" not in os.environ


@needs_kill
@pytest.mark.parametrize("mean", [30, 103])  # a file, a plane of the stack
def test_a_process_that_is_killed_is_replaced(
    jobs: Jobs, tmp_path: Path, mean: int
) -> None:
    (tmp_path / "die").write_text(str(mean))
    found = in_processes(jobs(), tmp_path)
    assert {outcome.state for outcome in found} == {"written"}
    means = [number for _, number in encoded(tmp_path)]
    assert sorted(set(means)) == sorted({10, 20, 30, 40, 50, 101, 102, 103, 104})
    assert means.count(mean) == 2
    assert len(means) == 10


@needs_kill
def test_an_image_that_kills_each_process_is_named(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "die").write_text("30 always")
    found = in_processes(jobs(), tmp_path)
    failed = [outcome for outcome in found if outcome.state == "failed"]
    assert [outcome.job.stem for outcome in failed] == ["p3"]
    assert "was killed, or its memory ran out" in failed[0].reason
    assert sum(outcome.state == "written" for outcome in found) == 5


def test_a_model_that_is_prepared_is_loaded_by_all_at_once(tmp_path: Path) -> None:
    load = partial(load_together, tmp_path)
    runner = Processes(2, load, BatchSettings(), frozenset(), at_once=True)
    try:
        assert runner.identity.model_id == "discs/cpu"
        assert len(list(tmp_path.glob("*.loading"))) == 2
    finally:
        runner.close()


def test_a_model_that_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    with pytest.raises(TinySAMError, match="there is no such model"):
        Processes(2, refuse, BatchSettings(), frozenset())
    with pytest.raises(TinySAMError, match="there is no such model"):
        Processes(2, refuse, BatchSettings(), frozenset(), at_once=True)


def test_processes_that_differ_are_refused(tmp_path: Path) -> None:
    """As after the package was installed anew while a run goes on."""
    runner = Processes(1, partial(load_discs, tmp_path), BatchSettings(), frozenset())
    try:
        runner._identity = runner.identity._replace(version="0.0")
        member = runner._start()
        with pytest.raises(TinySAMError, match="another model or version"):
            runner._hear(member)
    finally:
        runner.close()
