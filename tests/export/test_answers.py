"""Exported files answer as the model does, whatever is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from efficient_models import efficient_model
from export.small_exports import (
    SIDE,
    Arrays,
    Exported,
    assert_alike,
    decoded,
    encoded,
    features_of,
    picture,
    small_model,
)
from napari_tinysam.export import export
from napari_tinysam.model import ImageFeatures, projected_details

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tinysam.model import SegmentAnything

LOGITS = SIDE // 4


@dataclass
class Case:
    """A model, its files, and what torch knows of an image."""

    model: SegmentAnything
    files: Exported
    embedding: Tensor
    maps: Tensor | None
    details: tuple[Tensor, ...] = ()

    @property
    def reads_regions(self) -> bool:
        return self.model.dense_prompts and self.model.object_head is not None


KINDS = {
    "plain": {"head": False, "dense": False},
    "head": {"head": True, "dense": False},
    "dense": {"head": False, "dense": True},
    "head and dense": {"head": True, "dense": True},
    "efficient": {"head": False, "dense": False},
    "efficient, head and dense": {"head": True, "dense": True},
}


def case_of(model: SegmentAnything, folder: Path, **options: Any) -> Case:
    export(model, folder, **options)
    details = features_of(model, picture()).details
    if model.architecture == "tiny_vit_2m":
        details = ()  # its decoder reads none
    return Case(model, Exported(folder), *encoded(model, picture()), details)


def projected(case: Case) -> Arrays:
    """What the encoder's file gives of details, by names."""
    features = ImageFeatures(case.embedding, case.details)
    decoder = case.model.mask_decoder
    with torch.no_grad():
        found = projected_details(decoder, features) or ()
        if found and case.model.dense_prompts:
            fine = decoder.refiner.projected(case.details)
            found = tuple(torch.cat(pair, 1) for pair in zip(found, fine, strict=True))
    names = ("details_8", "details_4")[: len(found)]
    return {name: x.numpy() for name, x in zip(names, found, strict=True)}


@pytest.fixture(scope="module", params=KINDS)
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    make = efficient_model if "efficient" in request.param else small_model
    model = make(side=SIDE, **KINDS[request.param])
    return case_of(model, tmp_path_factory.mktemp("files") / "out")


@pytest.fixture(scope="module")
def openvino_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    pytest.importorskip("openvino", reason="OpenVINO has no wheel for this platform")
    folder = tmp_path_factory.mktemp("files") / "out"
    return case_of(small_model(), folder, format="openvino")


PROMPTS = [
    *("point", "points", "box", "box and points"),
    *("point and mask", "box and mask", "box, points and mask"),
]


