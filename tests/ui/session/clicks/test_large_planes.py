"""Clicking in planes that are larger than the model's frame, with discs for masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array
import numpy as np
import pytest
import tifffile
from napari.layers import Image

from desk import Desk, open_desk
from fake_inference import SteppedInference
from fake_predictor import RADII, disc_predictor
from napari_tinysam.files.label_store import LabelStore
from napari_tinysam.inference.looks import Look
from napari_tinysam.journal import identity
from napari_tinysam.prompts import NEGATIVE
from napari_tinysam.ui.session.labels import outputs
from napari_tinysam.ui.session.worker import Lane
from napari_tinysam.ui.state.planes import Contrast
from napari_tinysam.ui.state.seeing import Seeing

if TYPE_CHECKING:
    from napari_tinysam.inference.runtime import DecodedPrompts

SIDE = 4096


class Places:
    """Data whose pixels are where they lie, and that count what is read of them."""

    dtype = np.dtype(np.uint16)
    ndim = 2

    def __init__(self, side: int = SIDE, step: int = 1) -> None:
        self.shape = (side // step, side // step)
        self.size = self.shape[0] * self.shape[1]
        self.step = step
        self.reads: list[tuple[int, int, int, int]] = []

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, columns = (np.arange(self.shape[0])[part] for part in key)
        y, x = np.atleast_1d(rows), np.atleast_1d(columns)
        self.reads.append((int(y[0]), int(x[0]), int(y[-1]) + 1, int(x[-1]) + 1))
        return np.add.outer(y, x).astype(np.uint16) * self.step

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self[:, :]


def large(side: int = SIDE) -> Image:
    return Image(np.add.outer(*[np.arange(side, dtype=np.uint16)] * 2), name="large")


def looks(desk: Desk) -> list[Look]:
    """Which parts of the plane were read, in order."""
    return [key[0][-1] for key in desk.session._parts.cache._entries]


def seen_from(desk: Desk) -> int:
    """Side of the looks that the current object is seen in."""
    subject = desk.session._parts.subject
    assert subject.seen is not None
    return subject.seen.pyramid.sides[subject.start(desk.session.drafts.current)[0]]


def show(desk: Desk, x: float, y: float, length: int = 900) -> None:
    """Zoom to a square around (x, y)."""
    corners = np.array(
        [[y - length / 2, x - length / 2], [y + length / 2, x + length / 2]]
    )
    desk.image.corner_pixels = corners.astype(int)
    desk.viewer.scene.camera.zoom *= 1.01


def click(desk: Desk, x: float, y: float, label: int | None = None) -> None:
    desk.click(x, y, label)
    while min(desk.inference.waiting, default=Lane.AHEAD) < Lane.AHEAD:
        desk.inference.step()


@pytest.fixture
def desk() -> Desk:
    """A desk that shows 900 pixels around (3000, 1000)."""
    desk = open_desk(inference=SteppedInference())
    image = large()
    desk.viewer.add_layer(image)
    show(desk, 3000, 1000)
    desk.session._parts.viewing.refresh(force=True)
    while min(desk.inference.waiting, default=Lane.AHEAD) < Lane.AHEAD:
        desk.inference.step()
    return desk


def test_the_part_on_the_screen_is_read_first_then_around_it(desk: Desk) -> None:
    first = looks(desk)[0]
    assert first.size == (512, 512)
    assert first.clearance((3000, 1000, 3000, 1000), (SIDE, SIDE)) > 100
    assert desk.session.status.text == "Ready. Seen in tiles of 512 pixels"
    desk.inference.run_all()
    around = looks(desk)
    assert len(around) > 4
    cover = np.zeros((SIDE, SIDE), bool)
    for look in around:
        cover[look.rows, look.columns] = True
    assert cover[550:1450, 2550:3450].all()


def test_the_look_under_the_cursor_is_read_before_others(desk: Desk) -> None:
    desk.session.hover_at(desk.world(2600, 700))
    assert desk.inference.step() is Lane.HOVER
    assert looks(desk)[-1].clearance((2600, 700, 2600, 700), (SIDE, SIDE)) > 100
    assert set(desk.preview_pixels()) == {"hover"}


def test_a_click_elsewhere_is_answered_there(desk: Desk) -> None:
    click(desk, 400, 3300)
    (mask,) = desk.session._parts.masks.known()
    x0, y0, x1, y1 = mask.box
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((400, 3300), abs=2)
    # The disc of the middle candidate, in a look of half the frame.
    assert x1 - x0 == pytest.approx(2 * RADII[1] * 2, abs=3)
    desk.session.commit()
    desk.inference.run_all()
    target = desk.session.target
    assert target is not None
    assert target.data[3300, 400] == 1
    assert np.count_nonzero(target.data) == mask.area
    desk.session.undo()
    assert not target.data.any()


def test_a_box_across_tiles_counts_whole(desk: Desk) -> None:
    desk.box(900, 500, 2300, 1700)
    desk.inference.run_all()
    (mask,) = desk.session._parts.masks.known()
    assert mask.box == pytest.approx((900, 500, 2300, 1700), abs=20)
    assert seen_from(desk) == SIDE


def test_a_negative_point_in_another_tile_counts(desk: Desk) -> None:
    click(desk, 3000, 1000)
    assert seen_from(desk) == 512
    desk.session.click_at(desk.world(3000, 1900), NEGATIVE)
    desk.inference.run_all()
    assert seen_from(desk) >= 2048


def test_a_mask_does_not_change_with_the_zoom(desk: Desk) -> None:
    click(desk, 3000, 1000)
    (before,) = desk.session._parts.masks.known()
    show(desk, 2000, 2000, 4000)
    click(desk, 3010, 1000)  # refines it
    assert desk.session.object_count == 1
    assert seen_from(desk) == 512
    desk.session.undo()
    (after,) = desk.session._parts.masks.known()
    assert before is after


def test_an_object_cut_by_its_look_is_asked_from_further_away() -> None:
    predictor, runtime = disc_predictor()
    decode = runtime.decode

    def everything(*args: Any, **options: Any) -> Any:
        """In looks of less than 2,048 pixels the object fills the frame."""
        decoded = decode(*args, **options)
        if len(runtime.encoded) < 3:
            decoded.logits[:] = 1.0
        return decoded

    runtime.decode = everything  # type: ignore[method-assign]
    desk = open_desk(load_predictor=lambda *_: predictor, inference=SteppedInference())
    desk.viewer.add_layer(large())
    show(desk, 2000, 2000)
    desk.session._parts.viewing.refresh(force=True)
    click(desk, 2000, 2000)
    assert seen_from(desk) == 2048
    (mask,) = desk.session._parts.masks.known()
    assert mask.area < 512**2


def test_all_looks_have_the_contrast_of_the_plane(desk: Desk) -> None:
    encoded: list[np.ndarray] = []
    predictor = desk.session._parts.embedder.predictor
    assert predictor is not None
    encode = desk.runtime.encode
    predictor._runtime.encode = lambda rgb: encoded.append(rgb) or encode(rgb)  # type: ignore[method-assign]
    desk.click(300, 300)
    desk.inference.step()
    # Places run from 0 to 2 × 4,095: 600 of them are 19 of 255.
    assert 10 < encoded[0].mean() < 28
    assert np.ptp(encoded[0]) < 60
    desk.session.set_contrast(Contrast.DISPLAYED)
    desk.image.contrast_limits = (0, 1200)
    encoded.clear()
    desk.inference.run_all()
    assert encoded[-1].max() == 255


def test_lazy_data_are_read_only_where_they_are_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # By these the journal tells images apart; it reads them in its own thread.
    monkeypatch.setattr(identity, "_BLOCKS", 0)
    read: list[Any] = []

    def block(block_info: Any = None) -> np.ndarray:
        place = block_info[None]["array-location"]
        read.append(tuple(place))
        return np.full([last - first for first, last in place], place[0][0] % 251)

    sides = ((500,) * 12,) * 2
    data = dask.array.map_blocks(
        block, chunks=sides, dtype=np.int64, meta=np.zeros((0, 0), np.int64)
    )
    desk = open_desk(inference=SteppedInference())
    desk.viewer.add_layer(Image(data, name="lazy"))
    show(desk, 3250, 3250, 400)
    read.clear()  # napari draws what is not a pyramid as a whole
    desk.session._parts.viewing.refresh(force=True)
    click(desk, 3250, 3250)
    parts = looks(desk)
    assert [look.size for look in parts] == [(512, 512)]
    # 5 × 5 chunks for the contrast, and those that the look lies in.
    assert len(read) <= 25 + 9


def test_the_contrast_of_lazy_data_is_found_in_a_few_chunks() -> None:
    data = Places(20_000)
    image = Image([data, Places(20_000, 4)], multiscale=True, contrast_limits=(0, 9))
    coarse = image.data[1]
    coarse.reads.clear()
    data.reads.clear()
    desk = open_desk(inference=SteppedInference())
    desk.viewer.add_layer(image)
    image._data_level = 0
    show(desk, 5000, 5000)
    desk.session._parts.viewing.refresh(force=True)
    coarse.reads.clear()
    click(desk, 5000, 5000)
    pixels = sum(
        (y1 - y0) * (x1 - x0) for y0, x0, y1, x1 in [*data.reads, *coarse.reads]
    )
    assert 0 < pixels < 30_000_000


def test_whole_and_full_resolution_can_be_chosen(desk: Desk) -> None:
    desk.session.set_seeing(Seeing.WHOLE)
    click(desk, 3000, 1000)
    assert looks(desk)[-1] == Look.whole((SIDE, SIDE))
    assert (
        desk.session.status.text == "Ready. Seen whole, at a quarter of the resolution"
    )
    (whole,) = desk.session._parts.masks.known()
    desk.session.set_seeing(Seeing.FULL)
    while min(desk.inference.waiting, default=Lane.AHEAD) < Lane.AHEAD:
        desk.inference.step()
    assert seen_from(desk) == 1024
    (tile,) = desk.session._parts.masks.known()
    assert tile.area < whole.area / 8


def test_a_commit_without_masks_is_written_after_the_plane_was_left() -> None:
    stack = np.zeros((2, 2000, 2000), np.uint8)
    stack[:, ::2] = 9
    desk = open_desk(inference=SteppedInference())
    desk.viewer.add_layer(Image(stack, name="stack"))
    desk.viewer.dims.set_current_step(0, 0)
    desk.inference.step()  # the model
    desk.click(1700, 300)
    desk.session.commit()
    desk.viewer.dims.set_current_step(0, 1)
    desk.inference.run_all()
    target = desk.session.target
    assert target is not None
    assert target.data[0, 300, 1700] == 1
    assert not target.data[1].any()


def test_labels_of_a_huge_plane_are_on_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(outputs, "LARGEST_IN_MEMORY", 1000)
    desk = open_desk()
    desk.viewer.add_layer(large(2000))
    desk.click(300, 1500)
    (mask,) = desk.session._parts.masks.known()
    desk.session.commit()
    target = desk.session.target
    assert target is not None
    assert target.multiscale
    assert isinstance(target.data[0], LabelStore)
    assert np.count_nonzero(target.data[0][:, :]) == mask.area
    desk.click(1200, 400)
    desk.session.commit()
    assert np.unique(target.data[0][:, :]).tolist() == [0, 1, 2]
    desk.session.undo()
    assert np.unique(target.data[0][:, :]).tolist() == [0, 1]
    desk.session.undo()
    desk.session.undo()
    assert not target.data[0][:, :].any()
    desk.session.redo()
    desk.session.redo()
    desk.session.clear()
    desk.session.set_edit_mode(True)
    desk.click(300, 1500)
    assert desk.session.edited_id == 1
    desk.session.delete_object()
    assert 1 not in target.data[0][:, :]
    assert not desk.session.saving.is_saved(target)
    desk.session.saving.save(target, tmp_path / "labels.tif")
    assert desk.session.saving.is_saved(target)
    assert tifffile.imread(tmp_path / "labels.tif").shape == (2000, 2000)


def test_a_hover_that_needs_another_look_waits_for_it_only_if_the_mouse_stays(
    desk: Desk,
) -> None:
    predictor = desk.session._parts.embedder.predictor
    assert predictor is not None
    decode = desk.runtime.decode

    def cut(*args: Any, **options: Any) -> Any:
        """In the first look that is read for it the object fills the frame."""
        decoded = decode(*args, **options)
        if len(desk.runtime.encoded) == 2:
            decoded.logits[:] = 1.0
        return decoded

    desk.runtime.decode = cut
    desk.session.hover_at(desk.world(500, 500))
    assert desk.inference.step() is Lane.HOVER
    assert len(looks(desk)) == 2
    assert not desk.preview_pixels()
    assert desk.inference.step() is Lane.HOVER
    assert len(looks(desk)) == 3
    assert set(desk.preview_pixels()) == {"hover"}


def far_away(desk: Desk) -> None:
    """Show the whole plane, and let the model read it."""
    show(desk, SIDE / 2, SIDE / 2, SIDE - 10)
    desk.session._parts.viewing.refresh(force=True)
    while min(desk.inference.waiting, default=Lane.AHEAD) < Lane.AHEAD:
        desk.inference.step()
    desk.session._parts.cache.capacity = 0  # forget what was read for the fixture
    desk.session._parts.cache.capacity = 10**9


def doubts_from_afar(desk: Desk) -> None:
    """Let the model doubt its masks in looks at large parts of the plane."""
    decode = desk.runtime.decode

    def decoded(*args: Any, **options: Any) -> DecodedPrompts:
        found = decode(*args, **options)
        afar = max(looks(desk)[-1].size) > 1024
        return found._replace(scores=found.scores * (0.3 if afar else 1))

    desk.runtime.decode = decoded


def test_a_doubtful_object_is_clicked_at_the_planes_own_resolution(desk: Desk) -> None:
    far_away(desk)
    doubts_from_afar(desk)
    click(desk, 1300, 700)
    assert seen_from(desk) == 1024
    (mask,) = desk.session._parts.masks.known()
    assert max(mask.mask.shape) == pytest.approx(2 * RADII[1] * 4, abs=3)
    click(desk, 3300, 3200)  # objects of that size are looked for now
    assert seen_from(desk) == 1024
    assert max(looks(desk)[-1].size) == 1024


def test_a_large_object_is_clicked_from_afar(desk: Desk) -> None:
    far_away(desk)
    click(desk, 1300, 700)
    assert seen_from(desk) == 2048  # shows half of what is on the screen
    (mask,) = desk.session._parts.masks.known()
    assert max(mask.mask.shape) == pytest.approx(2 * RADII[1] * 8, abs=5)


def test_a_hover_over_a_doubtful_object_is_checked_if_the_mouse_stays(
    desk: Desk,
) -> None:
    far_away(desk)
    doubts_from_afar(desk)
    desk.session.hover_at(desk.world(1300, 3000))
    assert desk.inference.step() is Lane.HOVER  # reads the look from afar
    assert not desk.preview_pixels()
    desk.session.hover_at(desk.world(1310, 3000))  # it goes on
    assert desk.inference.step() is Lane.HOVER
    assert desk.preview_pixels()["hover"] == pytest.approx(3217, rel=0.1)


def test_a_small_box_is_seen_closely_from_afar_too(desk: Desk) -> None:
    far_away(desk)
    desk.box(1300, 700, 1339, 745)
    while min(desk.inference.waiting, default=Lane.AHEAD) < Lane.AHEAD:
        desk.inference.step()
    (mask,) = desk.session._parts.masks.known()
    assert mask.box == pytest.approx((1300, 700, 1339, 745), abs=1)
    assert seen_from(desk) == 1024
    desk.session.next_object()
    desk.box(300, 200, 3300, 3700)
    while min(desk.inference.waiting, default=Lane.AHEAD) < Lane.AHEAD:
        desk.inference.step()
    assert desk.session._parts.masks.known()[-1].box == pytest.approx(
        (300, 200, 3300, 3700), abs=30
    )
    assert seen_from(desk) == SIDE
