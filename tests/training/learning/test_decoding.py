"""The training's decoder against Segment Anything's own."""

from __future__ import annotations

import pytest
import torch

from napari_tinysam.model import ImageFeatures, SegmentAnything
from tinysam_training.learning.decoding import USED_TOKENS, decode
from tinysam_training.learning.objective import decode_in_multiples
from tinysam_training.learning.prompt_batch import PromptBatch

NAN = float("nan")


@pytest.fixture(scope="module")
def model() -> SegmentAnything:
    torch.manual_seed(0)
    model = SegmentAnything(image_size=256).eval()
    with torch.no_grad():
        for parameter in model.mask_decoder.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def embeddings(count: int) -> torch.Tensor:
    return torch.randn(count, 256, 16, 16, generator=torch.Generator().manual_seed(1))


def whole(count: int) -> torch.Tensor:
    return torch.zeros(count, 2, dtype=torch.int64)


def close(ours: torch.Tensor, official: torch.Tensor) -> bool:
    scale = official.abs().max()
    return bool((ours - official).abs().max() <= 1e-5 * scale)


MIXED = {
    "points": torch.tensor(
        [[[10.0, 20], [0, 0]], [[30, 40], [200, 100]], [[0, 0], [0, 0]]]
    ),
    "labels": torch.tensor([[1, -1], [1, 0], [-1, -1]]),
    "boxes": torch.tensor([[NAN] * 4, [20, 30, 90, 120], [5, 6, 70, 80]]),
}


@pytest.mark.parametrize("with_masks", [False, True])
def test_every_object_of_a_mixture_equals_the_official_decoder_alone(
    model: SegmentAnything, with_masks: bool
) -> None:
    embedding = embeddings(2)
    window = torch.tensor([1, 0, 1])
    masks = None
    if with_masks:
        masks = torch.randn(3, 1, 64, 64)
        masks[1] = NAN
    with torch.no_grad():
        features = ImageFeatures(embedding)
        ours = decode(model, features, whole(2), window, **MIXED, masks=masks)
        for row in range(3):
            labels = MIXED["labels"][row]
            real = labels >= 0
            box = MIXED["boxes"][row : row + 1]
            logits, scores = model.decode(
                embedding[window[row]][None],
                points=MIXED["points"][row, real][None] if real.any() else None,
                labels=labels[real][None] if real.any() else None,
                boxes=None if box.isnan().any() else box,
                masks=None
                if masks is None or masks[row].isnan().any()
                else masks[row : row + 1],
            )
            assert close(ours.logits[row], logits[0])
            assert close(ours.scores[row], scores[0])


@pytest.mark.parametrize("multiple", [1, 2, 3, 8])
def test_repeated_rows_change_nothing(model: SegmentAnything, multiple: int) -> None:
    features, window = ImageFeatures(embeddings(2)), torch.tensor([1, 0, 1])
    masks = torch.randn(3, 1, 64, 64)
    with torch.no_grad():
        plain = decode(model, features, whole(2), window, **MIXED, masks=masks)
        prompts = PromptBatch(**MIXED)
        found = decode_in_multiples(
            model, features, whole(2), window, prompts, masks, multiple
        )
    assert close(found.logits, plain.logits)
    assert close(found.scores, plain.scores)
    assert close(found.tokens, plain.tokens)
    assert len(found.logits) == 3


@pytest.mark.parametrize("multiple", [1, 8])
def test_repeated_rows_get_no_gradient(model: SegmentAnything, multiple: int) -> None:
    embedding = embeddings(2).requires_grad_()
    found = decode_in_multiples(
        model,
        ImageFeatures(embedding),
        whole(2),
        torch.tensor([1, 0, 1]),
        PromptBatch(**MIXED),
        None,
        multiple,
    )
    (gradient,) = torch.autograd.grad(found.logits.sum(), embedding)
    plain = decode(
        model, ImageFeatures(embedding), whole(2), torch.tensor([1, 0, 1]), **MIXED
    )
    (expected,) = torch.autograd.grad(plain.logits.sum(), embedding)
    assert close(gradient, expected)


