"""The restructured decoder answers as the official modules do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from efficient_models import efficient_model
from napari_tinysam.dense_prompts import draw_boxes
from napari_tinysam.model import SegmentAnything
from napari_tinysam.model.fast.decoder import RestructuredDecoder

KINDS = ["point", "points", "box", "point and box", "mask", "point and mask", "all"]


@pytest.fixture(scope="module")
def model() -> SegmentAnything:
    """Random weights, with biases and norms that are not 0 and 1 any more."""
    torch.manual_seed(0)
    found = SegmentAnything("tiny_vit_2m", 256)
    parts = (found.prompt_encoder, found.mask_decoder)
    for part in parts:
        for parameter in part.parameters():
            if parameter.ndim == 1:
                parameter.data += 0.2 * torch.randn_like(parameter)
    return found.eval()


def prompts(kind: str, count: int, side: int) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    if "point" in kind or kind == "all":
        many = 3 if kind in ("points", "all") else 1
        found["points"] = torch.rand(count, many, 2) * 16 * side
        found["labels"] = torch.randint(0, 2, (count, many))
    if "box" in kind or kind == "all":
        corners = torch.rand(count, 2, 2).sort(1).values * 16 * side
        found["boxes"] = corners.flatten(1)
    if "mask" in kind or kind == "all":
        found["masks"] = torch.randn(count, 1, 4 * side, 4 * side) * 8
    return found


def answered(
    model: SegmentAnything, embedding: Tensor, given: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    decoder = RestructuredDecoder(model)
    shape: Any = tuple(embedding.shape[-2:])
    with torch.no_grad():
        side = decoder.prepare(embedding)
        answers = decoder.answer(side, placed=decoder.placed(shape), **given)
        logits = decoder.upscale(answers.image, answers.kernels, shape)
    return logits, answers.scores


def assert_alike(found: Tensor, expected: Tensor) -> None:
    """Within 1e-5 of the largest value: sums in another order."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from(KINDS),
    count=st.integers(1, 5),
    side=st.sampled_from([4, 9, 16]),
    seed=st.integers(0, 1000),
)
def test_answers_are_the_official_ones(
    model: SegmentAnything, kind: str, count: int, side: int, seed: int
) -> None:
    torch.manual_seed(seed)
    embedding = torch.randn(1, 256, side, side)
    given = prompts(kind, count, side)
    with torch.no_grad():
        logits, scores = model.decode(embedding, **given)
    found = answered(model, embedding, given)
    assert_alike(found[0], logits)
    assert_alike(found[1], scores)


def test_only_the_masks_that_are_asked_for_are_drawn(model: SegmentAnything) -> None:
    torch.manual_seed(1)
    embedding = torch.randn(1, 256, 16, 16)
    decoder = RestructuredDecoder(model)
    with torch.no_grad():
        side = decoder.prepare(embedding)
        placed = decoder.placed((16, 16))
        answers = decoder.answer(side, placed=placed, **prompts("points", 4, 16))
        whole = decoder.upscale(answers.image, answers.kernels, (16, 16))
        part = decoder.upscale(
            answers.image[[2, 0]], answers.kernels[[2, 0], 1:2], (16, 16)
        )
    assert part.shape == (2, 1, 64, 64)
    assert_alike(part, whole[[2, 0], 1:2])


def test_it_answers_with_what_the_model_has_learnt_since(
    model: SegmentAnything,
) -> None:
    torch.manual_seed(2)
    embedding = torch.randn(1, 256, 8, 8)
    given = prompts("point and mask", 2, 8)
    decoder = RestructuredDecoder(model)
    before = answered(model, embedding, given)[0]
    weight = model.prompt_encoder.mask_downscaling[-1].weight
    kept = weight.data.clone()
    weight.data *= 2
    try:
        with torch.no_grad():
            side = decoder.prepare(embedding)
            placed = decoder.placed((8, 8))
            answers = decoder.answer(side, placed=placed, **given)
            after = decoder.upscale(answers.image, answers.kernels, (8, 8))
            assert_alike(after, model.decode(embedding, **given)[0])
    finally:
        weight.data = kept
    assert not torch.allclose(before, after)


@pytest.fixture(scope="module")
def detailed() -> SegmentAnything:
    return efficient_model()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [4, 9, 16])
def test_details_are_added_as_there(
    detailed: SegmentAnything, kind: str, side: int
) -> None:
    torch.manual_seed(side)
    embedding = torch.randn(1, 256, side, side)
    details = tuple(
        torch.randn(1, channels, factor * side, factor * side)
        for channels, factor in ((64, 2), (32, 4), (16, 8))
    )
    given = prompts(kind, 3, side)
    decoder = RestructuredDecoder(detailed)
    with torch.no_grad():
        logits, scores = detailed.decode(embedding, **given, details=details)
        image = decoder.prepare(embedding, details)
        answers = decoder.answer(image, placed=decoder.placed((side, side)), **given)
        found, plain = (
            decoder.upscale(answers.image, answers.kernels, (side, side), each)
            for each in (image.details, None)
        )
        if given.get("masks") is not None:
            boxes = given.get("boxes")
            if boxes is None:
                boxes = torch.full((3, 4), torch.nan)
            planes = draw_boxes(torch, (4 * side, 4 * side), boxes)
            assert image.fine is not None
            found = decoder.refine(found, given["masks"][:, 0], planes, image.fine)
    assert_alike(found, logits)
    assert_alike(answers.scores, scores)
    assert (plain - logits).abs().max() > 0.1 * logits.abs().max()


def test_the_decoder_adds_details_by_the_rule_of_sam_2(
    detailed: SegmentAnything,
) -> None:
    """SAM 2's `MaskDecoder.predict_masks` with ``high_res_features``, stated once more."""
    decoder: Any = detailed.mask_decoder
    side, count = 8, 2
    embedding = torch.randn(1, 256, side, side)
    details = (torch.randn(1, 64, 16, 16), torch.randn(1, 32, 32, 32))
    given = prompts("point and box", count, side)
    with torch.no_grad():
        sparse, dense = detailed.prompt_encoder(
            (given["points"], given["labels"]), given["boxes"], None
        )
        dense = dense[..., :side, :side]
        feat_s1, feat_s0 = (
            conv(x) for conv, x in zip(decoder.details, details, strict=True)
        )
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([own.expand(count, -1, -1), sparse], dim=1)
        src = embedding.repeat(count, 1, 1, 1) + dense
        places = detailed.prompt_encoder.get_dense_pe()[..., :side, :side]
        hs, src = decoder.transformer(src, places.repeat(count, 1, 1, 1), tokens)
        src = src.transpose(1, 2).view(count, 256, side, side)
        dc1, ln1, act1, dc2, act2 = decoder.output_upscaling
        upscaled = act1(ln1(dc1(src) + feat_s1))
        upscaled = act2(dc2(upscaled) + feat_s0)
        hyper = [
            mlp(hs[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)
        ]
        masks = torch.einsum("nmc,nchw->nmhw", torch.stack(hyper, 1), upscaled)
        expected = masks[:, 1:], decoder.iou_prediction_head(hs[:, 0])[:, 1:]
        found = detailed.decode(embedding, **given, details=details)
    for one, two in zip(found, expected, strict=True):
        assert_alike(one, two)
