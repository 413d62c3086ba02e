"""Batches on a real Dask cluster of two processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batch.discs import contents, encoded, load_discs, refuse
from batch.slides import encoded as encoded_looks
from batch.slides import load_bright, slide, write_zarr
from napari_tinysam.batch.jobs import Job, find_images, jobs_for
from napari_tinysam.batch.run import segment_files
from napari_tinysam.batch.runners import cluster as clusters
from napari_tinysam.batch.runners.cluster import Cluster
from napari_tinysam.batch.runners.here import Here
from napari_tinysam.batch.settings import BatchSettings, FileOutcome
from napari_tinysam.batch.work import Worker
from napari_tinysam.errors import TinySAMError

distributed = pytest.importorskip(
    "distributed", reason="distributed is not installed (the extra cluster)"
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Jobs = Callable[..., list[Job]]


@pytest.fixture
def local() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        yield cluster


def run(address: str, jobs: list[Job], tmp_path: Path) -> list[FileOutcome]:
    load = partial(load_discs, tmp_path)
    runner = Cluster(address, load, BatchSettings(), frozenset())
    try:
        assert runner.identity.model_id == "discs/cpu"
        return list(segment_files(jobs, runner))
    finally:
        runner.close()


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL")
def test_a_cluster_writes_what_one_process_writes(
    local: Any, jobs: Jobs, tmp_path: Path
) -> None:
    one = Here(Worker(load_discs(tmp_path), BatchSettings()))
    list(segment_files(jobs("one"), one))
    (tmp_path / "encoded").unlink()
    found = run(local.scheduler_address, jobs("cluster"), tmp_path)
    assert contents(tmp_path / "one") == contents(tmp_path / "cluster")
    assert [outcome.state for outcome in found] == ["written"] * 6
    assert len(encoded(tmp_path)) == 9
    assert os.getpid() not in {process for process, _ in encoded(tmp_path)}
    # The same cluster again; a worker is killed in the middle.
    (tmp_path / "die").write_text("30")
    found = run(local.scheduler_address, jobs("killed"), tmp_path)
    # A worker that dies after writing has told nobody: the job is found done.
    assert len(found) == 6
    assert {outcome.state for outcome in found} <= {"written", "there"}
    assert contents(tmp_path / "one") == contents(tmp_path / "killed")


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL")
def test_workers_share_a_slide_and_one_of_them_is_killed(
    local: Any, tmp_path: Path
) -> None:
    write_zarr(tmp_path / "s.ome.zarr", slide())
    images = find_images([str(tmp_path / "s.ome.zarr")]).images
    settings, load = BatchSettings(tiles=256), partial(load_bright, tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = Here(Worker(load(), settings))
    list(segment_files(jobs_for(images, tmp_path / "one"), one))
    done = len(encoded_looks(tmp_path))
    (tmp_path / "encoded").unlink()
    (tmp_path / "die").write_text("3")
    runner = Cluster(local.scheduler_address, load, settings, frozenset())
    try:
        (found,) = segment_files(jobs_for(images, tmp_path / "two"), runner)
    finally:
        runner.close()
    assert found.state == "written"
    # One tile twice, and a larger look once in each process that finds something large.
    again = encoded_looks(tmp_path)
    processes = {line.split()[0] for line in again}
    assert done + 1 <= len(again) <= done + len(processes)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_scheduler_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(clusters, "_REACH", 0.5)
    with pytest.raises(TinySAMError, match=r"tcp://127\.0\.0\.1:9 cannot be reached"):
        run("tcp://127.0.0.1:9", [], tmp_path)


def test_workers_without_the_model_or_of_another_version_are_refused(
    local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = local.scheduler_address
    with pytest.raises(TinySAMError, match="cannot load the model: there is no such"):
        Cluster(address, refuse, BatchSettings(), frozenset())
    monkeypatch.setattr("napari_tinysam.__version__", "99.0")
    with pytest.raises(TinySAMError, match=r"another version .* instead of 99\.0"):
        Cluster(address, refuse, BatchSettings(), frozenset())


@contextmanager
def another_worker(address: str, preload: str = "") -> Iterator[subprocess.Popen[Any]]:
    """Start a worker; it does first what is given."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address]
    command += ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
    command += ["--preload", f"import threading\n{preload}"]
    paths = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def scheduler() -> Iterator[str]:
    """A scheduler without workers."""
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


