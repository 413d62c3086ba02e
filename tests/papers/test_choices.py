"""The choices: what differs, what the patched parts compute, and that runs are not repeated."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_tinysam.model import SegmentAnything
from papers import choices
from papers.choices import (
    CHOICES,
    coarse_maps,
    first_stage,
    run_choices,
)
from tinysam_training.recipe import Recipe, load_recipe

RECIPE = load_recipe("default")


def test_each_choice_differs_in_one_thing() -> None:
    plain = first_stage(RECIPE, "recipe", 50)
    assert [stage.objects for stage in plain.stages] == [0]
    assert (plain.data, plain.steps) == (RECIPE.data, 50)
    names = ("data", "augmentation", "stages", "model", "optimizer", "losses")
    found = {}
    for choice in CHOICES:
        run = first_stage(RECIPE, choice, 50)
        found[choice] = [n for n in names if getattr(run, n) != getattr(plain, n)]
    assert found == {
        "recipe": [],
        "coarse": [],
        "rim": ["losses"],
        "generated": ["data"],
        "equal": ["data"],
        "light": ["augmentation"],
        "small": ["stages"],
    }
    run = first_stage(RECIPE, "generated", 50)
    made = sum(one.share for one in run.data if one.kind == "synthetic")
    assert made / sum(one.share for one in run.data) == pytest.approx(0.1)


def test_coarse_maps_are_those_of_stride_4_doubled() -> None:
    with coarse_maps():
        model = SegmentAnything("efficientnet_lite0", object_head=True).eval()
        image = torch.rand(1, 3, 64, 64)
        with torch.inference_mode():
            features = model.features(image)
            maps = model.object_maps(features)
    assert maps.shape == (1, 3, 32, 32)
    head: Any = model.object_head
    with torch.inference_mode():
        own = head.layers(features.details[1])
    assert own.shape == (1, 3, 16, 16)
    wanted = torch.nn.functional.interpolate(own, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(maps, wanted)
    # Outside, models are as ever.
    other = SegmentAnything("efficientnet_lite0", object_head=True)
    assert type(other.object_head) is not type(head)


def test_runs_that_are_there_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def run(recipe: Recipe, data: Path, out: Path, *, resume: bool) -> None:
        assert not resume
        done.append(recipe.name)
        out.mkdir(parents=True)

    monkeypatch.setattr(choices, "run_recipe", run)
    monkeypatch.setattr(choices, "_judged", lambda *_: {"msa": 0.5, "one": 0.25})
    recipe = replace(RECIPE, name="short")
    run_choices(recipe, tmp_path, tmp_path, choices=("recipe", "rim"))
    run_choices(recipe, tmp_path, tmp_path, choices=("rim", "equal"))
    assert done == ["short-recipe", "short-rim", "short-equal"]
    with (tmp_path / "choices.csv").open(encoding="utf-8") as file:
        assert [row["choice"] for row in csv.DictReader(file)] == [
            "recipe",
            "rim",
            "equal",
        ]
    table = (tmp_path / "choices.md").read_text("utf-8")
    assert "rims weigh as much as the rest" in table
    assert "0.250" in table
