"""Prompt sampling: the paper's rule, honest draws, prompts that users could give."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi
from scipy import stats
from torch import Tensor

from napari_tinysam.frame import LOGIT
from tinysam_training.learning.losses import object_region
from tinysam_training.learning.prompt_batch import PromptBatch
from tinysam_training.learning.prompt_sampling import (
    MASK_PROMPT_LIMIT,
    SHORTEST_SIDE,
    draw_rounds,
    first_prompts,
    hard_prompts,
    next_points,
    sloppy_boxes,
)
from tinysam_training.learning.region_sampling import sample_in
from tinysam_training.recipe import PromptSettings

SIDE = 24  # of a window, in logits
#: TinySAM's paper: points on the object only, evenly drawn.
PAPER = PromptSettings(
    point=1,
    box=0,
    box_with_point=0,
    centred=0,
    mode="replace",
    negatives=0,
    mask_prompt=0,
)
EXACT_BOXES = PromptSettings(
    point=0, box=1, box_with_point=0, box_jitter=0, box_jitter_pixels=0, loose_boxes=0
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def discs(count: int, radius: float = 8.0, side: int = SIDE) -> Tensor:
    """(count, side, side) float32, discs at different places, whole logits."""
    centres = side / 2 + torch.rand((count, 2), generator=seeded(99)) * 4 - 2
    steps = torch.arange(side)
    y, x = steps[:, None] - centres[:, :1, None], steps - centres[:, 1:, None]
    return (y**2 + x**2 <= radius**2).float()


def blobs(count: int, seed: int = 0) -> Tensor:
    """(count, SIDE, SIDE) float32 coverage of irregular regions with soft borders."""
    noise = torch.randn((count, SIDE, SIDE), generator=seeded(seed)).numpy()
    smooth = np.stack([ndi.gaussian_filter(plane, 2.0) for plane in noise])
    return torch.from_numpy(np.clip(0.5 + 12 * smooth, 0, 1).astype(np.float32))


def chessboard_depth(regions: Tensor) -> Tensor:
    """(N, h, w), 1 at the edge of each region, which ends at the window's edge."""
    padded = np.pad(regions.numpy(), ((0, 0), (1, 1), (1, 1)))
    each = [ndi.distance_transform_cdt(plane, "chessboard") for plane in padded]
    return torch.from_numpy(np.stack(each))[:, 1:-1, 1:-1]


