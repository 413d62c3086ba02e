"""`segment` on planes that are larger than the model's frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fake_predictor import RADII, disc_predictor
from napari_tinysam.cli.prompt_options import ObjectPrompt
from napari_tinysam.cli.segment import segment_objects

if TYPE_CHECKING:
    from napari_tinysam.inference.runtime import DecodedPrompts


def plane() -> np.ndarray:
    return np.add.outer(np.arange(2000), np.arange(3000)).astype(np.uint16)


def disc_area(pixels: float) -> float:
    """Area of the fake model's disc where a pixel of the frame is so many of the plane."""
    return float(np.pi * (RADII[1] * 4 * pixels) ** 2)


def test_small_objects_of_a_large_plane_are_seen_at_its_own_resolution() -> None:
    predictor, runtime = disc_predictor()
    objects = [
        ObjectPrompt(positive=((2500.0, 300.0),)),
        ObjectPrompt(box=(100.0, 200.0, 1900.0, 1700.0)),
    ]
    result = segment_objects(predictor, plane(), objects)
    assert result.labels.shape == (2000, 3000)
    ys, xs = np.nonzero(result.labels == 1)
    assert (xs.mean(), ys.mean()) == pytest.approx((2500, 300), abs=1)
    assert ys.size == pytest.approx(disc_area(1), rel=0.1)
    ys, xs = np.nonzero(result.labels == 2)
    assert (xs.min(), ys.min()) == pytest.approx((100, 200), abs=20)
    assert (xs.max(), ys.max()) == pytest.approx((1900, 1700), abs=20)
    assert len(runtime.encoded) == 2


@pytest.mark.parametrize("afar", [0.9, 0.5])
def test_doubtful_objects_of_a_large_plane_are_seen_from_afar_as_well(
    afar: float,
) -> None:
    predictor, runtime = disc_predictor()
    decode = runtime.decode

    def doubtful(*args: Any, **options: Any) -> DecodedPrompts:
        """The first look is at the plane's own resolution, the second at all of it."""
        score = 0.3 if len(runtime.encoded) == 1 else afar
        found = decode(*args, **options)
        return found._replace(scores=found.scores * np.float32(score / 0.9))

    runtime.decode = doubtful  # type: ignore[method-assign]
    objects = [ObjectPrompt(positive=((2500.0, 300.0),))]
    labels = segment_objects(predictor, plane(), objects).labels
    scale = 3000 / 1024 if afar > 0.7 else 1
    assert np.count_nonzero(labels) == pytest.approx(disc_area(scale), rel=0.1)
    assert len(runtime.encoded) == 2


def test_a_small_box_in_a_large_plane_is_seen_closely() -> None:
    predictor, runtime = disc_predictor()
    objects = [ObjectPrompt(box=(100.0, 200.0, 129.0, 225.0))]
    result = segment_objects(predictor, plane(), objects)
    ys, xs = np.nonzero(result.labels)
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == pytest.approx(
        (100, 200, 129, 225), abs=1
    )
    assert len(runtime.encoded) == 1


def test_prompts_move_together() -> None:
    prompt = ObjectPrompt((1.0, 2.0, 3.0, 4.0), ((2.0, 3.0),), ((9.0, 8.0),))
    assert prompt.around == (1, 2, 9, 8)
    moved = prompt.moved(-1, 10)
    assert moved == ObjectPrompt((0, 12, 2, 14), ((1, 13),), ((8, 18),))