def prompts_of(kind: str, count: int, seed: int = 0) -> dict[str, Any]:
    """As the model takes them: points, labels, boxes, masks, and regions."""
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = dict.fromkeys(("points", "labels", "boxes", "masks"))
    if "point" in kind:
        many = 3 if "points" in kind else 1
        places = rng.uniform(0, SIDE, (count, many, 2))
        found["points"] = places.astype(np.float32)
        found["labels"] = rng.integers(0, 2, (count, many))
        found["labels"][:, 0] = 1
    if "box" in kind:
        corners = np.sort(rng.uniform(0, SIDE, (count, 2, 2)), axis=1)
        found["boxes"] = corners.reshape(count, 4).astype(np.float32)
    if "mask" in kind:
        shape = (count, LOGITS, LOGITS)
        found["masks"] = rng.normal(0, 8, shape).astype(np.float32)
    # The image's, whatever is asked about it.
    coarse = np.random.default_rng(seed).integers(0, 4, (4, 4)).astype(np.int32)
    found["regions"] = np.kron(coarse, np.ones((LOGITS // 4, LOGITS // 4), np.int32))
    return found


def inputs_of(case: Case, given: dict[str, Any]) -> Arrays:
    """The same as the files take them."""
    points, labels = [], []
    if given["points"] is not None:
        points.append(given["points"])
        labels.append(given["labels"])
    if given["boxes"] is not None:
        count = len(given["boxes"])
        points.append(given["boxes"].reshape(count, 2, 2))
        labels.append(np.tile([2, 3], (count, 1)))
    count = len(points[0])
    masks = given["masks"]
    found = {
        "embedding": case.embedding.numpy(),
        "points": np.concatenate(points, axis=1),
        "labels": np.concatenate(labels, axis=1).astype(np.int64),
        # What does not count may be anything.
        "mask_prompt": np.full((count, 1, LOGITS, LOGITS), np.nan, np.float32)
        if masks is None
        else masks[:, None],
        "has_mask": np.full(count, masks is not None, np.float32),
    }
    if case.reads_regions:
        found["regions"] = given["regions"]
    return found | projected(case)


def answers(case: Case, given: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """What torch says."""
    own = dict(given)
    if not case.reads_regions:
        del own["regions"]
    return decoded(case.model, case.embedding, case.details, **own)


def check(case: Case, given: dict[str, Any]) -> None:
    found = case.files.decode(inputs_of(case, given))
    for ours, expected in zip(found, answers(case, given), strict=True):
        assert_alike(ours, expected)


def test_an_image_is_embedded_alike(case: Case) -> None:
    found = case.files.encode(picture())
    assert_alike(found.pop("embedding"), case.embedding)
    if case.maps is not None:
        assert_alike(found.pop("object_maps"), case.maps)
    for name, expected in projected(case).items():
        assert_alike(found.pop(name), expected)
    assert not found


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", PROMPTS)
def test_prompts_are_answered_alike(case: Case, kind: str, count: int) -> None:
    check(case, prompts_of(kind, count))


def test_only_negative_points_are_answered_alike(case: Case) -> None:
    given = prompts_of("points", 2)
    given["labels"][:] = 0
    check(case, given)


def with_filler(inputs: Arrays) -> Arrays:
    """The same with one more point that is none, wherever it lies, even nowhere."""
    count = len(inputs["points"])
    nowhere = np.full((count, 1, 2), np.nan, np.float32)
    fillers = np.full((count, 1), -1, np.int64)
    return inputs | {
        "points": np.concatenate([inputs["points"], nowhere], axis=1),
        "labels": np.concatenate([inputs["labels"], fillers], axis=1),
    }


def test_the_filler_behind_points_may_be_given_or_not(case: Case) -> None:
    """The model wants one there without a box. Where it is given, no second one is added."""
    inputs = inputs_of(case, prompts_of("points", 2))
    alone = case.files.decode(inputs)
    filled = case.files.decode(with_filler(inputs))
    for ours, expected in zip(filled, alone, strict=True):
        assert_alike(ours, expected, 1e-5)


def test_rows_are_filled_up_as_the_model_fills_them(case: Case) -> None:
    given = prompts_of("points", 3)
    given["labels"][1, 2] = given["labels"][2, 1:] = -1
    found = case.files.decode(with_filler(inputs_of(case, given)))
    for ours, expected in zip(found, answers(case, given), strict=True):
        assert_alike(ours, expected)


def test_a_mask_may_be_of_one_object_and_not_of_another(case: Case) -> None:
    with_mask, without = prompts_of("point and mask", 2), prompts_of("point", 2)
    inputs = inputs_of(case, with_mask)
    inputs["has_mask"][1] = 0
    inputs["mask_prompt"][1] = np.nan
    masks, scores = case.files.decode(inputs)
    for row, given in enumerate((with_mask, without)):
        for ours, expected in zip((masks, scores), answers(case, given), strict=True):
            assert_alike(ours[row], expected[row])


def test_a_box_may_be_of_one_object_and_not_of_another(case: Case) -> None:
    """Each object gets the drawing of its own prompts; a point and a filler are known of old."""
    box, point = prompts_of("box", 2), prompts_of("point", 2)
    inputs = inputs_of(case, box)
    inputs["points"][1] = point["points"][1]
    inputs["labels"][1] = [1, -1]
    masks, scores = case.files.decode(inputs)
    for row, given in enumerate((box, point)):
        for ours, expected in zip((masks, scores), answers(case, given), strict=True):
            assert_alike(ours[row], expected[row])


def test_a_smaller_frame_is_answered_alike(tmp_path: Path) -> None:
    model, side = small_model(), 80
    export(model, tmp_path / "out", frame_size=side)
    files = Exported(tmp_path / "out")
    image = picture(side)
    embedding, maps = encoded(model, image, side)
    assert maps is not None
    found = files.encode(image, side)
    assert_alike(found["embedding"], embedding)
    assert_alike(found["object_maps"], maps)
    points = np.array([[[30, 20], [50, 60]]], np.float32)
    labels, regions = np.array([[1, 0]]), np.zeros((side // 4, side // 4), np.int32)
    regions[4:8, 4:12] = 7
    inputs = {
        "embedding": embedding.numpy(),
        "points": points,
        "labels": labels,
        "mask_prompt": np.zeros((1, 1, side // 4, side // 4), np.float32),
        "has_mask": np.zeros(1, np.float32),
        "regions": regions,
    }
    expected = decoded(model, embedding, points=points, labels=labels, regions=regions)
    for ours, theirs in zip(files.decode(inputs), expected, strict=True):
        assert_alike(ours, theirs)


def test_openvino_answers_alike(openvino_case: Case) -> None:
    test_an_image_is_embedded_alike(openvino_case)
    for kind in PROMPTS:
        check(openvino_case, prompts_of(kind, 2))
    test_rows_are_filled_up_as_the_model_fills_them(openvino_case)
    test_a_mask_may_be_of_one_object_and_not_of_another(openvino_case)


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export(model, tmp_path / "out")
    assert not model.training
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
