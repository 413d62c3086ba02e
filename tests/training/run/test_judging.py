"""Validation: a perfect model is perfect, and everyone is asked the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_tinysam.frame import LOGIT
from napari_tinysam.model import ImageFeatures
from napari_tinysam.model.encoders.kind import PIXEL_MEAN, PIXEL_STD
from napari_tinysam.objects import maps as object_maps
from tinysam_training.labelled_image import LabelledImage
from tinysam_training.learning.decoding import Decoded
from tinysam_training.run import judging
from tinysam_training.run.judging import Judge, middle

CPU = torch.device("cpu")


def coloured(number: int, size: tuple[int, int] = (96, 128)) -> LabelledImage:
    """A red, a green and a blue rectangle on black: the image says where objects are."""
    labels = np.zeros(size, np.int32)
    rgb = np.zeros((*size, 3), np.uint8)
    for channel in range(3):
        y, x = 10 + 25 * channel, 10 + 5 * number + 30 * channel
        labels[y : y + 18, x : x + 24] = channel + 1
        rgb[y : y + 18, x : x + 24, channel] = 255
    return LabelledImage(f"coloured {number}", "colours", rgb, labels[None])


def colours(image: torch.Tensor) -> torch.Tensor:
    """An encoder: the colours as they were, at the resolution of the logits."""
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    shown = (image != 0).any(1, keepdim=True)
    return torch.nn.functional.avg_pool2d((image * std + mean) * shown, LOGIT)


class Perfect:
    """A model that sees colours, in place of encoder, decoder and head."""

    dense_prompts = False
    map_stride = LOGIT

    def __init__(self, head: bool = True, first: int = 0, seen: int = 3) -> None:
        self.first = first  # the mask that has the best score
        self.seen = seen  # so many of the colours
        self.asked: list[tuple[torch.Tensor, ...]] = []
        self.encoded = 0
        if head:
            self.object_head: Any = True
        else:
            self.object_head = None

    def features(self, image: torch.Tensor) -> ImageFeatures:
        self.encoded += 1
        return ImageFeatures(colours(image))

    def object_maps(self, features: ImageFeatures) -> torch.Tensor:
        bright = (features.embedding[0, : self.seen] > 127).numpy()
        labels = (bright * np.arange(1, self.seen + 1)[:, None, None]).sum(0)
        labels = labels.astype(np.int32)
        shares = np.stack(
            [
                255 * (labels > 0),
                object_maps.centre_distance(labels),
                object_maps.boundary_distance(labels),
            ]
        )
        return torch.logit(torch.from_numpy(shares / 255)[None].float(), eps=1e-4)

    def decode(
        self,
        model: Any,
        features: ImageFeatures,
        offset: torch.Tensor,
        window: torch.Tensor,
        points: torch.Tensor,
        labels: torch.Tensor,
        boxes: torch.Tensor,
        drawn: torch.Tensor | None,
    ) -> Decoded:
        assert model is self
        assert drawn is None
        assert len(window) <= 8
        self.asked.append((points, labels, boxes))
        embedding = features.embedding
        masks, scores = [], []
        for point, label, box in zip(points, labels, boxes, strict=True):
            boxed = not bool(box.isnan().any())
            assert bool((label == 1).all()) != boxed  # one or the other
            place = (box[:2] + box[2:]) / 2 if boxed else point[0]
            x, y = (place / LOGIT).long().tolist()
            channel = int(embedding[0, :, y, x].argmax())
            inside = embedding[0, channel] - 127
            others = -torch.ones_like(inside)
            masks.append(torch.stack([inside, others, others]).roll(self.first, 0))
            scores.append(torch.tensor([0.9, 0.1, 0.2]))
        return Decoded(torch.stack(masks), torch.stack(scores), torch.empty(0))


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Any:
    def judge(model: Perfect, images: list[LabelledImage], **options: Any) -> Any:
        monkeypatch.setattr(judging, "decode", model.decode)
        return Judge(images, CPU, **options)(model)  # type: ignore[arg-type]

    return judge


def test_a_perfect_model_scores_one(judged: Any) -> None:
    found = judged(Perfect(), [coloured(0), coloured(1, (128, 96))])
    assert found == pytest.approx(
        {
            "score": 1.0,
            "box_iou": 1.0,
            "click_iou": 1.0,
            "click_best": 1.0,
            "msa": 1.0,
        }
    )


def test_without_a_head_the_score_is_of_prompts_alone(judged: Any) -> None:
    found = judged(Perfect(head=False), [coloured(0)])
    assert "msa" not in found
    assert found["score"] == pytest.approx(1.0)


def test_the_score_chooses_and_the_best_is_told_too(judged: Any) -> None:
    found = judged(Perfect(first=1), [coloured(0)])
    assert found["click_best"] == pytest.approx(1.0)
    assert found["click_iou"] == found["box_iou"] == 0
    assert found["score"] == pytest.approx(1 / 3)


def test_the_head_is_judged_by_its_objects_in_the_image(judged: Any) -> None:
    images = [coloured(0), coloured(1, (128, 96))]
    found = judged(Perfect(seen=2), images, objects=0)
    # Two of three objects are found: 2 / (2 + 0 + 1).
    assert found == pytest.approx({"score": 2 / 3, "msa": 2 / 3})
    partly = [
        LabelledImage(i.name, i.dataset, i.rgb, np.where(i.labels == 2, 0, i.labels), c)
        for i, c in ((images[0], True), (images[0], False))
    ]
    # Where nobody outlined the green one, it is wrong only if the image says that there is none.
    assert judged(Perfect(), partly[:1], objects=0)["msa"] == pytest.approx(2 / 3)
    assert judged(Perfect(), partly[1:], objects=0)["msa"] == pytest.approx(1.0)


def test_figures_are_means_of_the_means_of_sets(judged: Any) -> None:
    def named(image: LabelledImage, name: str, labels: np.ndarray) -> LabelledImage:
        return LabelledImage(image.name, name, image.rgb, labels)

    image = coloured(0)
    fewer = np.where(image.labels == 3, 0, image.labels)
    images = [named(image, "large", image.labels)] * 3
    images.append(named(image, "small", fewer))
    # 1 for each of the large set, two of three found objects are true in the small one.
    found = judged(Perfect(), images, objects=0)
    assert found["msa"] == pytest.approx((1 + 2 / 3) / 2)


def test_a_model_of_which_nothing_can_be_said_has_no_score(judged: Any) -> None:
    assert judged(Perfect(head=False), [coloured(0)], objects=0) == {"score": 0.0}


def test_every_model_is_asked_the_same(judged: Any) -> None:
    images = [coloured(n) for n in range(3)]
    one, two = Perfect(), Perfect(first=1)
    for model in (one, two):
        judged(model, images, objects=2)
    assert len(one.asked) == len(two.asked) == 6
    for first, second in zip(one.asked, two.asked, strict=True):
        assert len(first[0]) == 2  # so many objects
        assert all(
            torch.equal(a.nan_to_num(-1), b.nan_to_num(-1))
            for a, b in zip(first, second, strict=True)
        )


def test_images_are_evenly_spaced(judged: Any) -> None:
    images = [coloured(0)] * 10
    assert Judge(images, CPU, limit=3).numbers == [0, 4, 9]
    assert Judge(images, CPU, limit=20).numbers == list(range(10))
    assert Judge(images, CPU, limit=1).numbers == [0]


def test_images_without_objects_say_something_about_the_head(judged: Any) -> None:
    image = coloured(0)
    empty = LabelledImage("e", "e", image.rgb, np.zeros_like(image.labels))
    found = judged(Perfect(), [empty])
    assert found == {"score": 0.0, "msa": 0.0}


def test_known_embeddings_are_not_computed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = [coloured(n) for n in range(3)]
    asked: list[int] = []
    model = Perfect()
    monkeypatch.setattr(judging, "decode", model.decode)

    def features(number: int) -> ImageFeatures:
        asked.append(number)
        window = judging.whole_frame(images[number])
        rgb = torch.from_numpy(window.rgb)[None]
        return ImageFeatures(torch.nn.functional.avg_pool2d(rgb, LOGIT).half())

    judge = Judge(images, CPU, limit=2, features=features)
    assert judge(model)["score"] == pytest.approx(1.0)  # type: ignore[arg-type]
    assert asked == judge.numbers == [0, 2]
    assert model.encoded == 0


def test_nothing_to_judge_on_is_an_error() -> None:
    with pytest.raises(ValueError, match="no images to validate on"):
        Judge([], CPU)


@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
@settings(deadline=None)
def test_the_middle_of_a_mask_is_in_it(mask: Any) -> None:
    x, y = middle(mask)
    column, row = (int((v + 0.5) // LOGIT) for v in (x, y))
    assert mask[row, column] or not mask.any()


def test_the_middle_is_the_deepest_place() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:11, 3:12] = True
    mask[15, :] = True
    assert middle(mask) == (7 * LOGIT + 1.5, 6 * LOGIT + 1.5)
