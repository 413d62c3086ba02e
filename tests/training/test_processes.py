"""Work in several processes, as beside a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tinysam_training import processes
from tinysam_training.labelled_image import ImageEntry, ImageStore, LabelledImage
from tinysam_training.processes import side_by_side
from training.small_runs import discs

CPU, GPU = torch.device("cpu"), torch.device("cuda")  # only their names matter
HERE = os.getpid()


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(processes.os, "cpu_count", lambda: 4)
    processes._pool.cache_clear()
    yield
    pool = processes._pool()
    assert pool is not None
    pool.shutdown()
    processes._pool.cache_clear()


def squared_where(number: int) -> tuple[int, int]:
    return number**2, os.getpid()


def fails_elsewhere(number: int) -> int:
    if number == 3 and os.getpid() != HERE:
        os._exit(1)
    return number


def test_a_gpu_has_helping_processes_and_results_stay_in_order() -> None:
    found = list(side_by_side(squared_where, range(40), GPU))
    assert [value for value, _ in found] == [n**2 for n in range(40)]
    assert HERE not in {process for _, process in found}


def test_a_processor_does_the_work_itself() -> None:
    assert {process for _, process in side_by_side(squared_where, range(5), CPU)} == {
        HERE
    }


def test_a_killed_process_costs_time_only() -> None:
    assert list(side_by_side(fails_elsewhere, range(6), GPU)) == list(range(6))
    assert list(side_by_side(fails_elsewhere, [8, 9], GPU)) == [8, 9]


class Given:
    """Reads an image that is there already; remembers nothing, like another process."""

    def __init__(self, image: LabelledImage) -> None:
        self.image = image

    def __call__(self) -> LabelledImage:
        return self.image


def test_images_are_read_with_their_maps() -> None:
    images = discs(3)
    store = ImageStore(
        [ImageEntry(i.name, i.dataset, True, Given(i), "") for i in images]
    )
    found = list(store.read_once(GPU))
    for made, image in zip(found, images, strict=True):
        assert {"boundary_distance", "centre_distance", "boxes"} <= vars(made).keys()
        np.testing.assert_array_equal(made.labels, image.labels)
        np.testing.assert_array_equal(made.boundary_distance, image.boundary_distance)
