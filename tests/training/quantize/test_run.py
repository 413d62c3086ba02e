"""From images to a quantized model: what is chosen, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from napari_tinysam.errors import DataError
from napari_tinysam.model import SegmentAnything
from napari_tinysam.model.integers import is_quantized
from napari_tinysam.model.quantized import with_integers
from official_models import random_values
from tinysam_training.labelled_image import ImageEntry, LabelledImage
from tinysam_training.quantize import products
from tinysam_training.quantize.calibration_images import calibration_images
from tinysam_training.quantize.quantizing import Collected, collected
from tinysam_training.quantize.run import COMPUTED, Quantized, quantize
from tinysam_training.quantize.search import ScaleSearch
from tinysam_training.quantize.sensitivity import task_loss
from training.small_runs import discs, write_pairs

FEW = ScaleSearch(candidates=4, rounds=1, coarse=2, starts=1)
SIDE = 1024


def entry(image: LabelledImage) -> ImageEntry:
    return ImageEntry(image.name, image.dataset, True, lambda: image, image.name)


@pytest.fixture(scope="module")
def model() -> SegmentAnything:
    found = SegmentAnything("tiny_vit_2m", SIDE, object_head=True, details=True)
    found.load_state_dict(random_values(found.state_dict()))
    found.dense_prompts = True
    return found.eval()


@pytest.fixture(scope="module", autouse=True)
def few_rows() -> Iterator[None]:
    """Keep a tenth of the rows: some gigabytes less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_KEPT", 100_000)
        yield


@pytest.fixture(scope="module")
def shown(model: SegmentAnything) -> Collected:
    return collected(model, [entry(image) for image in discs(1)])


def test_what_is_shown_goes_the_way_of_every_image(shown: Collected) -> None:
    assert [max(one.rgb.shape) for one in shown.seen] == [1024]
    assert shown.images == 1
    first = shown.seen[0]
    kinds = [sorted(given) for given in first.prompts]
    # Clicks and boxes, both drawn too.
    assert ["labels", "masks", "points"] in kinds
    assert ["boxes", "masks"] in kinds
    assert all(0 < len(given["masks"]) <= 4 for given in first.prompts)


@pytest.fixture(scope="module")
def made(model: SegmentAnything) -> Quantized:
    return quantize(model, [entry(image) for image in discs(1)], FEW)


def test_encoder_and_head_compute_with_integers(
    made: Quantized, model: SegmentAnything
) -> None:
    layers = made.model.quantization
    assert layers is not None
    assert is_quantized(layers)
    computed = {name for name, layer in layers.items() if layer.input is not None}
    wanted = {name for name in layers if name.startswith(COMPUTED)}
    assert computed == wanted - set(made.floats)
    assert len(made.floats) < 0.2 * len(wanted)
    # What stays in floats is what costs most.
    dearest = next(e.name for e in made.sensitivities if e.name.startswith(COMPUTED))
    assert not made.floats or dearest in made.floats
    assert model.quantization is None
    assert made.images == 1
    assert made.seconds > 0


def test_its_weights_are_what_eight_bits_hold(made: Quantized) -> None:
    for name, how in (made.model.quantization or {}).items():
        layer = made.model.get_submodule(name)
        axis = 1 if isinstance(layer, torch.nn.ConvTranspose2d) else 0
        weights = layer.weight.detach().transpose(0, axis).flatten(1)
        steps = weights / how.weight_scale[:, None]
        assert torch.allclose(steps, steps.round(), atol=1e-3), name
        assert steps.min() >= -128.001
        assert steps.max() <= 127.001
        # Scales that half of the bytes hold.
        assert torch.equal(how.weight_scale.bfloat16().float(), how.weight_scale)


def test_its_loss_is_the_one_that_is_measured(
    made: Quantized, shown: Collected
) -> None:
    measured = task_loss(with_integers(made.model), shown.model, shown.seen)
    assert made.loss == pytest.approx(measured, rel=0.05)
    assert 0 < made.loss < 0.1


def test_other_encoders_are_refused() -> None:
    plain = SegmentAnything.uninitialized("vit_b")
    with pytest.raises(ValueError, match="TinyViT"):
        collected(plain, [entry(image) for image in discs(1)])


# ------------------------------------------------------------------------ images


def test_images_of_all_sets_alike(tmp_path: Path) -> None:
    write_pairs(tmp_path / "many", 5)
    write_pairs(tmp_path / "few", 1, first=5)
    chosen = calibration_images([tmp_path / "many", tmp_path / "few"], 3)
    names = [each.name for each in chosen]
    assert len(names) == 3
    assert sum("disc5" in name for name in names) == 1
    assert len(set(names)) == 3
    assert len(calibration_images([tmp_path / "few"], 8)) == 1


def test_images_without_labels(tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "a.png", np.eye(20, dtype=np.uint8) * 200)
    (chosen,) = calibration_images([tmp_path], 8)
    image = chosen.read()
    assert image.rgb.shape == (20, 20, 3)
    assert not image.labels.any()
    assert not image.complete


def test_the_training_part_is_taken_where_a_folder_is_split(tmp_path: Path) -> None:
    for part, first in (("train", 0), ("val", 3)):
        write_pairs(tmp_path / part, 2, first=first)
    names = {each.name for each in calibration_images([tmp_path], 8)}
    assert len(names) == 2
    assert not any("disc3" in name or "disc4" in name for name in names)


def test_no_images_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        calibration_images([tmp_path], 8)
    with pytest.raises(DataError, match="not a folder"):
        calibration_images([tmp_path / "missing"], 8)
    with pytest.raises(DataError, match="no image"):
        calibration_images([], 8)