@pytest.mark.parametrize(
    ("unlike", "said"),
    [
        (
            "import napari_tinysam\nnapari_tinysam.__version__ = '0.0'",
            "it has another version of napari-tinysam, 0.0.",
        ),
        (
            "from batch import discs\ndiscs.load_discs = lambda *_: discs.refuse()",
            "it cannot load the model: there is no such model.",
        ),
    ],
    ids=["version", "model"],
)
def test_a_worker_that_joins_later_and_is_unlike_the_others_is_left_out(
    scheduler: str, jobs: Jobs, tmp_path: Path, unlike: str, said: str
) -> None:
    wait = tmp_path / "wait"  # it joins meanwhile, is idle, and gets what waits
    heard: list[str] = []

    def hear(text: str) -> None:
        heard.append(text)
        wait.unlink(missing_ok=True)

    patience = threading.Timer(60, wait.unlink, kwargs={"missing_ok": True})
    patience.start()
    with another_worker(scheduler):
        load = partial(load_discs, tmp_path)
        runner = Cluster(scheduler, load, BatchSettings(), frozenset(), say=hear)
        heard.clear()
        wait.write_text("30")
        try:
            with another_worker(scheduler, unlike) as unlike_one:
                found = list(segment_files(jobs(), runner))
                assert unlike_one.wait(30) is not None  # it has left
        finally:
            patience.cancel()
            runner.close()
    assert [outcome.state for outcome in found] == ["written"] * 6
    assert len(heard) == 1
    assert heard[0].startswith("The worker tcp://")
    assert f" is left out: {said}" in heard[0]


def test_all_workers_are_lost_and_another_joins(
    scheduler: str, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "_ALONE", 0.3)
    heard: list[str] = []
    wait = tmp_path / "wait"
    with another_worker(scheduler) as first:
        load = partial(load_discs, tmp_path)
        runner = Cluster(
            scheduler, load, BatchSettings(), frozenset(), say=heard.append
        )
        heard.clear()
        wait.write_text("30")
        found: list[FileOutcome] = []
        run = threading.Thread(
            target=lambda: found.extend(segment_files(jobs(), runner))
        )
        run.start()
        try:
            begun = tmp_path / "encoded"
            while not begun.exists() or 30 not in {
                mean for _, mean in encoded(tmp_path)
            }:
                time.sleep(0.05)
            first.kill()
            while not heard:
                time.sleep(0.05)
            wait.unlink()
            with another_worker(scheduler):
                run.join(60)
        finally:
            runner.close()
    assert [outcome.state for outcome in found] == ["written"] * 6
    assert heard == [
        "The cluster has no workers left; the run goes on when one joins, or later with the same "
        "command."
    ]


def test_a_scheduler_that_is_lost_in_the_middle(
    local: Any, jobs: Jobs, tmp_path: Path
) -> None:
    load = partial(load_discs, tmp_path)
    wait = tmp_path / "wait"
    wait.write_text("30")  # so that there is a middle
    runner = Cluster(local.scheduler_address, load, BatchSettings(), frozenset())
    run = segment_files(jobs(), runner)
    try:
        assert next(run).state == "written"
        local.close()
        with pytest.raises(TinySAMError, match="was lost; run the same command"):
            list(run)
    finally:
        runner.close()
        wait.unlink()
    worker = Worker(load_discs(tmp_path), BatchSettings())
    again = list(segment_files(jobs(), Here(worker)))
    assert {outcome.state for outcome in again} <= {"there", "written"}
    assert again[0].state == "there"
