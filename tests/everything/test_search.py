"""The search: equal to the published procedure, and what it promises beyond it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms

from analytic_runtime import analytic_predictor
from everything.scene import scene
from napari_tinysam.everything import (
    Candidate,
    Search,
    SearchSettings,
    centred_lattice,
    official_lattice,
)
from napari_tinysam.everything.search import foreground_at
from napari_tinysam.prompts import Prompts

DISCS = [
    (200.0, 220.0, 90.0),
    (420.0, 300.0, 60.0),
    (700.0, 180.0, 45.0),
    (320.0, 560.0, 130.0),
    (650.0, 480.0, 25.0),
    (130.0, 420.0, 12.0),
]


def found(search: Search) -> list[Candidate]:
    for _ in search:
        pass
    return search.result


# ----------------------------------------------------------- the published procedure


def published(predictor: Any, embedding: Any, given: SearchSettings) -> list[dict]:
    """TinySAM's hierarchical generator, said again with torch, all masks at full size."""
    height, width = embedding.original_size
    inner = embedding.input_size
    n = given.points_per_side

    def generate(points: np.ndarray) -> dict[str, Any]:
        prompts = Prompts(points=points[:, None].astype(np.float32))
        masks = predictor.predict(embedding, prompts)
        logits = torch.from_numpy(masks.logits)
        full = F.interpolate(logits, (1024, 1024), mode="bilinear")
        full = full[..., : inner[0], : inner[1]]
        full = F.interpolate(full, (height, width), mode="bilinear").flatten(0, 1)
        data = {
            "logits": full,
            "iou": torch.from_numpy(masks.scores).flatten(),
            "points": np.repeat(points, 3, axis=0),
        }
        if given.score_threshold > 0:
            data = chosen(data, data["iou"] > given.score_threshold)
        full = data["logits"]
        inside = (full > 1).sum((1, 2)).float()
        data["stability"] = inside / (full > -1).sum((1, 2)).float()
        if given.stability_threshold > 0:
            data = chosen(data, data["stability"] >= given.stability_threshold)
        boxes = torch.zeros(len(data["iou"]), 4)
        for i, mask in enumerate(data["logits"] > 0):
            y, x = torch.nonzero(mask, as_tuple=True)
            if len(y):
                boxes[i] = torch.stack([x.min(), y.min(), x.max(), y.max()])
        data["boxes"] = boxes
        return data

    def chosen(data: dict[str, Any], keep: torch.Tensor) -> dict[str, Any]:
        return {
            k: v[keep.numpy()] if isinstance(v, np.ndarray) else v[keep]
            for k, v in data.items()
        }

    along = (np.arange(n // 4) + 0.5) / (n // 4)
    grid = np.stack(np.meshgrid(along, along), -1).reshape(-1, 2) * (width, height)
    first = generate(grid)
    sure = (first["logits"] > given.confident_logit).any(0).T.numpy()
    left = [
        p
        for p in official_lattice((height, width), n).dense
        if not sure[int(p[0]), int(p[1])]
    ]
    both = first
    if left:
        second = generate(np.array(left))
        both = {
            k: np.concatenate([second[k], first[k]])
            if isinstance(first[k], np.ndarray)
            else torch.cat([second[k], first[k]])
            for k in first
        }
    kept = batched_nms(
        both["boxes"], both["iou"], torch.zeros(len(both["iou"])), given.box_overlap
    )
    return [
        {
            "logits": both["logits"][i].numpy(),
            "box": tuple(both["boxes"][i].int().tolist()),
            "iou": float(both["iou"][i]),
            "stability": float(both["stability"][i]),
            "point": tuple(both["points"][i]),
        }
        for i in kept.tolist()
    ]


@pytest.mark.parametrize(
    ("size", "thresholds"),
    [
        ((1024, 1024), (0.88, 0.9, 8.5)),
        ((480, 640), (0.5, 0.5, 20.0)),
        ((700, 1000), (0.93, 0.9, 8.5)),
        ((333, 500), (0.0, 0.0, 8.5)),
    ],
    ids=str,
)
def test_the_official_lattice_gives_the_published_masks(
    size: tuple[int, int], thresholds: tuple[float, float, float]
) -> None:
    score, stability, confident = thresholds
    given = SearchSettings(
        points_per_side=8,
        lattice="official",
        score_threshold=score,
        stability_threshold=stability,
        confident_logit=confident,
    )
    predictor, embedding, _ = scene(DISCS, size, steepness=4.0)
    search = Search(predictor, embedding, given)
    ours = found(search)
    # Without thresholds the published code keeps empty masks too.
    theirs = [
        t for t in published(predictor, embedding, given) if (t["logits"] > 0).any()
    ]
    assert len(theirs) >= 2
    assert search.report.skipped > 0
    assert len(ours) == len(theirs)
    for one, two in zip(ours, theirs, strict=True):
        assert one.point == pytest.approx(two["point"])
        assert one.score == two["iou"]
        clear = np.abs(two["logits"]) > 1e-4  # beyond a rounding of the interpolation
        mask = one.mask.to_full()
        assert (mask == (two["logits"] > 0))[clear].all()
        if clear.all():
            assert one.box == two["box"]
        assert one.stability == pytest.approx(two["stability"], abs=1e-4)


# ------------------------------------------------------------------- what it promises


@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1023), st.floats(0, 1023), st.floats(20, 200)),
        max_size=6,
    )
)
def test_without_confidence_it_is_the_dense_grid(
    discs: list[tuple[float, float, float]],
) -> None:
    given = SearchSettings(
        points_per_side=8, score_threshold=0.5, stability_threshold=0.3
    )
    never = replace(given, confident_logit=np.inf)
    dense = replace(given, hierarchical=False)
    results = []
    for each in (never, dense):
        predictor, embedding, _ = scene(discs, (300, 400))
        search = Search(predictor, embedding, each)
        results.append(sorted((c.score, c.box) for c in found(search)))
        assert search.report.decoded == search.report.points == 64
        assert search.report.skipped == 0
    # The order in which equal masks were found may differ, and with it which point is told.
    assert results[0] == results[1]


