"""The test sheets: what is on them, and what careless prompts are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_tinysam.masks import BoxedMask
from papers import careless_prompts as careless
from papers import robustness, robustness_sheets
from papers.careless_prompts import careless_prompts, negative_clicks
from papers.robustness import Robustness, judge_robustness, write_report
from papers.robustness_sheets import sheets
from tinysam_training.labelled_image import LabelledImage


@pytest.fixture(scope="module")
def drawn() -> dict[str, robustness_sheets.Sheet]:
    return {sheet.name: sheet for sheet in sheets(1, seed=3)}


def extents(image: LabelledImage) -> np.ndarray:
    """Longer sides of objects in pixels of the frame."""
    boxes = image.boxes
    sides = np.maximum(boxes[:, 3] - boxes[:, 1], boxes[:, 4] - boxes[:, 2])
    return sides * 1024 / max(image.rgb.shape[:2])


def test_sheets_show_what_they_say(drawn: dict[str, robustness_sheets.Sheet]) -> None:
    for name, low, high in (("plain", 24, 200), ("tiny", 6, 11), ("large", 320, 480)):
        (image,) = drawn[name].images
        found = extents(image)
        assert len(found)
        # Cut off by the limits of the whole picture, an object may be a little smaller.
        assert found.min() >= low
        assert found.max() <= high
    plain = drawn["plain"].images[0]
    inverted = drawn["inverted"].images[0].rgb
    np.testing.assert_array_equal(inverted, 255 - plain.rgb)
    blurred = drawn["defocused"].images[0].rgb
    assert np.abs(np.diff(blurred.astype(int), axis=0)).mean() < (
        np.abs(np.diff(plain.rgb.astype(int), axis=0)).mean()
    )
    for name in ("defocused", "inverted", "16_bit"):
        np.testing.assert_array_equal(drawn[name].images[0].labels, plain.labels)
    colour = drawn["colour"].images[0].rgb.astype(int)
    assert np.abs(colour - colour.mean(2, keepdims=True)).mean() > 3


def test_hot_pixels_do_not_darken_the_16_bit_sheet(
    drawn: dict[str, robustness_sheets.Sheet],
) -> None:
    """Training sees what inference sees: contrast by percentiles."""
    assert np.percentile(drawn["16_bit"].images[0].rgb, 99) > 100


def test_touching_objects_touch(drawn: dict[str, robustness_sheets.Sheet]) -> None:
    labels = drawn["touching"].images[0].labels[0]
    assert labels.max() >= 4
    assert not drawn["touching"].images[0].complete


def test_the_same_seed_gives_the_same_sheets(
    drawn: dict[str, robustness_sheets.Sheet], monkeypatch: pytest.MonkeyPatch
) -> None:
    again = robustness_sheets._drawn(
        1,
        3,
        ("nuclei",),
        lambda image: robustness_sheets._sized(image, (24, 200)),
        at_least=5,
    )
    np.testing.assert_array_equal(again[0].rgb, drawn["plain"].images[0].rgb)


# ---------------------------------------------------------------------- prompts


def two_halves() -> LabelledImage:
    """A disc, cut in two objects that touch, and one that stands alone."""
    y, x = np.mgrid[:96, :96]
    disc = np.hypot(y - 40, x - 40) < 24
    labels = np.where(disc, np.where(x < 40, 1, 2), 0)
    labels[80:92, 76:92] = 3
    image = (40 + 150 * (labels > 0)).astype(np.uint8)
    return LabelledImage.from_arrays("halves", "test", image, labels)


class Painter:
    """A stand-in for a model: a mask of all that is bright and joined, minus negative clicks."""

    def __init__(self, image: LabelledImage) -> None:
        self.image = image
        self.asked: list[Any] = []

    def encode(self, rgb: Any) -> None:
        return None

    def predict(self, embedding: None, prompts: Any) -> Any:
        self.asked.append(prompts)
        labels = self.image.labels[0]
        masks = []
        for row in range(len(prompts.points)):
            at = [labels[int(y), int(x)] for x, y in prompts.points[row]]
            inside = np.isin(labels, [1, 2] if at[0] in (1, 2) else [at[0]])
            for number, label in zip(at, prompts.labels[row], strict=True):
                if label == 0:
                    inside &= labels != number
            masks.append(BoxedMask.from_full(inside))
        return masks


@pytest.fixture
def judged_by_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinysam_training.evaluation.simulated_user import Answer

    def judged(found: Any, truth: Any, drop_specks: bool = True) -> Answer:
        iou = np.array([a.iou(b) for a, b in zip(found, truth, strict=True)])
        return Answer(list(found), iou, iou, iou)

    monkeypatch.setattr(careless, "judged", judged)


@pytest.mark.usefixtures("judged_by_mask")
def test_a_negative_click_is_on_the_neighbour_that_was_covered() -> None:
    painter: Any = Painter(two_halves())
    found = negative_clicks(painter, painter.image, 8)
    assert (
        len(found["iou_before"]) == 2
    )  # of the two halves; the third has no neighbour
    assert found["covered_before"] == [1.0, 1.0]
    assert found["covered_after"] == [0.0, 0.0]
    assert found["iou_before"] == pytest.approx([0.5, 0.5], abs=0.05)
    assert found["iou_after"] == [1.0, 1.0]
    last = painter.asked[-1]
    assert last.labels.tolist() == [[1, 0]]


@pytest.mark.usefixtures("judged_by_mask")
def test_clicks_near_the_border_are_in_the_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = two_halves()
    painter: Any = Painter(image)
    boxes: list[np.ndarray] = []

    def boxed(predictor: Any, embedding: Any, given: np.ndarray, truth: Any) -> Any:
        boxes.append(given)
        return careless.judged(truth, truth)

    monkeypatch.setattr(careless, "answer_boxes", boxed)
    found = careless_prompts(painter, image, 8)
    assert {len(values) for values in found.values()} == {3}
    centre, border = (prompts.points[:, 0] for prompts in painter.asked)
    depth = np.zeros(image.labels[0].shape)
    from scipy import ndimage as ndi

    for number in (1, 2, 3):
        depth += ndi.distance_transform_edt(image.labels[0] == number)
    for (cx, cy), (bx, by) in zip(centre.astype(int), border.astype(int), strict=True):
        assert image.labels[0, cy, cx] == image.labels[0, by, bx] > 0
        assert 0 < depth[by, bx] < 0.35 * depth[cy, cx]
    tight, loose = boxes
    sides = tight[:, 2:] - tight[:, :2] + 1
    off = np.abs(loose - tight) / np.tile(sides, 2)
    assert 0.02 < off.max() <= 0.15 + 1e-6


# ----------------------------------------------------------------------- report


def test_the_report_has_every_sheet(
    drawn: dict[str, robustness_sheets.Sheet],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    class Evaluated:
        results = ()

    monkeypatch.setattr(robustness, "evaluate", lambda *_: Evaluated)
    monkeypatch.setattr(robustness, "means", lambda results: {"box_iou": 0.5})
    monkeypatch.setattr(robustness, "draw_contact_sheet", lambda *_: b"png")
    monkeypatch.setattr(
        robustness, "careless_prompts", lambda *_: {"tight_box": [0.25, 0.75]}
    )
    monkeypatch.setattr(robustness, "negative_clicks", lambda *_: {"iou_before": []})
    predictor: Any = object()
    found = judge_robustness(predictor, list(drawn.values()))
    assert list(found.by_sheet) == list(drawn)
    assert found.prompts == {"tight_box": 0.5, "iou_before": None, "neighbours": 0}
    write_report(found, "me", tmp_path)
    content = json.loads((tmp_path / "robustness.json").read_text("utf-8"))
    assert content["model"] == "me"
    assert content["sheets"].keys() == drawn.keys()
    assert all((tmp_path / f"{name}.png").exists() for name in drawn)
    table = (tmp_path / "robustness.md").read_text("utf-8")
    assert "| tiny | 0.500 | – |" in table
    assert "| IoU, tight box | 0.500 |" in table
    assert isinstance(found, Robustness)
