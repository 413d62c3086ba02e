"""Encoding ahead: which planes, in which order, and when not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.layers import Image

from desk import Desk, open_desk
from fake_inference import SteppedInference
from napari_tinysam.ui.session.embedding import ahead
from napari_tinysam.ui.session.embedding.ahead import is_cheap
from napari_tinysam.ui.session.worker import Lane

#: Gray value of each plane, which is what the runtime of discs keeps of it.
STACK = np.broadcast_to(np.arange(9, dtype=np.uint8)[:, None, None], (9, 40, 50)).copy()
STACK[:, 0, 0], STACK[:, 0, 1] = 0, 255


def open_stack(data: Any = STACK, *, enabled: bool = True, **options: Any) -> Desk:
    desk = open_desk(
        Image(data, contrast_limits=(0, 255), **options), inference=SteppedInference()
    )
    desk.session.set_ahead(enabled)
    return desk


def go_to(desk: Desk, *steps: int) -> None:
    for axis, step in enumerate(steps):
        desk.viewer.dims.set_current_step(axis, step)


def run_shown(desk: Desk) -> None:
    """Run everything but what is ahead."""
    while any(lane is not Lane.AHEAD for lane in desk.inference.waiting):
        desk.inference.step()


def held(desk: Desk) -> list[tuple[int, ...]]:
    """Positions of the planes whose embeddings are in memory, in order of their last use."""
    keys: Any = desk.session._parts.cache._entries
    return [tuple(i for i in key[0][1].index if i is not None) for key in keys]


def test_neighbours_are_encoded_after_the_shown_plane() -> None:
    desk = open_stack()
    go_to(desk, 4)
    run_shown(desk)
    assert held(desk)[-1:] == [(4,)]
    assert list(desk.inference.waiting) == [Lane.AHEAD]
    desk.inference.run_all()
    assert sorted(held(desk)) == [(3,), (4,), (5,)]
    assert held(desk)[-1] == (4,)  # leaves the memory last
    assert desk.told == []


@pytest.mark.parametrize(("to", "first", "second"), [(6, (7,), (5,)), (2, (1,), (3,))])
def test_the_direction_of_travel_goes_first(
    to: int, first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    desk = open_stack()
    go_to(desk, 4)
    run_shown(desk)
    go_to(desk, to)
    run_shown(desk)
    desk.inference.step()
    assert first in held(desk)
    assert second not in held(desk)
    desk.inference.step()
    assert second in held(desk)
    assert not desk.inference.waiting


def test_a_plane_that_was_encoded_ahead_is_shown_at_once_and_goes_on() -> None:
    desk = open_stack()
    go_to(desk, 4)
    desk.inference.run_all()
    count = len(desk.runtime.encoded)
    go_to(desk, 5)
    assert desk.session.status.kind.name == "READY"
    assert list(desk.inference.waiting) == [Lane.AHEAD]
    desk.inference.run_all()
    assert len(desk.runtime.encoded) == count + 1
    assert (6,) in held(desk)


def test_a_plane_that_is_shown_while_it_is_encoded_is_encoded_once() -> None:
    desk = open_stack()
    go_to(desk, 4)
    run_shown(desk)
    deliver = desk.inference.start()  # plane 5, ahead
    count = len(desk.runtime.encoded)
    go_to(desk, 5)
    run_shown(desk)
    deliver()
    assert len(desk.runtime.encoded) == count
    assert desk.session.status.kind.name == "READY"


def test_leaving_a_plane_forgets_what_waits() -> None:
    desk = open_stack()
    go_to(desk, 4)
    run_shown(desk)
    go_to(desk, 7)
    assert Lane.AHEAD not in desk.inference.waiting
    desk.inference.run_all()
    assert (5,) not in held(desk)


def test_the_axis_that_moved_is_the_stack() -> None:
    stack = np.stack([STACK, STACK[::-1]] * 2)
    desk = open_stack(stack)
    go_to(desk, 1, 4)
    desk.inference.run_all()
    assert {(1, 3), (1, 5)} <= set(held(desk))
    go_to(desk, 2, 4)
    desk.inference.run_all()
    assert (3, 4) in held(desk)


def test_ends_of_the_stack_have_one_neighbour() -> None:
    desk = open_stack()
    go_to(desk, 8)
    desk.inference.run_all()
    assert set(held(desk)[-2:]) == {(7,), (8,)}


@pytest.mark.parametrize("why", ["off", "dask", "memory", "flat"])
def test_nothing_is_encoded_ahead(why: str) -> None:
    data: Any = STACK
    if why == "dask":
        data = da.from_array(STACK)
    if why == "flat":
        data = STACK[3]
    desk = open_stack(data, enabled=why != "off")
    if why == "memory":
        desk.session._parts.cache.capacity = -1
    if data.ndim > 2:
        go_to(desk, 1)
    run_shown(desk)
    assert desk.session.status.kind.name == "READY"
    assert not desk.inference.waiting


@pytest.mark.parametrize("enabled", [True, False])
def test_of_large_planes_the_same_look_is_encoded_ahead(enabled: bool) -> None:
    data = np.zeros((5, 30, 3000), np.uint8)
    data[:, ::2] = 200
    desk = open_stack(data, enabled=enabled)
    go_to(desk, 2)
    desk.inference.run_all()
    assert desk.session.status.kind.name == "READY"
    looks: dict[int, set[Any]] = {}
    for key in desk.session._parts.cache._entries:
        looks.setdefault(key[0][1].index[0], set()).add(key[0][-1])
    here = looks.pop(2)
    looks.pop(0, None)  # it was shown first
    assert set(looks) == ({1, 3} if enabled else set())
    for beside in looks.values():  # the one in the middle of the screen
        assert len(beside) == 1
        assert beside < here
    # Going there, nothing has to be read before a click is answered.
    count = len(desk.runtime.encoded)
    go_to(desk, 3)
    desk.click(1500, 10)
    run_shown(desk)
    assert len(desk.runtime.encoded) == count + (not enabled)


def test_where_a_plane_takes_long_no_other_is_encoded_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ahead, "LONGEST", -1.0)
    desk = open_stack()
    go_to(desk, 4)
    run_shown(desk)
    desk.inference.step()
    assert not desk.inference.waiting


def test_a_plane_that_cannot_be_read_is_not_complained_about() -> None:
    desk = open_stack()
    go_to(desk, 4)
    run_shown(desk)
    desk.runtime.failure = OSError("gone")
    desk.inference.run_all()
    assert desk.told == []
    assert desk.session.status.kind.name == "READY"


def test_what_is_cheap_to_read(tmp_path: Path) -> None:
    local = zarr.create_array(tmp_path / "local.zarr", shape=(3, 40, 50), dtype="uint8")
    mapped = np.memmap(tmp_path / "raw", np.uint8, "w+", shape=(3, 40, 50))
    assert is_cheap(Image(STACK))
    assert is_cheap(Image(mapped))
    assert is_cheap(Image(local, contrast_limits=(0, 255)))
    assert is_cheap(Image([STACK, STACK[:, ::2, ::2]], multiscale=True))
    assert not is_cheap(Image(da.from_array(STACK)))


def image_layers(count: int = 4) -> list[Image]:
    return [
        Image(STACK[number], name=str(number), contrast_limits=(0, 255))
        for number in range(count)
    ]


def encoded(desk: Desk) -> set[str]:
    """Names of the images whose embeddings are in memory."""
    memory = desk.session._parts.subject.memory
    names = {memory.state_of(each).version: each.name for each in desk.viewer.layers}
    keys: Any = desk.session._parts.cache._entries
    return {names[key[0][0]] for key in keys}


def test_the_images_beside_the_shown_one_are_encoded_too() -> None:
    desk = open_desk(inference=SteppedInference())
    desk.session.set_ahead(True)
    layers = image_layers()
    for layer in layers:
        layer.visible = False
        desk.viewer.add_layer(layer)
    desk.session.set_image(layers[2])
    run_shown(desk)
    desk.inference.run_all()
    assert encoded(desk) >= {"1", "2", "3"}
    assert "0" not in encoded(desk)
    count = len(desk.runtime.encoded)
    desk.session.set_image(layers[1])
    assert desk.session.status.kind.name == "READY"  # at once
    desk.inference.run_all()
    assert encoded(desk) == {"0", "1", "2", "3"}
    assert len(desk.runtime.encoded) == count + 1
    assert desk.told == []


def test_planes_of_the_stack_go_before_another_image() -> None:
    desk = open_stack()
    desk.viewer.add_layer(image_layers(1)[0])
    stack = desk.viewer.layers[0]
    desk.session.set_image(stack)
    go_to(desk, 4)
    run_shown(desk)
    desk.inference.step()
    desk.inference.step()
    assert {(3,), (4,), (5,)} <= set(held(desk))
    assert () not in held(desk)
    desk.inference.step()
    assert () in held(desk)
    assert not desk.inference.waiting


def test_an_image_beside_that_is_not_cheap_is_left_alone() -> None:
    desk = open_desk(inference=SteppedInference())
    desk.session.set_ahead(True)
    desk.viewer.add_layer(Image(da.from_array(STACK[0]), name="lazy"))
    shown = image_layers(1)[0]
    desk.viewer.add_layer(shown)
    desk.inference.run_all()
    assert encoded(desk) == {"0"}
