"""Operations as products of matrices, folded norms, and what is watched in a whole model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from napari_tinysam.model import SegmentAnything
from official_models import random_values
from papers.quantization import explicit as explicit_products
from papers.quantization.explicit import MatMul, WatchingProducts, with_products
from tinysam_training.quantize import products
from tinysam_training.quantize.calibration_data import Seen, as_tensor, as_tensors
from tinysam_training.quantize.folding import folded
from tinysam_training.quantize.operations import operations
from tinysam_training.quantize.products import Operation, collect
from tinysam_training.quantize.quantizing import origins_of

SIDE = 128


@pytest.fixture(scope="module")
def model() -> SegmentAnything:
    """Small, with nothing at its neutral value."""
    found = SegmentAnything("tiny_vit_2m", SIDE, object_head=True, details=True)
    found.load_state_dict(random_values(found.state_dict()))
    return found.eval()


def shown() -> Seen:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (SIDE - 30, SIDE, 3), np.uint8)
    cells = SIDE // 4
    prompts = {
        "points": rng.uniform(0, SIDE, (2, 1, 2)).astype(np.float32),
        "labels": np.ones((2, 1), np.int32),
        "masks": rng.normal(0, 4, (2, cells, cells)).astype(np.float32),
    }
    return Seen(rgb, [prompts])


def test_folding_changes_nothing_but_the_norms(model: SegmentAnything) -> None:
    found = folded(model)
    frame = torch.randn(1, 3, SIDE, SIDE)
    with torch.no_grad():
        pairs = [each.features(frame) for each in (model, found)]
        maps = [
            each.object_maps(f) for each, f in zip((model, found), pairs, strict=True)
        ]
    for a, b in ((pairs[0].embedding, pairs[1].embedding), (maps[0], maps[1])):
        assert (a - b).abs().max() <= 2e-5 * a.abs().max()
    assert found.state_dict().keys() == model.state_dict().keys()
    for name, module in found.image_encoder.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all(), name
            assert not module.running_mean.any(), name
        if isinstance(module, nn.LayerNorm) and name != "norm_head":
            assert (module.weight == 1).all(), name
            assert not module.bias.any(), name
    # The one it was made from is as it was, and it can be folded again.
    again = folded(found)
    for name, tensor in found.state_dict().items():
        assert torch.allclose(again.state_dict()[name], tensor, atol=1e-5), name


def test_products_as_modules_answer_alike(model: SegmentAnything) -> None:
    explicit, seen = with_products(model), shown()
    with torch.no_grad():
        answers = []
        for each in (model, explicit):
            frame = each.normalize_and_pad(as_tensor(seen.rgb))
            features = each.features(frame)
            decoded = each.decode(features.embedding, **as_tensors(seen.prompts[0]))
            answers.append((features.embedding, each.object_maps(features), *decoded))
    for a, b in zip(*answers, strict=True):
        assert (a - b).abs().max() <= 2e-5 * a.abs().max()
    kinds = [type(module) for _, module in operations(explicit, WatchingProducts.kinds)]
    # Two a block of attention of the encoder (8 blocks), two each of 7 in the decoder, and drawing.
    assert kinds.count(MatMul) == 2 * 8 + 2 * 7 + 1


def test_where_inputs_come_from(model: SegmentAnything) -> None:
    found = origins_of(with_products(model), WatchingProducts.kinds)
    assert found["image_encoder.body.patch_embed.conv2.conv"] == "gelu"
    assert found["image_encoder.body.stages.2.blocks.0.mlp.fc2"] == "gelu"
    assert found["image_encoder.body.stages.2.blocks.0.mlp.fc1"] == "other"
    assert found["image_encoder.body.stages.2.blocks.0.attn.mix"] == "softmax"
    assert found["image_encoder.body.stages.2.blocks.0.attn.scores"] == "other"
    assert found["mask_decoder.transformer.layers.0.mlp.lin2"] == "relu"
    assert found["mask_decoder.output_upscaling.3"] == "gelu"
    assert found["object_head.refining.1.0.second"] == "gelu"
    assert found["mask_decoder.transformer.final_attn_token_to_image.mix"] == "softmax"


@pytest.fixture(scope="module")
def whole(model: SegmentAnything) -> list[Operation]:
    """All rows of all operations, of one image."""
    with pytest.MonkeyPatch.context() as patch:
        for limit in ("_KEPT", "_MOST_ROWS", "_LEAST_ROWS"):
            patch.setattr(products, limit, 10**9)
        for limit in ("_ROWS", "_COLUMNS", "_MATRICES"):
            patch.setattr(explicit_products, limit, 10**9)
        return collect(with_products(model), [shown()], watching=WatchingProducts)


def test_products_are_what_operations_compute(
    model: SegmentAnything, whole: list[Operation]
) -> None:
    """Outputs of every operation, beside those of a plain run."""
    explicit, outputs = with_products(model), {}
    for name, module in operations(explicit, WatchingProducts.kinds):
        module.register_forward_hook(
            lambda _, given, out, name=name: outputs.setdefault(name, out)
        )
    seen = shown()
    with torch.no_grad():
        features = explicit.features(explicit.normalize_and_pad(as_tensor(seen.rgb)))
        explicit.object_maps(features)
        explicit.decode(features.embedding, **as_tensors(seen.prompts[0]))
    kinds = set()
    for operation in whole:
        (one,) = operation.products
        assert operation.share == pytest.approx(1)
        out = outputs[operation.name]
        module = operation.module
        kinds.add(type(module))
        if (
            isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
            and module.bias is not None
        ):
            out = out - module.bias.view(1, -1, 1, 1)
        elif isinstance(module, nn.Linear) and module.bias is not None:
            out = out - module.bias
        found = (one.first @ one.second).flatten().sort().values
        expected = out.flatten().sort().values
        assert found.shape == expected.shape, operation.name
        scale = expected.abs().max()
        assert (found - expected).abs().max() <= 1e-4 * scale, operation.name
        assert one.gradient.shape == (one.first @ one.second).shape
    assert kinds == {nn.Linear, nn.Conv2d, nn.ConvTranspose2d, MatMul}


def test_gradients_belong_to_the_rows(
    model: SegmentAnything, whole: list[Operation]
) -> None:
    """Rows times gradients are the weights' own gradient, as autograd computes it."""
    explicit = with_products(model)
    named = dict(operations(explicit))
    weighted = [each for each in whole if not isinstance(each.module, MatMul)]
    generator = torch.Generator().manual_seed(0)
    products._loss(explicit, shown(), generator).backward()
    for operation in weighted:
        expected = named[operation.name].weight.grad
        (one,) = operation.products
        found = one.first.transpose(-1, -2) @ one.gradient  # (1, G, K, N)
        if isinstance(operation.module, nn.ConvTranspose2d):
            found = found.view(expected.shape)
        elif isinstance(operation.module, nn.Conv2d):
            found = found[0].transpose(1, 2).reshape(expected.shape)
        else:
            found = found[0, 0].T
        scale = expected.abs().max()
        assert scale > 0, operation.name
        assert (found - expected).abs().max() <= 1e-3 * scale, operation.name


def test_samples_are_some_of_the_rows(model: SegmentAnything) -> None:
    found = collect(model, [shown(), shown()])
    names = {operation.name for operation in found}
    # SAM's single mask is drawn by the official decoder and read by nobody.
    assert "mask_decoder.output_hypernetworks_mlps.1.layers.0" in names
    assert not any("output_hypernetworks_mlps.0" in name for name in names)
    assert any(operation.share < 0.5 for operation in found)
    for operation in found:
        assert 0 < operation.share <= 1
        for one in operation.products:
            assert one.first.isfinite().all()
            assert one.gradient.isfinite().all()
            assert one.first.shape[-1] == one.second.shape[-2]


def test_watching_leaves_the_model_alone(model: SegmentAnything) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    collect(model, [shown()])
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
