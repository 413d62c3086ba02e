"""Losses: the formulas restated in numpy, their gradients, and what must not move them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tinysam_training.learning.losses import (
    actual_iou,
    best_of_three,
    embedding_loss,
    hard_mask_weights,
    iou_loss,
    mask_losses,
    object_head_losses,
    object_region,
    output_loss,
    token_loss,
    with_rims,
)

N, B, SIDE, CELLS = 4, 2, 8, 2
Array = np.ndarray[Any, np.dtype[np.float64]]


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=rng, dtype=torch.float64)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=rng, dtype=torch.float64)


def valid_part(count: int = N, side: int = SIDE) -> Tensor:
    """The right quarter of every window is padding, of the last one the lower half too."""
    valid = torch.ones(count, side, side)
    valid[:, :, -side // 4 :] = 0
    valid[-1, side // 2 :] = 0
    return valid


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def smooth_l1(x: Array, beta: float = 0.2) -> Array:
    return np.where(np.abs(x) < beta, x**2 / (2 * beta), np.abs(x) - beta / 2)


def cross_entropy(t: Array, p: Array) -> Array:
    return -t * np.log(p) - (1 - t) * np.log(1 - p)


def mean_of(terms: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    each = [value / count.clamp(min=1) for value, count in terms.values()]
    return torch.stack(each).sum()


def gradients_agree(function: Any, *inputs: Tensor) -> None:
    assert torch.autograd.gradcheck(
        function, [x.clone().requires_grad_() for x in inputs]
    )


# --- Distillation ---------------------------------------------------------------------


def test_embedding_loss_is_the_absolute_difference_over_valid_cells() -> None:
    student, teacher = normal(B, 256, 2, 3, seed=1), normal(B, 256, 2, 3, seed=2)
    valid = torch.tensor([[[[1.0, 1, 0], [1, 1, 0]]], [[[1, 0, 0], [0, 0, 0]]]])
    value, count = embedding_loss(student, teacher, valid)
    cells = valid[:, 0].numpy() > 0
    difference = np.abs(student.numpy() - teacher.numpy()).transpose(0, 2, 3, 1)
    assert value.item() == pytest.approx(difference[cells].sum())
    assert count.item() == 5 * 256
    elsewhere = torch.where(valid > 0, student, 1e6)
    assert embedding_loss(elsewhere, teacher, valid)[0].item() == value.item()


def test_token_loss_is_a_mean_of_absolute_differences_for_each_object() -> None:
    student, teacher = normal(N, 3, 256, seed=1), normal(N, 3, 256, seed=2)
    expected = np.abs(student.numpy() - teacher.numpy()).mean((1, 2))
    np.testing.assert_allclose(token_loss(student, teacher), expected)


def test_output_loss_is_a_mean_over_valid_logits_for_each_object() -> None:
    student, teacher = (
        normal(N, 3, SIDE, SIDE, seed=1),
        normal(N, 3, SIDE, SIDE, seed=2),
    )
    valid = valid_part()
    each = output_loss(student, teacher, valid)
    for i in range(N):
        inside = valid[i].numpy() > 0
        difference = np.abs(student[i].numpy() - teacher[i].numpy())[:, inside]
        assert each[i].item() == pytest.approx(difference.mean())
    elsewhere = torch.where(valid[:, None] > 0, student, -1e6)
    torch.testing.assert_close(output_loss(elsewhere, teacher, valid), each)


@pytest.mark.parametrize("offset", [0.01, 1.0, 100.0])
def test_distillation_grows_linearly_with_the_distance(offset: float) -> None:
    """ℓ1, not a square, in every term."""
    logits, tokens = normal(N, 3, SIDE, SIDE), normal(N, 4, 256)
    embedding = normal(B, 256, CELLS, CELLS)
    cells, valid = torch.ones(B, 1, CELLS, CELLS), torch.ones(N, SIDE, SIDE)
    value, count = embedding_loss(embedding + offset, embedding, cells)
    assert (value / count).item() == pytest.approx(offset)
    for each in (
        token_loss(tokens - offset, tokens),
        output_loss(logits + offset, logits, valid),
    ):
        np.testing.assert_allclose(each, offset)


def test_hard_mask_weights_have_the_values_of_the_formula() -> None:
    teacher = torch.tensor([0.7, 0.2, 1.0, 0.0, 0.0, 1.0])
    student = torch.tensor([0.7, 0.2, 0.5, 0.0, 0.9, 0.0])
    weights = hard_mask_weights(teacher, student)
    np.testing.assert_allclose(
        weights, [0.5, 0.5, 0.7310586, 0.2689414, 0.2689414, 1.0], atol=2e-6
    )


def test_the_teacher_gets_no_gradient() -> None:
    student = normal(N, 4, 256, seed=1).requires_grad_()
    teacher = normal(N, 4, 256, seed=2).requires_grad_()
    token_loss(student, teacher).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None


# --- Masks ----------------------------------------------------------------------------


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, None), (0.0, None), (1.5, 0.25)])
def test_mask_losses_restated(gamma: float, alpha: float | None) -> None:
    logits, targets = normal(N, 3, SIDE, SIDE, scale=3), uniform(N, SIDE, SIDE)
    valid = valid_part()
    found = mask_losses(logits, targets, valid, gamma=gamma, alpha=alpha)
    for i in range(N):
        inside = valid[i].numpy() > 0
        t = targets[i].numpy()[inside]
        for k in range(3):
            p = sigmoid(logits[i, k].numpy()[inside])
            focal = np.abs(t - p) ** gamma * cross_entropy(t, p)
            if alpha is not None:
                focal = focal * (alpha * t + (1 - alpha) * (1 - t))
            dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
            iou = ((p > 0.5) & (t > 0.5)).sum() / ((p > 0.5) | (t > 0.5)).sum()
            assert found.focal[i, k].item() == pytest.approx(focal.mean())
            assert found.dice[i, k].item() == pytest.approx(dice)
            assert found.iou[i, k].item() == pytest.approx(iou)


def test_focal_loss_of_hard_targets_is_the_usual_one() -> None:
    logits, targets = normal(N, 3, SIDE, SIDE), (uniform(N, SIDE, SIDE) > 0.5).double()
    found = mask_losses(logits, targets, torch.ones(N, SIDE, SIDE)).focal
    p = sigmoid(logits.numpy())
    p_true = np.where(targets.numpy()[:, None] > 0, p, 1 - p)
    expected = ((1 - p_true) ** 2 * -np.log(p_true)).mean((2, 3))
    np.testing.assert_allclose(found, expected)


def test_padding_moves_no_mask_loss() -> None:
    logits, targets, valid = (
        normal(N, 3, SIDE, SIDE),
        uniform(N, SIDE, SIDE),
        valid_part(),
    )
    one = mask_losses(logits, targets * valid, valid)
    elsewhere = torch.where(valid[:, None] > 0, logits, 50.0)
    other = mask_losses(elsewhere, targets * valid, valid)
    torch.testing.assert_close(one.focal, other.focal)
    torch.testing.assert_close(one.dice, other.dice)
    torch.testing.assert_close(one.iou, other.iou)


def test_a_perfect_mask_costs_nothing_and_a_wrong_one_much() -> None:
    targets = torch.zeros(1, SIDE, SIDE)
    targets[:, 2:6, 2:6] = 1
    good = 20.0 * (2 * targets - 1)
    logits = torch.stack([good, -good, torch.zeros_like(good)], dim=1)
    found = mask_losses(logits, targets, torch.ones_like(targets))
    assert found.focal[0, 0] < 1e-6
    assert found.dice[0, 0] < 1e-6
    assert found.focal[0, 1] == pytest.approx(20, rel=1e-3)
    assert found.dice[0, 1] > 0.9
    assert found.iou.tolist() == [[1, 0, 0]]
    assert not found.iou.requires_grad


def test_an_object_smaller_than_a_logit_still_has_a_region() -> None:
    targets = torch.zeros(3, SIDE, SIDE)
    targets[0, 3, 4] = 0.25
    targets[0, 3, 5] = 0.0625
    targets[1, 2, 2:5] = torch.tensor([0.4, 0.9, 0.5])
    region = object_region(targets)
    assert region[0].nonzero().tolist() == [[3, 4]]
    assert region[1].nonzero().tolist() == [[2, 3]]
    assert not region[2].any()
    logits = torch.where(region, 1.0, -1.0)[:, None]
    assert actual_iou(logits, targets, torch.ones_like(targets)).tolist() == [
        [1],
        [1],
        [0],
    ]


def test_best_of_three() -> None:
    each = torch.tensor([[3.0, 1, 2], [5, 6, 7]])
    np.testing.assert_allclose(best_of_three(each, 0.0), [1, 5])
    np.testing.assert_allclose(best_of_three(each), [0.9 + 0.2, 4.5 + 0.6])
    by = torch.tensor([[0.9, 0.1, 0.2], [0.1, 0.2, 0.3]])
    np.testing.assert_allclose(best_of_three(each, 0.0, by), [3, 7])


def test_only_the_best_mask_learns_without_a_share_for_the_others() -> None:
    each = torch.tensor([[3.0, 1, 2]], requires_grad=True)
    (hard,) = torch.autograd.grad(best_of_three(each, 0.0).sum(), each)
    (soft,) = torch.autograd.grad(best_of_three(each, 0.3).sum(), each)
    assert hard.tolist() == [[0, 1, 0]]
    np.testing.assert_allclose(soft, [[0.1, 0.8, 0.1]])


def test_iou_loss_restated() -> None:
    scores, iou = uniform(N, 3, seed=1), uniform(N, 3, seed=2)
    difference = scores.numpy() - iou.numpy()
    np.testing.assert_allclose(iou_loss(scores, iou), np.abs(difference).mean(1))
    np.testing.assert_allclose(iou_loss(scores, iou, "mse"), (difference**2).mean(1))
    np.testing.assert_allclose(
        iou_loss(scores, iou, "smooth_l1"), smooth_l1(difference).mean(1)
    )
    iou.requires_grad_()
    assert not iou_loss(scores, iou).requires_grad


# --- Object maps ----------------------------------------------------------------------


def test_rims_weigh_more() -> None:
    targets = torch.zeros(1, 3, 16, 16)
    targets[0, 0, 4:12, 4:12] = 1
    weight = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    weight[..., :2] = False
    assert with_rims(targets, weight, 0) is weight
    found = with_rims(targets, weight, 3.0)[0, 0]
    # Two pixels to each side of the square's border are its rim.
    rim = torch.zeros(16, 16, dtype=torch.bool)
    rim[2:14, 2:14] = True
    rim[6:10, 6:10] = False
    assert torch.equal(found, weight[0, 0] * (1.0 + 3.0 * rim))


def test_object_head_losses_restated() -> None:
    maps, targets = normal(B, 3, SIDE, SIDE), uniform(B, 3, SIDE, SIDE)
    known = valid_part(B)[:, None]
    terms = object_head_losses(maps, targets, known)
    w = known.numpy()[:, 0]
    t, p = targets.numpy(), sigmoid(maps.numpy())
    expected = {
        "foreground": (w * cross_entropy(t[:, 0], p[:, 0])).sum() / w.sum(),
        "centre": (w * t[:, 0] * smooth_l1(p[:, 1] - t[:, 1])).sum()
        / (w * t[:, 0]).sum(),
        "boundary": (w * smooth_l1(p[:, 2] - t[:, 2])).sum() / w.sum(),
    }
    dice = []
    for i in range(B):
        inside = known[i, 0].numpy() > 0
        a, b = p[i, 0][inside], t[i, 0][inside]
        dice.append(1 - (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1))
    expected["dice"] = np.mean(dice)
    means = {name: (value / count).item() for name, (value, count) in terms.items()}
    assert means == pytest.approx(expected)


def test_an_unknown_image_does_not_dilute_the_dice_of_the_others() -> None:
    maps, targets = normal(B, 3, SIDE, SIDE), uniform(B, 3, SIDE, SIDE)
    known = torch.ones(B, 1, SIDE, SIDE)
    known[1] = 0
    both = object_head_losses(maps, targets, known)
    alone = object_head_losses(maps[:1], targets[:1], known[:1])
    for name, (value, count) in alone.items():
        torch.testing.assert_close(both[name], (value, count), msg=name)
    nothing = object_head_losses(maps, targets, 0 * known)
    assert all(value == 0 and count == 0 for value, count in nothing.values())


def test_the_centre_map_learns_inside_objects_only() -> None:
    targets = torch.zeros(1, 3, SIDE, SIDE)
    targets[:, 1] = 1
    targets[:, :2, 2:5, 2:5] = torch.tensor([1.0, 0.5])[None, :, None, None]
    maps = torch.zeros(1, 3, SIDE, SIDE, requires_grad=True)
    terms = object_head_losses(maps, targets, torch.ones(1, 1, SIDE, SIDE))
    assert terms["centre"][0] == 0  # sigmoid(0) is right inside, wrong outside
    assert terms["centre"][1] == 9


# --- Numbers at the edge --------------------------------------------------------------


def test_gradients() -> None:
    logits, targets = normal(1, 3, 4, 4, seed=1), uniform(1, 4, 4, seed=2)
    valid, teacher = valid_part(1, 4), normal(1, 3, 4, 4, seed=3)
    gradients_agree(lambda x: mask_losses(x, targets, valid).focal, logits)
    gradients_agree(lambda x: mask_losses(x, targets, valid).dice, logits)
    gradients_agree(
        lambda x: mask_losses(x, targets, valid, gamma=1, alpha=0.25).focal, logits
    )
    gradients_agree(lambda x: output_loss(x, teacher, valid), logits)
    tokens = normal(2, 2, 3, seed=4)
    gradients_agree(lambda x: token_loss(x, 2 * tokens), tokens)
    gradients_agree(lambda x: embedding_loss(x, teacher, valid[:, None])[0], logits)
    iou = uniform(2, 3, seed=5)
    for kind in ("l1", "smooth_l1", "mse"):
        gradients_agree(lambda x, kind=kind: iou_loss(x, iou, kind), uniform(2, 3))
    gradients_agree(best_of_three, uniform(2, 3))
    maps, known = uniform(1, 3, 4, 4, seed=6), valid[:, None]
    gradients_agree(lambda x: mean_of(object_head_losses(x, maps, known)), logits)


def extremes() -> list[tuple[str, Tensor, Tensor, Tensor]]:
    plain = normal(N, 3, SIDE, SIDE).float()
    some, all_valid = uniform(N, SIDE, SIDE).float(), torch.ones(N, SIDE, SIDE)
    return [
        ("empty targets", plain, torch.zeros(N, SIDE, SIDE), all_valid),
        ("full targets", plain, all_valid, all_valid),
        ("all padding", plain, some * 0, all_valid * 0),
        ("saturated", 80 * plain.sign(), (some > 0.5).float(), valid_part()),
        ("saturated, soft", 80 * plain.sign(), some, valid_part()),
        ("bool", plain, some, valid_part() > 0),
        ("no objects", plain[:0], some[:0], all_valid[:0]),
    ]


@pytest.mark.parametrize(
    ("logits", "targets", "valid"),
    [pytest.param(*values, id=name) for name, *values in extremes()],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_everything_is_finite(
    logits: Tensor, targets: Tensor, valid: Tensor, dtype: torch.dtype
) -> None:
    logits = logits.detach().to(dtype).requires_grad_()
    count = len(logits)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        masks = mask_losses(logits, targets, valid)
        each = best_of_three(20 * masks.focal + masks.dice)
        scores = iou_loss(logits[:, :, 0, 0], masks.iou)
        maps = torch.stack([targets] * 3, dim=1)
        terms = object_head_losses(logits, maps, valid[:, None])
        terms["embedding"] = embedding_loss(logits, -logits, valid[:, None])
        tokens = token_loss(logits.flatten(2), -logits.flatten(2))
        hardness = hard_mask_weights(masks.iou.amin(1), masks.iou.amax(1))
        output = hardness * output_loss(logits, -logits, valid)
        loss = mean_of(terms) + torch.cat([each, scores, tokens, output]).sum()
    assert each.shape == scores.shape == (count,)
    assert masks.focal.shape == masks.dice.shape == masks.iou.shape == (count, 3)
    assert len(terms) == 5
    for tensor in (each, scores, loss, *(value for value, _ in terms.values())):
        assert tensor.dtype == torch.float32
        assert torch.isfinite(tensor).all()
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert ((masks.iou >= 0) & (masks.iou <= 1)).all()


def test_an_unbounded_focal_exponent_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 1, not 0\.5"):
        mask_losses(
            normal(1, 3, 2, 2), uniform(1, 2, 2), torch.ones(1, 2, 2), gamma=0.5
        )


def test_sums_in_bfloat16_keep_their_digits() -> None:
    """65,536 differences of 2⁻⁷ at values near 1 would stop adding up in bfloat16."""
    teacher = torch.ones(1, 256, 16, 16, dtype=torch.bfloat16)
    student = teacher + 2**-7
    with torch.autocast("cpu", torch.bfloat16):
        value, count = embedding_loss(student, teacher, torch.ones(1, 1, 16, 16))
    assert value.item() == 512
    assert count.item() == 65536


@pytest.mark.gpu
def test_a_gpu_computes_the_same() -> None:
    logits, targets = normal(N, 3, SIDE, SIDE).float(), uniform(N, SIDE, SIDE).float()
    here = mask_losses(logits, targets, valid_part())
    there = mask_losses(logits.cuda(), targets.cuda(), valid_part().cuda())
    torch.testing.assert_close(there.focal.cpu(), here.focal)
    torch.testing.assert_close(there.dice.cpu(), here.dice)
    torch.testing.assert_close(there.iou.cpu(), here.iou)