def test_a_window_sees_its_part_of_the_positional_encoding(
    model: SegmentAnything,
) -> None:
    """A window at an offset is the whole frame's decoder on that part of the image tokens."""
    torch.manual_seed(2)
    embedding = torch.randn(1, 256, 8, 8)
    offset = torch.tensor([[5, 3]])
    points = torch.tensor([[[40.0, 50.0]]])
    labels = torch.tensor([[1]])
    with torch.no_grad():
        ours = decode(
            model,
            ImageFeatures(embedding),
            offset,
            torch.tensor([0]),
            points,
            labels,
            torch.full((1, 4), NAN),
        )
        sparse, dense = model.prompt_encoder(
            (points + torch.tensor([3.0, 5.0]) * 16, labels), None, None
        )
        pe = model.prompt_encoder.get_dense_pe()[..., 5:13, 3:11]
        logits, scores = model.mask_decoder.predict_masks(
            embedding, pe, sparse, dense[..., :8, :8]
        )
    assert close(ours.logits, logits[:, 1:])
    assert close(ours.scores, scores[:, 1:])


def test_absent_prompts_get_no_gradient_and_change_nothing(
    model: SegmentAnything,
) -> None:
    embedding = embeddings(1).requires_grad_()
    window = torch.zeros(1, dtype=torch.int64)
    point = torch.tensor([[[70.0, 30.0]]])
    nowhere = torch.full((1, 4), NAN)
    features = ImageFeatures(embedding)
    alone = decode(
        model, features, whole(1), window, point, torch.tensor([[1]]), nowhere
    )
    filled = decode(
        model,
        features,
        whole(1),
        window,
        torch.cat([point, torch.full((1, 3, 2), 99.0)], 1),
        torch.tensor([[1, -1, -1, -1]]),
        nowhere,
    )
    assert close(filled.logits, alone.logits)
    assert alone.tokens.shape == (1, len(USED_TOKENS), 256)
    filled.logits.sum().backward()
    assert embedding.grad is not None
    assert embedding.grad.isfinite().all()


def test_no_objects_are_no_error(model: SegmentAnything) -> None:
    empty = decode(
        model,
        ImageFeatures(embeddings(1)),
        whole(1),
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0, 1, 2),
        torch.zeros(0, 1, dtype=torch.int64),
        torch.zeros(0, 4),
    )
    assert empty.logits.shape == (0, 3, 64, 64)


@pytest.fixture(scope="module")
def detailed() -> SegmentAnything:
    """A model whose decoder reads details, and has learnt to."""
    torch.manual_seed(3)
    model = SegmentAnything("efficientnet_lite0", 256).eval()
    with torch.no_grad():
        for parameter in model.mask_decoder.parameters():
            if parameter.ndim == 1 or not parameter.any():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def test_details_are_read_of_the_window_of_each_object(
    detailed: SegmentAnything,
) -> None:
    generator = torch.Generator().manual_seed(4)
    shapes = ((64, 32), (32, 64), (16, 128))
    details = tuple(
        torch.randn(2, channels, side, side, generator=generator)
        for channels, side in shapes
    )
    features = ImageFeatures(embeddings(2), details)
    window = torch.tensor([1, 0, 1])
    with torch.no_grad():
        ours = decode(detailed, features, whole(2), window, **MIXED)
        other = decode(
            detailed,
            ImageFeatures(features.embedding, tuple(each.flip(0) for each in details)),
            whole(2),
            window,
            **MIXED,
        )
        for row, number in enumerate(window):
            real = MIXED["labels"][row] >= 0
            box = MIXED["boxes"][row : row + 1]
            logits, scores = detailed.decode(
                features.embedding[number][None],
                points=MIXED["points"][row, real][None] if real.any() else None,
                labels=MIXED["labels"][row, real][None] if real.any() else None,
                boxes=None if box.isnan().any() else box,
                details=tuple(each[number][None] for each in details),
            )
            assert close(ours.logits[row], logits[0])
            assert close(ours.scores[row], scores[0])
            assert not close(ours.logits[row], other.logits[row])


def test_a_smaller_embedding_is_the_top_left_of_the_frame(
    model: SegmentAnything,
) -> None:
    """As in training, where a window has the positions of its place in the frame."""
    embedding = torch.randn(1, 256, 8, 8)
    points, labels = torch.tensor([[[30.0, 50.0]]]), torch.tensor([[1]])
    box = torch.tensor([[10.0, 20.0, 90.0, 100.0]])
    mask = torch.randn(1, 1, 32, 32)
    for masks in (None, mask):
        with torch.no_grad():
            logits, scores = model.decode(
                embedding, points=points, labels=labels, boxes=box, masks=masks
            )
            window = torch.zeros(1, dtype=torch.long)
            expected = decode(
                model,
                ImageFeatures(embedding),
                whole(1),
                window,
                points,
                labels,
                box,
                masks,
            )
        assert logits.shape == (1, 3, 32, 32)
        torch.testing.assert_close(logits, expected.logits, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(scores, expected.scores, rtol=1e-3, atol=1e-4)
