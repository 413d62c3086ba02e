"""What the user sees until the decoder has answered: no click seems lost, and nothing flickers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.layers import Image

from analytic_runtime import DISK, AnalyticRuntime
from desk import Desk, open_desk
from fake_inference import SteppedInference
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.objects.maps import boundary_distance, centre_distance
from napari_tinysam.ui.session.facade import StatusKind
from napari_tinysam.ui.session.worker import Lane

#: Squares in the object maps, first and last pixel of the frame along both axes.
ONE, OTHER = (100, 219), (400, 519)


def work(desk: Desk) -> None:
    """Do all that was asked for, but read nothing ahead."""
    while min(desk.inference.waiting, default=Lane.AHEAD) < Lane.AHEAD:
        desk.inference.step()


@pytest.fixture
def desk() -> Desk:
    """A desk with an image of 1,024² pixels, in which the object head sees two squares."""
    labels = np.zeros((256, 256), np.int32)
    for number, (first, last) in enumerate((ONE, OTHER), 1):
        part = slice(first // 4, (last + 1) // 4)
        labels[part, part] = number
    distances = [f(labels) / 255 for f in (centre_distance, boundary_distance)]
    maps = np.stack([labels > 0, *distances]).astype(np.float32)
    runtime = AnalyticRuntime(maps)
    runtime.dense_prompts = True
    predictor = Predictor(runtime, name="squares", model_id="squares")
    image = Image(np.random.default_rng(0).integers(0, 255, (1024, 1024), np.uint8))
    desk = open_desk(
        image, inference=SteppedInference(), load_predictor=lambda *_: predictor
    )
    work(desk)
    return desk


def hovered(desk: Desk) -> tuple[int, ...] | None:
    """Box of the mask that is drawn for the cursor."""
    shown = desk.session._parts.masks.preview.shown
    return shown.hover[0].box if shown is not None and shown.hover else None


def square(ends: tuple[int, int]) -> Any:
    first, last = ends
    return pytest.approx((first, first, last, last), abs=4)


def test_the_hover_shows_the_instance_at_once_and_then_the_decoders_mask(
    desk: Desk,
) -> None:
    desk.session.hover_at(desk.world(160, 160))
    assert hovered(desk) == square(ONE)
    work(desk)
    decoded = hovered(desk)
    assert decoded is not None
    assert decoded != square((0, 0))
    assert not desk.session.can_undo


def test_within_an_object_the_decoders_mask_stays(desk: Desk) -> None:
    desk.session.hover_at(desk.world(160, 160))
    work(desk)
    before = desk.session._parts.masks.preview.shown
    desk.session.hover_at(desk.world(165, 160))
    assert desk.session._parts.masks.preview.shown is before
    work(desk)
    assert hovered(desk) is not None


def test_from_one_object_to_the_other_there_is_always_a_mask(desk: Desk) -> None:
    masks = desk.session._parts.masks
    desk.session.hover_at(desk.world(160, 160))
    late = desk.inference.start()
    desk.session.hover_at(desk.world(460, 460))
    assert hovered(desk) == square(OTHER)
    late()  # the answer about the first object
    assert hovered(desk) == square(OTHER)
    work(desk)
    assert masks.hovers_over((460, 460))
    desk.session.hover_at(desk.world(900, 100))  # on the background nothing is known
    assert masks.hovers_over((460, 460))
    work(desk)
    assert masks.hovers_over((900, 100))


def test_a_click_is_seen_at_once(desk: Desk) -> None:
    desk.click(160, 160)
    shown = desk.session._parts.masks.preview.shown
    assert shown is not None
    assert shown.waiting[0].box == square(ONE)
    work(desk)
    assert set(desk.preview_pixels()) == {"current"}


def test_a_click_on_what_is_hovered_keeps_its_outline(desk: Desk) -> None:
    desk.session.hover_at(desk.world(900, 100))
    work(desk)
    before = hovered(desk)
    desk.click(910, 100)
    shown = desk.session._parts.masks.preview.shown
    assert shown is not None
    assert [mask.box for mask in shown.waiting] == [before]


def test_a_click_on_nothing_known_leaves_a_mark_of_one_size_on_the_screen(
    desk: Desk,
) -> None:
    for zoom in (1.0, 0.25):
        desk.viewer.scene.camera.zoom = zoom
        desk.click(700, 700)
        shown = desk.session._parts.masks.preview.shown
        assert shown is not None
        (mark,) = shown.waiting
        assert mark.mask.shape[0] * zoom == pytest.approx(14, abs=2)
        assert mark.holds(700, 700)
        desk.session.clear()


def test_a_box_stays_until_its_mask_is_there(desk: Desk) -> None:
    desk.box(600, 620, 700, 730)
    shown = desk.session._parts.masks.preview.shown
    assert shown is not None
    assert shown.waiting[0].box == (600, 620, 700, 730)
    work(desk)
    assert set(desk.preview_pixels()) == {"current"}


def test_while_an_object_is_refined_its_mask_stays(desk: Desk) -> None:
    desk.click(160, 160)
    work(desk)
    desk.session.next_object()
    desk.click(460, 460)
    work(desk)
    (kept, before) = desk.session._parts.masks.known()
    desk.click(460 + DISK - 2, 460)
    shown = desk.session._parts.masks.preview.shown
    assert shown is not None
    assert (shown.objects, shown.waiting) == ((kept,), (before,))
    work(desk)
    assert set(desk.preview_pixels()) == {"kept", "current"}


def test_a_failure_leaves_nothing_waiting(desk: Desk) -> None:
    def broken(*args: Any, **options: Any) -> Any:
        raise RuntimeError("no memory")

    predictor = desk.session._parts.embedder.predictor
    assert predictor is not None
    predictor._runtime.decode = broken  # type: ignore[method-assign]
    desk.click(160, 160)
    work(desk)
    assert not desk.preview_pixels()
    assert [level for level, _ in desk.told] == ["error"]
    assert desk.session.status.kind is StatusKind.READY


def test_another_image_shows_no_mark_of_this_one(desk: Desk) -> None:
    desk.click(160, 160)
    desk.viewer.add_image(np.zeros((300, 300), np.uint8))
    assert not desk.preview_pixels()
    work(desk)
    assert not desk.preview_pixels()


def test_the_status_says_what_a_click_waits_for() -> None:
    desk = open_desk(inference=SteppedInference())
    side = 4096
    desk.viewer.add_image(np.zeros((side, side), np.uint8) + np.arange(side) % 250)
    desk.image.corner_pixels = np.array([[600, 600], [1400, 1400]])
    desk.session._parts.viewing.refresh(force=True)
    work(desk)
    assert desk.session.status.kind is StatusKind.READY
    said = desk.session.status.text
    desk.click(3000, 3000)
    assert desk.session.status.kind is StatusKind.EMBEDDING
    assert desk.session.status.text == "Reading 512 × 512 pixels of the image…"
    assert set(desk.preview_pixels()) == {"waiting"}
    work(desk)
    assert (desk.session.status.kind, desk.session.status.text) == (
        StatusKind.READY,
        said,
    )
    assert set(desk.preview_pixels()) == {"current"}
    desk.session.next_object()
    desk.click(3010, 3090)  # in the same look
    assert desk.session.status.kind is StatusKind.READY
    work(desk)
    desk.session.next_object()
    desk.click(300, 300)
    desk.session.clear()  # before it was answered
    work(desk)
    assert desk.session.status.kind is StatusKind.READY
    assert not desk.preview_pixels()
