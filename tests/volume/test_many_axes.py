"""Planes of files with several axes: linked in depth, in time, or in both, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tinysam.volume.linking import LinkSettings
from napari_tinysam.volume.many_axes import LinkedPlanes, link_planes
from napari_tinysam.volume.tracking import TrackSettings

KEEP = LinkSettings(least_planes=1)


def linked(planes: np.ndarray, **how: object) -> tuple[np.ndarray, LinkedPlanes]:
    """Link (…, H, W); returns labels of the same shape."""
    counts, size = planes.shape[:-2], planes.shape[-2:]
    flat = planes.reshape(-1, *size)
    read = []

    def plane(number: int) -> np.ndarray:
        read.append(number)
        return flat[number]

    found = link_planes(plane, counts, linking=KEEP, **how)  # type: ignore[arg-type]
    assert sorted(read) == list(range(len(flat)))  # each once
    out = [found.links.relabelled(n, each) for n, each in enumerate(flat)]
    stack = np.stack(out).reshape(planes.shape)
    np.testing.assert_array_equal(stack > 0, planes > 0)
    return stack, found


def blocks(*counts: int) -> np.ndarray:
    """Two objects at the same places in each plane, of other names in each."""
    planes = np.zeros((*counts, 12, 40), np.int64)
    names = np.arange(int(np.prod(counts))).reshape(counts)[..., None, None]
    planes[..., 2:8, 2:8] = 5 + names
    planes[..., 2:8, 20:30] = 1000 - names
    return planes


def count(stack: np.ndarray) -> int:
    return len(np.unique(stack[stack > 0]))


def test_depth_of_each_frame_by_itself() -> None:
    stack, found = linked(blocks(3, 4), depth=1)
    assert count(stack) == found.links.count == 6
    assert found.parents == {}
    for volume in stack:
        assert count(volume) == 2
    across, _ = linked(blocks(3, 4), depth=0)
    assert count(across) == 8


def test_time_alone() -> None:
    stack, _ = linked(blocks(5), time=0)
    assert count(stack) == 2
    positions, _ = linked(blocks(2, 5), time=1)
    assert count(positions) == 4
    assert not set(np.unique(positions[0])) & set(np.unique(positions[1])) - {0}


@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
def test_depth_then_time(axes: tuple[int, int]) -> None:
    time, depth = axes
    stack, _ = linked(blocks(3, 4), time=time, depth=depth)
    assert count(stack) == 2
    many, _ = linked(blocks(2, 3, 4), time=time + 1, depth=depth + 1)
    assert count(many) == 4


def test_parents_of_each_movie() -> None:
    """The second of two positions has a division, in both of its planes."""
    planes = np.zeros((2, 6, 2, 30, 60), np.int64)
    planes[0, :, :, 5:25, 5:25] = 3
    planes[1, :3, :, 5:25, 5:25] = 3
    planes[1, 3:, :, 5:25, 5:14] = 8
    planes[1, 3:, :, 5:25, 16:25] = 9
    stack, found = linked(planes, time=1, depth=2, step=5.0)
    assert np.unique(stack[0]).tolist() == [0, 1]
    assert found.parents == {3: 2, 4: 2}
    assert stack[1, :3].max() == 2
    left, right = stack[1, 3:, :, 10, 8], stack[1, 3:, :, 10, 20]
    assert {*left.ravel().tolist(), *right.ravel().tolist()} == {3, 4}


def test_settings_are_those_of_each_axis() -> None:
    planes = blocks(3, 4)
    planes[1:, :, :, 20:] = 0  # seen in one frame only
    short = TrackSettings(least_frames=2)
    found = link_planes(
        lambda number: planes.reshape(-1, 12, 40)[number],
        (3, 4),
        time=0,
        depth=1,
        linking=KEEP,
        tracking=short,
    )
    assert found.links.count == 1
    assert found.links.objects[0].tolist() == [1, 0]


def test_nothing_at_all() -> None:
    for how in ({"time": 0}, {"depth": 0}, {"time": 0, "depth": 1}):
        stack, found = linked(np.zeros((3, 2, 4, 5), np.int64), **how)
        assert found.links.count == 0
        assert not stack.any()
