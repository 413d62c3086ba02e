"""Windows of frames, and embeddings cut along their cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tinysam.frame import CELL, FRAME
from napari_tinysam.model import ImageFeatures
from tinysam_training.data import frame_batches
from tinysam_training.data.frame_batches import EmbeddedFrame, FrameBatches, placed
from tinysam_training.data.sampling import (
    BatchRequest,
    Sources,
)
from tinysam_training.data.turns import TURNS, turned
from tinysam_training.data.windows import frame_window
from tinysam_training.labelled_image import LabelledImage
from training.small_runs import RECIPE, discs, rectangles, same

GRID = FRAME // CELL


@given(
    rectangles(),
    st.sampled_from([32, 64, 224, 512, 1024]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=100, deadline=None)
def test_windows_lie_in_the_frame_with_an_object_in_view(
    image: LabelledImage, side: int, seed: int
) -> None:
    cells = side // CELL
    top, left = placed(image, cells, np.random.default_rng(seed))
    assert 0 <= top <= GRID - cells
    assert 0 <= left <= GRID - cells
    # No more padding than there must be: the window begins where the image still fills it.
    height, width = image.rgb.shape[:2]
    scale = GRID / max(height, width)
    assert top == 0 or top + cells < height * scale + 1
    assert left == 0 or left + cells < width * scale + 1
    centres = [
        ((y0 + y1) / 2 * scale, (x0 + x1) / 2 * scale)
        for _, x0, y0, x1, y1 in image.boxes
    ]
    assert any(
        top - 0.5 <= y <= top + cells + 0.5 and left - 0.5 <= x <= left + cells + 0.5
        for y, x in centres
    )


def test_an_image_without_objects_is_looked_at_somewhere() -> None:
    image = discs(1)[0]
    empty = LabelledImage("e", "b", image.rgb, np.zeros_like(image.labels))
    top, left = placed(empty, 4, np.random.default_rng(0))
    assert 0 <= top <= GRID - 4
    assert 0 <= left <= GRID - 4


def with_details(frame: EmbeddedFrame) -> ImageFeatures:
    """A batch of one; each cell's code at two, four and eight times the resolution, too."""
    code = coded(frame)[None]
    finer = [
        code.repeat_interleave(n, 2).repeat_interleave(n, 3)[:, :2] for n in (2, 4, 8)
    ]
    return ImageFeatures(code, tuple(finer))


def coded(frame: EmbeddedFrame) -> torch.Tensor:
    """An embedding whose values say which image, turn and cell they are of."""
    y, x = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    turn = list(TURNS).index(frame.turn)
    planes = [y, x, torch.full_like(y, frame.image), torch.full_like(y, turn)]
    return torch.stack(planes).half()


@pytest.mark.parametrize("own", [True, False])
def test_embeddings_are_cut_where_the_windows_are(
    own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, int]] = []

    def window(image: LabelledImage, side: int, top: int, left: int) -> object:
        seen.append((image.name, top, left))
        return frame_window(image, side, top, left)

    monkeypatch.setattr(frame_batches, "frame_window", window)
    images = discs(3)
    batches = FrameBatches(
        Sources.even(images),
        ("identity", "transposed"),
        with_details if own else coded,
        RECIPE,
        own=own,
    )
    names: set[str] = set()
    for number in range(6):
        seen.clear()
        batch = batches[BatchRequest(number, 0)]
        assert (batch.features is None) is not own
        assert (batch.teacher is None) is own
        given = batch.teacher
        if batch.features is not None:
            given, details = batch.features
            for n, finer in zip((2, 4, 8), details, strict=True):
                wanted = given.repeat_interleave(n, 2).repeat_interleave(n, 3)
                assert torch.equal(finer, wanted[:, :2])
        assert given is not None
        assert given.dtype == torch.float32
        assert given.shape == (2, 4, 4, 4)
        for cut, offset, (name, top, left) in zip(
            given, batch.windows.offset.tolist(), seen, strict=True
        ):
            names.add(name)
            assert offset == [top, left]
            assert cut[0, :, 0].tolist() == list(range(top, top + 4))
            assert cut[1, 0].tolist() == list(range(left, left + 4))
            image, turn = images[int(cut[2, 0, 0])], list(TURNS)[int(cut[3, 0, 0])]
            assert name == turned(image, turn).name
    assert len(names) > 3  # different images, different turns


def test_maps_of_frames_have_the_stride_of_the_head() -> None:
    batches = FrameBatches(
        Sources.even(discs(1)), ("identity",), coded, RECIPE, own=False, map_stride=2
    )
    windows = batches[BatchRequest(0, 0)].windows
    assert windows.maps.shape == (2, 3, 32, 32)
    assert windows.maps_weight.shape == (2, 1, 32, 32)
    assert windows.valid.shape == (2, 1, 16, 16)


def test_the_same_request_is_the_same_cut() -> None:
    def make() -> FrameBatches:
        return FrameBatches(
            Sources.even(discs(2)), tuple(TURNS), with_details, RECIPE, own=True
        )

    assert same(make()[BatchRequest(5, 0)], make()[BatchRequest(5, 0)])
    assert not same(make()[BatchRequest(5, 0)], make()[BatchRequest(6, 0)])