def test_what_is_covered_is_not_decoded_again() -> None:
    predictor, embedding, runtime = scene([(512.0, 512.0, 400.0)], (512, 512))
    search = Search(predictor, embedding, SearchSettings(confident_logit=8.5))
    (first, *_) = found(search)
    assert first.area > 0.4 * 512**2
    report = search.report
    assert report.decoded == len(runtime.points)
    assert report.decoded + report.skipped == report.points == 1024
    assert report.skipped > 0.25 * report.points
    # Points of the second round lie where the disc's logits are at most τ.
    away = [np.hypot(x - 512, y - 512) for x, y in runtime.points[64:]]
    assert min(away) > 400 + 2 * 4 - 8.5 * 4 - 6
    assert report.seconds.keys() == {"decode", "filter", "skip", "suppress"}


def test_where_the_head_sees_nothing_nothing_is_asked() -> None:
    given = SearchSettings(
        points_per_side=16,
        score_threshold=0.5,
        stability_threshold=0.5,
        confident_logit=np.inf,
        background=0.3,
    )
    seen, unseen = DISCS[:-1], DISCS[-1]
    predictor, embedding, runtime = scene(DISCS, (512, 512), seen=seen)
    search = Search(predictor, embedding, given)
    found(search)
    report = search.report
    assert report.skipped > 100
    assert report.decoded == len(runtime.points) == 256 - report.skipped
    for x, y in runtime.points[16:]:  # of the second round
        assert any(np.hypot(x - cx, y - cy) < 1.3 * r for cx, cy, r in seen)
    # What the head overlooks, the first round may still find.
    cx, cy, radius = unseen
    hit = [np.hypot(x - cx, y - cy) < radius for x, y in runtime.points[:16]]
    assert any(hit) == any(
        abs(c.box[0] - (cx - radius) / 2) < 8 and abs(c.box[1] - (cy - radius) / 2) < 8
        for c in search.result
    )
    for other in (
        replace(given, background=0.0),
        replace(given, lattice="official"),
        replace(given, hierarchical=False),
    ):
        search = Search(predictor, embedding, other)
        found(search)
        assert search.report.skipped == 0
    predictor, embedding, _ = scene(DISCS, (512, 512))  # without an object head
    search = Search(predictor, embedding, given)
    found(search)
    assert search.report.skipped == 0


@pytest.mark.parametrize("finer", [1, 2])
def test_foreground_is_read_at_the_points(finer: int) -> None:
    maps = np.zeros((3, 256, 256), np.float32)
    maps[0, 100:120, 40:60] = 0.7  # pixels 400…480, 160…240 of the frame
    maps = maps.repeat(finer, axis=1).repeat(finer, axis=2)
    predictor = analytic_predictor(object_maps=maps)
    embedding = predictor.encode(np.zeros((300, 400), np.uint8))
    points = np.array([[200.0, 440.0], [500.0, 280.0]]) * 400 / 1024
    found = foreground_at(predictor, embedding, points)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [0.7, 0], atol=1e-6)
    headless = analytic_predictor()
    embedding = headless.encode(np.zeros((300, 400), np.uint8))
    np.testing.assert_array_equal(foreground_at(headless, embedding, points), [1, 1])


