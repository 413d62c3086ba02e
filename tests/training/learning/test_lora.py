"""Low-rank additions: nothing at first, then learnt, then merged away."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization

from efficient_models import efficient_model
from napari_tinysam.model import SegmentAnything
from napari_tinysam.model.encoders.efficientnet import PaddedConv
from tinysam_training.learning.lora import LowRank, add_low_rank, merge_low_rank
from tinysam_training.run.exporting import whole_model
from training.small_runs import settle


class Block(nn.Module):
    """Linear layers at two depths, beside something else."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 5, False))
        self.norm = nn.LayerNorm(5)
        self.out = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.norm(self.inner(x)))


@pytest.fixture
def block() -> Block:
    torch.manual_seed(0)
    return Block()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(4, 7, 6, generator=torch.Generator().manual_seed(1))


def learn(module: nn.Module, x: torch.Tensor, steps: int = 3) -> None:
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        (module(x) - 1).square().mean().backward()
        optimizer.step()


def test_nothing_changes_at_first(block: Block, x: torch.Tensor) -> None:
    before = block(x)
    assert add_low_rank(block, 2) == 3
    assert torch.equal(block(x), before)


def test_only_the_additions_learn(block: Block, x: torch.Tensor) -> None:
    before = {n: p.clone() for n, p in block.named_parameters()}
    add_low_rank(block, 2)
    trained = {n for n, p in block.named_parameters() if p.requires_grad}
    assert trained == {
        f"{layer}.parametrizations.weight.0.{part}"
        for layer in ("inner.0", "inner.2", "out")
        for part in ("down", "up")
    }
    answer = block(x)
    learn(block, x)
    assert not torch.allclose(block(x), answer)
    for name, value in block.named_parameters():
        if name not in trained:
            name = name.replace("parametrizations.weight.original", "weight")
            assert torch.equal(value, before[name])


def test_the_rank_is_that_of_the_change(block: Block, x: torch.Tensor) -> None:
    before = block.inner[0].weight.clone()
    add_low_rank(block, 2)
    learn(block, x)
    merge_low_rank(block)
    change = block.inner[0].weight - before
    assert torch.linalg.matrix_rank(change, rtol=1e-4) == 2


def test_merged_it_does_the_same_under_the_old_names(
    block: Block, x: torch.Tensor
) -> None:
    names = list(block.state_dict())
    add_low_rank(block, 2)
    learn(block, x)
    learnt = block(x)
    assert merge_low_rank(block) is block
    assert list(block.state_dict()) == names
    assert not any(isinstance(m, LowRank) for m in block.modules())
    assert type(block.out) is nn.Linear
    assert torch.allclose(block(x), learnt, atol=1e-5)


def test_merging_twice_is_merging_once(block: Block, x: torch.Tensor) -> None:
    add_low_rank(block, 2)
    learn(block, x)
    merge_low_rank(block)
    once = copy.deepcopy(block.state_dict())
    merge_low_rank(block)
    assert all(torch.equal(once[n], v) for n, v in block.state_dict().items())


def test_adding_twice_keeps_what_is_there(block: Block, x: torch.Tensor) -> None:
    add_low_rank(block, 2)
    learn(block, x)
    names, learnt = list(block.state_dict()), block(x)
    trained = [n for n, p in block.named_parameters() if p.requires_grad]
    assert add_low_rank(block, 2) == 0
    assert list(block.state_dict()) == names
    assert [n for n, p in block.named_parameters() if p.requires_grad] == trained
    assert torch.equal(block(x), learnt)
    merge_low_rank(block)
    assert torch.allclose(block(x), learnt, atol=1e-5)


def test_the_state_is_restored_in_another_copy(block: Block, x: torch.Tensor) -> None:
    other = copy.deepcopy(block)
    add_low_rank(block, 2)
    learn(block, x)
    add_low_rank(other, 2)
    assert not torch.equal(other(x), block(x))
    other.load_state_dict(block.state_dict())
    assert torch.equal(other(x), block(x))


def test_alpha_scales_the_addition() -> None:
    weight = nn.Linear(6, 3).weight
    additions = [LowRank(weight, 2, alpha) for alpha in (None, 4.0, 8.0)]
    for addition in additions[1:]:
        addition.load_state_dict(additions[0].state_dict())
    for addition in additions:
        nn.init.ones_(addition.up)
    first, same, twice = (addition(weight) - weight for addition in additions)
    assert torch.allclose(first, same)
    assert torch.allclose(2 * first, twice, atol=1e-5)


def test_a_whole_encoder_is_exported_as_if_nothing_had_been_added() -> None:
    torch.manual_seed(0)
    model = SegmentAnything("tiny_vit_2m", 64)
    settle(model)
    model.eval()
    names = list(model.state_dict())
    assert add_low_rank(model.image_encoder, 4) > 10
    for module in model.image_encoder.modules():
        if isinstance(module, LowRank):
            nn.init.normal_(module.up, std=0.02)
    image = torch.randn(1, 3, 64, 64)
    plain = whole_model(model)
    assert list(plain.state_dict()) == names
    with torch.no_grad():
        added, merged = model.image_encoder(image), plain.image_encoder(image)
    assert torch.allclose(added, merged, atol=1e-5 * float(added.abs().max()))
    # The model that is being trained is left as it is.
    assert any(isinstance(m, LowRank) for m in model.image_encoder.modules())


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(12, 10, 1),
        nn.Conv2d(12, 10, 3, padding=1, bias=False),
        nn.Conv2d(12, 10, 3, stride=2, padding=2, dilation=2),
    ],
    ids=["1×1", "3×3", "strided and dilated"],
)
def test_a_convolution_learns_and_is_merged(conv: nn.Conv2d) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 12, 9, 11)
    before, weight = conv(x), conv.weight.clone()
    conv.requires_grad_(False)
    register_parametrization(conv, "weight", LowRank(conv.weight, 2))
    assert torch.equal(conv(x), before)
    learn(conv, x)
    learnt = conv(x)
    assert not torch.allclose(learnt, before)
    merge_low_rank(conv)
    torch.testing.assert_close(conv(x), learnt, rtol=1e-4, atol=1e-5)
    change = (conv.weight - weight).flatten(1)
    assert torch.linalg.matrix_rank(change, rtol=1e-4) == 2


def test_an_efficientnet_learns_in_its_convolutions() -> None:
    encoder = efficient_model(64).image_encoder
    names, rank = list(encoder.state_dict()), 4
    frame = torch.randn(1, 3, 64, 64)
    before = encoder(frame).detach()
    weights = {n: p.clone() for n, p in encoder.named_parameters()}
    count = add_low_rank(encoder, rank)
    assert count > 30
    assert add_low_rank(encoder, rank) == 0
    torch.testing.assert_close(encoder(frame), before)
    trained = {n for n, p in encoder.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * count
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d) and (
            module.groups > 1 or isinstance(module, PaddedConv)
        ):
            assert not is_parametrized(module)
    total = sum(p.numel() for n, p in encoder.named_parameters() if n in trained)
    assert total < 0.15 * sum(p.numel() for p in encoder.parameters())
    learn(encoder, frame, steps=1)
    with torch.no_grad():
        learnt = encoder(frame)
        merge_low_rank(encoder)
        assert list(encoder.state_dict()) == names
        found = encoder(frame)
    assert (found - learnt).abs().max() <= 1e-4 * learnt.abs().max()
    assert not torch.allclose(learnt, before)
    depthwise = encoder.efficientnet.blocks[1][0].conv_dw
    name = "efficientnet.blocks.1.0.conv_dw.weight"
    assert torch.equal(depthwise.weight, weights[name])