def cells_of(points: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the logits that points lie in."""
    cells = ((points + 0.5) / LOGIT).floor().long()
    return cells[..., 1], cells[..., 0]


def at(regions: Tensor, points: Tensor) -> Tensor:
    """(N,) what each region holds at its point."""
    rows, columns = cells_of(points)
    return regions[torch.arange(len(regions)), rows, columns]


def ones(like: Tensor) -> Tensor:
    return torch.ones(like.shape)


# --- Points ---------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), height=st.integers(1, 9), width=st.integers(1, 9))
@pytest.mark.parametrize("centred", [0.0, 1.0])
def test_a_point_lies_in_its_region_or_else_in_the_fallback(
    centred: float, seed: int, height: int, width: int
) -> None:
    region = torch.rand((5, height, width), generator=seeded(seed)) < 0.3
    fallback = torch.rand((5, height, width), generator=seeded(seed + 1)) < 0.5
    region[0] = False
    region[1], fallback[1] = False, False
    points = sample_in(region, fallback, seeded(seed), covered=~region, centred=centred)
    for i in range(5):
        allowed = region[i] if region[i].any() else fallback[i]
        assert points[i].isnan().all() == (not allowed.any())
        if allowed.any():
            row, column = cells_of(points[i])
            assert allowed[row, column]


def test_every_logit_of_a_region_is_as_likely() -> None:
    region = torch.zeros(6, 5, dtype=torch.bool)
    region[[0, 1, 1, 3, 5], [0, 2, 3, 4, 4]] = True
    many = region.expand(4000, -1, -1)
    rows, columns = cells_of(sample_in(many, many, seeded()))
    counts = torch.bincount(rows * 5 + columns, minlength=30)
    counts = counts[region.flatten()]
    assert counts.sum() == 4000
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


def test_points_fill_covered_logits_and_sit_at_the_centre_of_others() -> None:
    region = torch.ones(2000, 1, 2, dtype=torch.bool)
    covered = torch.tensor([[[True, False]]]).expand(2000, -1, -1)
    points = sample_in(region, region, seeded(), covered=covered)
    left = points[:, 0] < LOGIT - 0.5
    assert (points[~left] == torch.tensor([5.5, 1.5])).all()
    assert points[left].min() >= -0.5
    assert points[left].max() <= 3.5
    for axis in (0, 1):
        inside = (points[left, axis].numpy() + 0.5) / LOGIT
        assert stats.kstest(inside, "uniform").pvalue > 0.01


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), height=st.integers(1, 20), width=st.integers(1, 20))
def test_centred_points_lie_in_the_deeper_half(
    seed: int, height: int, width: int
) -> None:
    density = torch.rand((8, 1, 1), generator=seeded(seed + 1))
    region = torch.rand((8, height, width), generator=seeded(seed)) > 0.3 * density
    region[0] = True
    region[1:4, height // 3 :, width // 4 :] = True
    depth = chessboard_depth(region)
    points = sample_in(region, region, seeded(seed), centred=1.0)
    filled = region.any(2).any(1)
    deep = at(depth[filled], points[filled])
    assert (deep > depth.amax((1, 2))[filled] / 2).all()


def test_all_of_the_deeper_half_is_drawn_from() -> None:
    region = discs(1)[0] > 0
    depth = chessboard_depth(region[None])[0]
    many = region.expand(4000, -1, -1)
    rows, columns = cells_of(sample_in(many, many, seeded(), centred=1.0))
    drawn = torch.zeros(region.shape, dtype=torch.bool)
    drawn[rows, columns] = True
    assert torch.equal(drawn, depth > depth.max() / 2)
    some, _ = cells_of(sample_in(many, many, seeded(), centred=0.5))
    spread = [rows.float().std(), some.float().std()]
    assert spread[0] < 0.9 * spread[1]


def test_an_object_that_fills_the_window_is_hit_in_its_middle() -> None:
    region = torch.ones(50, 12, 20, dtype=torch.bool)
    points = sample_in(region, region, seeded(), centred=1.0)
    rows, columns = cells_of(points)
    assert ((rows >= 3) & (rows <= 8) & (columns >= 3) & (columns <= 16)).all()


def test_no_global_randomness_is_used() -> None:
    targets = discs(6)

    def draw() -> tuple[PromptBatch, Tensor | None]:
        rng = seeded(5)
        first = first_prompts(
            targets, ones(targets), frame_boxes(targets), PromptSettings(), rng
        )
        rounds = draw_rounds(6, 3, rng=rng)
        student = DiscStudent()
        return hard_prompts(
            student,
            first,
            targets,
            ones(targets),
            ones(targets),
            rounds,
            PromptSettings(),
            rng,
        )

    state = torch.get_rng_state()
    one, masks = draw()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    other, others = draw()
    assert torch.equal(one.points, other.points)
    assert torch.equal(one.labels, other.labels)
    torch.testing.assert_close(one.boxes, other.boxes, equal_nan=True)
    assert masks is not None
    torch.testing.assert_close(masks, others, equal_nan=True)


# --- First prompts --------------------------------------------------------------------


def frame_boxes(targets: Tensor) -> Tensor:
    """Exact boxes around objects made of whole logits, in pixels."""
    boxes = []
    for target in targets:
        ys, xs = (target > 0).nonzero(as_tuple=True)
        boxes.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    return LOGIT * torch.tensor(boxes).float()


def test_first_prompts_have_the_asked_forms() -> None:
    targets = discs(2000, radius=3, side=8)
    prompts = first_prompts(
        targets,
        ones(targets),
        frame_boxes(targets),
        PromptSettings(point=2, box=1, box_with_point=1),
        seeded(),
    )
    has_point = prompts.labels[:, 0] == 1
    counts = [
        (has_point & ~prompts.has_box).sum(),
        (~has_point & prompts.has_box).sum(),
        (has_point & prompts.has_box).sum(),
    ]
    assert sum(counts) == 2000
    assert stats.chisquare(counts, [1000, 500, 500]).pvalue > 0.01
    assert prompts.points.shape == (2000, 1, 2)
    assert (at(targets, prompts.points[:, 0])[has_point] == 1).all()
    # Absent ones are marked as such, and hold nothing that could turn into NaN.
    assert (prompts.labels[~has_point] == -1).all()
    assert (prompts.points[~has_point] == 0).all()
    assert prompts.boxes[~prompts.has_box].isnan().all()
    assert torch.equal(prompts.point_count, has_point.long())


def test_the_paper_begins_with_one_point_of_the_object() -> None:
    targets = blobs(200)
    prompts = first_prompts(
        targets, ones(targets), torch.zeros(200, 4), PAPER, seeded()
    )
    assert (prompts.labels == 1).all()
    assert not prompts.has_box.any()
    assert at(object_region(targets), prompts.points[:, 0]).all()


def test_first_points_keep_out_of_the_padding() -> None:
    targets, valid = torch.ones(100, 8, 8), torch.zeros(100, 8, 8)
    valid[:, :3, :5] = 1
    prompts = first_prompts(targets, valid, torch.zeros(100, 4), PAPER, seeded())
    assert at(valid, prompts.points[:, 0]).all()


def test_objects_smaller_than_a_logit_are_hit() -> None:
    targets = torch.zeros(30, 8, 8)
    targets[:, 5, 2] = 1 / 16
    prompts = first_prompts(targets, ones(targets), torch.zeros(30, 4), PAPER, seeded())
    assert (prompts.points == torch.tensor([2.0, 5.0]) * LOGIT + 1.5).all()
    missed, labels = next_points(
        targets < 0, targets, ones(targets), ones(targets), PAPER, seeded()
    )
    assert (labels == 1).all()
    assert torch.equal(missed, prompts.points[:, 0])


def test_an_object_that_is_nowhere_gets_no_point() -> None:
    targets = torch.zeros(2, 8, 8)
    targets[0, 3, 3] = 1
    first = first_prompts(targets, ones(targets), torch.zeros(2, 4), PAPER, seeded())
    assert first.labels.tolist() == [[1], [-1]]
    points, labels = next_points(
        targets, targets, ones(targets), ones(targets), PAPER, seeded()
    )
    assert labels.tolist() == [1, -1]
    assert torch.isfinite(points).all()


def test_exact_boxes_stay_as_they_are() -> None:
    targets = discs(20)
    boxes = frame_boxes(targets)
    prompts = first_prompts(targets, ones(targets), boxes, EXACT_BOXES, seeded())
    assert torch.equal(prompts.boxes, boxes)
    assert (prompts.labels == -1).all()


@st.composite
def boxes_in_a_window(draw: Any) -> tuple[Tensor, tuple[int, int]]:
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    boxes = []
    for _ in range(draw(st.integers(1, 4))):
        x0, x1 = sorted(
            draw(st.lists(st.integers(0, LOGIT * width), min_size=2, max_size=2))
        )
        y0, y1 = sorted(
            draw(st.lists(st.integers(0, LOGIT * height), min_size=2, max_size=2))
        )
        boxes.append([x0, y0, x1, y1])
    return torch.tensor(boxes).float(), (height, width)


@settings(max_examples=80, deadline=None)
@given(
    case=boxes_in_a_window(),
    seed=st.integers(0, 10_000),
    jitter=st.floats(0, 1),
    pixels=st.floats(0, 20),
    loose=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_boxes_are_never_degenerate_and_never_leave_the_window(
    case: tuple[Tensor, tuple[int, int]],
    seed: int,
    jitter: float,
    pixels: float,
    loose: float,
) -> None:
    boxes, (height, width) = case
    sloppy = PromptSettings(
        box_jitter=jitter, box_jitter_pixels=pixels, loose_boxes=loose
    )
    drawn = sloppy_boxes(boxes, (height, width), sloppy, seeded(seed))
    assert torch.isfinite(drawn).all()
    assert (drawn >= 0).all()
    assert (drawn[:, [0, 2]] <= LOGIT * width).all()
    assert (drawn[:, [1, 3]] <= LOGIT * height).all()
    before, after = boxes[:, 2:] - boxes[:, :2], drawn[:, 2:] - drawn[:, :2]
    assert (after >= (before / 2).clamp(min=SHORTEST_SIDE) - 1e-3).all()


def test_boxes_are_off_by_what_the_settings_say() -> None:
    box = torch.tensor([[100.0, 200, 300, 600]]).expand(5000, -1)
    jittered = PromptSettings(box_jitter=0.05, box_jitter_pixels=1, loose_boxes=0)
    off = sloppy_boxes(box, (256, 256), jittered, seeded()) - box
    np.testing.assert_allclose(off.std(0), [11, 21, 11, 21], rtol=0.05)
    np.testing.assert_allclose(off.mean(0), 0, atol=1.2)
    loose = replace(jittered, loose_boxes=1, loose_share=0.15)
    off = sloppy_boxes(box, (256, 256), loose, seeded()) - box
    np.testing.assert_allclose(off.amax(0), [30, 60, 30, 60], rtol=0.01)
    np.testing.assert_allclose(off.amin(0), [-30, -60, -30, -60], rtol=0.01)


# --- prompt batches -----------------------------------------------------------------------


def test_points_are_appended_without_gaps() -> None:
    nan = float("nan")
    prompts = PromptBatch(
        torch.tensor([[[1.0, 2]], [[0, 0]], [[3, 4]]]),
        torch.tensor([[1], [-1], [1]]),
        torch.tensor([[nan] * 4, [0.0, 0, 8, 8], [nan] * 4]),
    )
    more = prompts.with_point(
        torch.tensor([[5.0, 6], [7, 8], [9, 9]]), torch.tensor([0, 1, -1])
    )
    assert more.labels.tolist() == [[1, 0], [1, -1], [1, -1]]
    assert more.points.tolist() == [
        [[1, 2], [5, 6]],
        [[7, 8], [0, 0]],
        [[3, 4], [0, 0]],
    ]
    assert more.has_box.tolist() == [False, True, False]
    assert more.point_count.tolist() == [2, 1, 1]
    assert prompts.labels.tolist() == [[1], [-1], [1]]  # unchanged
    assert len(more.take(torch.tensor([1, 2])).trimmed().points[0]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"centred": 1.5}, "centred\n.*less than or equal to 1"),
        ({"box_jitter": -1}, "box_jitter\n.*greater than or equal to 0"),
        ({"point": 0, "box": 0, "box_with_point": 0}, "must be above 0"),
        ({"mode": "both"}, "mode\n.*'append' or 'replace'"),
    ],
)
def test_settings_out_of_range_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PromptSettings(**options)


def test_settings_survive_a_yaml_file() -> None:
    changed = PromptSettings(mode="replace", negatives=0.2)
    text = yaml.safe_dump(asdict(changed))
    assert PromptSettings(**yaml.safe_load(text)) == changed


# --- Corrections ----------------------------------------------------------------------


@pytest.mark.parametrize("logits", [False, True])
def test_the_papers_next_point_is_missed_or_else_on_the_object(logits: bool) -> None:
    targets, answers = blobs(300, seed=1), blobs(300, seed=2) > 0.5
    answers[:20] = True  # nothing is missed
    answers[20:40] = False
    handed = torch.where(answers, 3.0, -3.0) if logits else answers
    points, labels = next_points(
        handed, targets, ones(targets), ones(targets), PAPER, seeded()
    )
    assert (labels == 1).all()
    wanted = object_region(targets)
    missed = wanted & ~answers
    empty = ~missed.any(2).any(1)
    assert empty.sum() >= 20
    assert at(missed, points)[~empty].all()
    assert at(wanted, points)[empty].all()


@pytest.mark.parametrize("by", ["area", "chance"])
def test_negative_points_lie_on_known_pixels_beside_the_object(
    by: Literal["area", "chance"],
) -> None:
    targets, answers = blobs(400, seed=1), blobs(400, seed=2) > 0.5
    known = torch.zeros(targets.shape)
    known[:, :, : SIDE // 2] = 1
    known[:50] = 0
    chosen = PromptSettings(negatives=1, negatives_by=by)
    points, labels = next_points(
        answers, targets, ones(targets), known, chosen, seeded()
    )
    extra = answers & (targets == 0) & (known > 0)
    missed = object_region(targets) & ~answers
    negative = labels == 0
    assert at(extra, points)[negative].all()
    assert at(missed, points)[~negative].all()
    wrong, lacking = extra.sum((1, 2)), missed.sum((1, 2))
    expected = wrong > lacking if by == "area" else wrong > 0
    assert torch.equal(negative, expected)
    assert 0 < negative.sum() < 400
    assert not negative[:50].any()


def test_negatives_are_as_frequent_as_asked() -> None:
    targets = torch.zeros(2000, 6, 6)
    targets[:, 2, 2] = 1
    chosen = PromptSettings(negatives=0.3, negatives_by="chance")
    everywhere = ones(targets) > 0
    _, labels = next_points(
        everywhere, targets, ones(targets), ones(targets), chosen, seeded()
    )
    counts = torch.bincount(labels, minlength=2)
    assert stats.chisquare(counts.numpy(), [600, 1400]).pvalue > 0.01


@pytest.mark.parametrize("most", [9, 3])
def test_rounds_are_uniform(most: int) -> None:
    rounds = draw_rounds(5000, most, rng=seeded(1))
    counts = torch.bincount(rounds)
    assert len(counts) == most + 1
    assert stats.chisquare(counts.numpy()).pvalue > 0.01
    assert draw_rounds(100, rng=seeded()).max() == 9


class DiscStudent:
    """A student that answers a disc around each positive point, and remembers the questions."""

    def __init__(self, radius: float = 3.0, side: int = SIDE) -> None:
        self.radius, self.side = radius, side
        self.asked: list[tuple[PromptBatch, Tensor | None, Tensor]] = []

    def __call__(
        self, prompts: PromptBatch, masks: Tensor | None, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        self.asked.append((prompts, masks, rows))
        steps = torch.arange(self.side)
        x, y = ((prompts.points - 1.5) / LOGIT)[..., None, None].unbind(2)
        distance = ((steps[:, None] - y) ** 2 + (steps - x) ** 2).sqrt()
        absent = (prompts.labels != 1)[..., None, None]
        nearest = torch.cat(
            [
                distance.masked_fill(absent, 99.0),
                distance.new_full((len(rows), 1, self.side, self.side), 99.0),
            ],
            dim=1,
        ).amin(1)
        good = 50 * (self.radius + 0.5 - nearest)
        logits = torch.stack([good, -good, good - 1e4], dim=1)
        return logits, torch.tensor([0.8, 0.3, 0.2]).expand(len(rows), -1)


def corrected(
    targets: Tensor,
    rounds: Tensor,
    chosen: PromptSettings,
    student: DiscStudent,
    seed: int = 0,
) -> tuple[PromptBatch, Tensor | None]:
    rng = seeded(seed)
    first = first_prompts(targets, ones(targets), frame_boxes(targets), chosen, rng)
    return hard_prompts(
        student, first, targets, ones(targets), ones(targets), rounds, chosen, rng
    )


def test_hard_points_drift_to_the_edge() -> None:
    """Check 13: the mean distance to the object's edge falls with the rounds."""
    targets = discs(200)
    depth = torch.from_numpy(
        np.stack([ndi.distance_transform_edt(t) for t in targets.numpy()])
    )
    prompts, _ = corrected(
        targets,
        torch.full((200,), 4),
        replace(PAPER, mode="append"),
        DiscStudent(radius=5),
    )
    assert prompts.labels.shape == (200, 5)
    missed, means = targets > 0, []
    for i in range(5):
        point = prompts.points[:, i]
        assert (prompts.labels[:, i] == 1).all()
        whole = ~missed.any(2).any(1)
        assert at(torch.where(whole[:, None, None], targets > 0, missed), point).all()
        means.append(at(depth, point)[~whole].mean().item())
        so_far = PromptBatch(
            prompts.points[:, : i + 1], prompts.labels[:, : i + 1], prompts.boxes
        )
        answers = DiscStudent(radius=5)(so_far, None, torch.arange(200))[0][:, 0]
        missed = (targets > 0) & (answers <= 0)
    assert np.all(np.diff(means[:4]) < 0)
    # Points from anywhere in the object would stay where the first ones are.
    assert means[3] < 0.75 * means[0]


def test_only_objects_that_need_another_round_are_asked_for() -> None:
    targets = discs(6)
    rounds = torch.tensor([0, 3, 1, 0, 2, 3])
    student = DiscStudent()
    prompts, masks = corrected(targets, rounds, replace(PAPER, mode="append"), student)
    assert [rows.tolist() for _, _, rows in student.asked] == [
        [1, 2, 4, 5],
        [1, 4, 5],
        [1, 5],
    ]
    assert torch.equal(prompts.point_count, rounds + 1)
    assert prompts.labels[0].tolist() == [1, -1, -1, -1]
    assert masks is None


def test_replacing_leaves_the_newest_point() -> None:
    targets = discs(8)
    rounds = torch.arange(8) % 4
    student = DiscStudent()
    prompts, _ = corrected(targets, rounds, PAPER, student)
    assert prompts.labels.tolist() == [[1]] * 8
    assert all(asked.labels.shape[1] == 1 for asked, _, _ in student.asked)
    newest, _, rows = student.asked[-1]
    assert torch.equal(rows, (rounds == 3).nonzero()[:, 0])
    # What is in the prompts now was missed by the last answer, not by those before it.
    answer = student(newest, None, rows)[0][:, 0] > 0
    assert not at(answer, prompts.points[rows, 0]).any()
    assert not torch.equal(newest.points, prompts.points[rows])


def test_boxes_stay_and_get_corrected() -> None:
    targets = discs(4)
    prompts, _ = corrected(
        targets, torch.tensor([0, 1, 2, 2]), EXACT_BOXES, DiscStudent()
    )
    assert torch.equal(prompts.boxes, frame_boxes(targets))
    assert prompts.point_count.tolist() == [0, 1, 2, 2]
    assert prompts.labels[2].tolist() == [1, 1]


def test_the_mask_of_the_best_score_is_corrected_or_else_of_the_best_iou() -> None:
    targets = discs(40)

    def student(
        prompts: PromptBatch, masks: Tensor | None, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        left = torch.where(torch.arange(SIDE) < SIDE // 2, 1.0, -1.0)
        whole = torch.where(targets[rows] > 0, 1.0, -1.0)
        whole[:, SIDE // 2] = -1  # all but one row
        logits = torch.stack([whole, left.expand(len(rows), SIDE, SIDE)], dim=1)
        return logits, torch.tensor([0.1, 0.9]).expand(len(rows), -1)

    first = first_prompts(targets, ones(targets), frame_boxes(targets), PAPER, seeded())
    points = {}
    for answer in ("score", "iou"):
        prompts, _ = hard_prompts(
            student,
            first,
            targets,
            ones(targets),
            ones(targets),
            torch.ones(40, dtype=torch.int64),
            replace(PAPER, answer=answer),
            seeded(),
        )
        points[answer] = cells_of(prompts.points[:, 0])
    assert (points["score"][1] >= SIDE // 2).all()
    assert (points["iou"][0] == SIDE // 2).all()


def test_answers_are_handed_back_as_mask_prompts() -> None:
    targets = discs(40)
    rounds = torch.arange(40) % 3
    student = DiscStudent()
    chosen = PromptSettings(mask_prompt=0.5, negatives=0)
    prompts, masks = corrected(targets, rounds, chosen, student)
    assert masks is not None
    assert masks.shape == (40, 1, SIDE, SIDE)
    given = ~masks.isnan().flatten(1).any(1)
    assert torch.equal(given, ~masks.isnan().flatten(1).all(1))  # whole rows
    assert 0 < given.sum() < (rounds > 0).sum()
    assert not given[rounds == 0].any()
    assert masks[given].abs().max() == MASK_PROMPT_LIMIT
    (_, nothing, _), (last, handed, rows) = student.asked
    assert nothing is None
    assert handed is not None
    # The same objects in all rounds; what comes back is the answer to the last question.
    assert torch.equal(~handed.isnan().flatten(1).any(1), given[rows])
    answer = student(last, None, rows)[0][:, :1].clamp(-32, 32)
    torch.testing.assert_close(masks[rows][given[rows]], answer[given[rows]])
    # A point added since then corrects exactly that answer.
    newest = prompts.points[rows, prompts.point_count[rows] - 1]
    was_missed = ((answer[:, 0] <= 0) & (targets[rows] > 0)).any(2).any(1)
    assert (at(answer[:, 0], newest)[was_missed] <= 0).all()


def test_no_gradient_is_kept() -> None:
    weight = torch.ones((), requires_grad=True)
    student = DiscStudent()

    def decode(
        prompts: PromptBatch, masks: Tensor | None, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits, scores = student(prompts, masks, rows)
        assert not (logits * weight).requires_grad
        return logits * weight, scores

    targets = discs(3)
    first = first_prompts(targets, ones(targets), frame_boxes(targets), PAPER, seeded())
    chosen = PromptSettings(mask_prompt=1)
    prompts, masks = hard_prompts(
        decode,
        first,
        targets,
        ones(targets),
        ones(targets),
        torch.full((3,), 2),
        chosen,
        seeded(),
    )
    assert len(student.asked) == 2
    assert masks is not None
    assert not masks.requires_grad
    assert not prompts.points.requires_grad


def test_no_objects() -> None:
    nothing = torch.zeros(0, SIDE, SIDE)
    student = DiscStudent()
    rounds = draw_rounds(0, rng=seeded())
    first = first_prompts(
        nothing, nothing, torch.zeros(0, 4), PromptSettings(), seeded()
    )
    assert first.points.shape == (0, 1, 2)
    prompts, masks = hard_prompts(
        student, first, nothing, nothing, nothing, rounds, PromptSettings(), seeded()
    )
    assert prompts.points.shape[0] == len(prompts.boxes) == len(prompts) == 0
    assert masks is None
    assert not student.asked
    points, labels = next_points(
        nothing, nothing, nothing, nothing, PromptSettings(), seeded()
    )
    assert points.shape == (0, 2)
    assert labels.shape == (0,)


def test_bfloat16_answers_are_fine() -> None:
    targets = discs(4)

    def decode(
        prompts: PromptBatch, masks: Tensor | None, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits, scores = DiscStudent()(prompts, masks, rows)
        return logits.bfloat16(), scores.bfloat16()

    first = first_prompts(targets, ones(targets), frame_boxes(targets), PAPER, seeded())
    with torch.autocast("cpu", torch.bfloat16):
        prompts, masks = hard_prompts(
            decode,
            first,
            targets,
            ones(targets),
            ones(targets),
            torch.full((4,), 2),
            PromptSettings(mask_prompt=1),
            seeded(),
        )
    assert prompts.points.dtype == torch.float32
    assert masks is not None
    assert masks.dtype == torch.float32


@pytest.mark.gpu
def test_a_gpu_samples_the_same() -> None:
    targets, answers = blobs(200, seed=1), blobs(200, seed=2) > 0.5
    boxes, valid = torch.tensor([[8.0, 8, 60, 70]]).expand(200, -1), ones(targets)
    chosen = PromptSettings(negatives=1)
    first = first_prompts(targets, valid, boxes, chosen, seeded())
    there = first_prompts(targets.cuda(), valid.cuda(), boxes.cuda(), chosen, seeded())
    torch.testing.assert_close(there.points.cpu(), first.points)
    torch.testing.assert_close(there.boxes.cpu(), first.boxes, equal_nan=True)
    assert torch.equal(there.labels.cpu(), first.labels)
    points, labels = next_points(answers, targets, valid, valid, chosen, seeded())
    on_gpu = (x.cuda() for x in (answers, targets, valid, valid))
    points_there, labels_there = next_points(*on_gpu, chosen, seeded())
    torch.testing.assert_close(points_there.cpu(), points)
    assert torch.equal(labels_there.cpu(), labels)