@pytest.mark.parametrize(
    ("discs", "size", "n"),
    [
        ([(512.0, 512.0, 2000.0)], (64, 64), 32),  # everything is covered
        ([], (64, 64), 32),  # nothing is found
        ([(512.0, 512.0, 300.0)], (8, 8), 32),
        ([(512.0, 512.0, 300.0)], (1, 1), 32),
        ([(512.0, 512.0, 300.0)], (3, 200), 32),
        *(([(512.0, 512.0, 300.0)], (100, 120), n) for n in (1, 3, 4, 30)),
    ],
)
def test_nothing_unusual_is_an_error(discs: Any, size: tuple[int, int], n: int) -> None:
    predictor, embedding, runtime = scene(discs, size)
    search = Search(predictor, embedding, SearchSettings(points_per_side=n))
    found(search)
    assert search.report.decoded == len(runtime.points)
    assert search.report.points == min(n, size[0]) * min(n, size[1])


def test_progress_ends_at_the_end_and_cancelling_keeps_what_was_found() -> None:
    predictor, embedding, runtime = scene(DISCS, (512, 512))
    given = SearchSettings(stability_threshold=0.5)
    search = Search(predictor, embedding, given)
    report = search.report
    told = [(report.done, len(new)) for new in search]
    assert told == sorted(told, key=lambda each: each[0])
    assert told[-1][0] == report.points == 1024
    assert sum(new for _, new in told) == report.found
    everything = {c.box for c in search.result}

    runtime.points.clear()
    part = Search(predictor, embedding, given)
    steps = iter(part)
    for _ in range(3):
        next(steps)
    decoded = len(runtime.points)
    steps.close()  # type: ignore[attr-defined]
    kept = {c.box for c in part.result}
    assert len(runtime.points) == decoded == part.report.decoded
    assert kept
    assert kept <= everything


@pytest.mark.parametrize("lattice", ["centred", "official"])
def test_results_do_not_depend_on_the_batch(
    lattice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for batch in (1, 7, 64):
        monkeypatch.setattr("napari_tinysam.everything.search._REPORT_EVERY", batch)
        predictor, embedding, _ = scene(DISCS, (500, 400))
        given = SearchSettings(
            points_per_side=16, lattice=lattice, stability_threshold=0.5
        )
        results.append(
            [
                (c.box, c.score, c.point)
                for c in found(Search(predictor, embedding, given))
            ]
        )
    assert results[0] == results[1] == results[2]


def test_stability_near_the_threshold_is_judged_at_full_size() -> None:
    """The same masks stay as if every one had been judged there."""
    predictor, embedding, _ = scene(DISCS, (700, 450))
    for threshold in (0.6, 0.7, 0.8, 0.85, 0.9):
        given = SearchSettings(stability_threshold=threshold, score_threshold=0.5)
        kept = {c.box for c in found(Search(predictor, embedding, given))}
        everything = Search(predictor, embedding, replace(given, stability_threshold=0))
        exact = [
            c
            for c in _all(everything)
            if c.with_exact_stability().stability >= threshold
        ]
        assert kept == {c.box for c in _apart(exact)}


def _all(search: Search) -> list[Candidate]:
    for _ in search:
        pass
    return search.candidates


def _apart(candidates: list[Candidate]) -> list[Candidate]:
    from napari_tinysam.everything import best_apart

    return best_apart(candidates, 0.7)


def test_only_the_published_search_asks_for_exact_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for lattice, expected in (("centred", {False}), ("official", {True})):
        predictor, embedding, runtime = scene(DISCS, (300, 400))
        asked = set()
        decode = runtime.decode

        def noted(*given: Any, exact: bool = True, **prompts: Any) -> Any:
            asked.add(exact)  # noqa: B023 - called before the next lattice
            return decode(*given, **prompts)  # noqa: B023

        monkeypatch.setattr(runtime, "decode", noted)
        settings: Any = {"lattice": lattice, "points_per_side": 4}
        found(Search(predictor, embedding, SearchSettings(**settings)))
        assert asked == expected


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="point per side"):
        SearchSettings(points_per_side=0)
    with pytest.raises(ValueError, match="no lattice"):
        SearchSettings(lattice="hexagonal")  # type: ignore[arg-type]
    assert len(centred_lattice((100, 100)).coarse) == 64
