"""Runs of recipes: from files to models, going on, stopping, refusing."""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import pytest
import safetensors
import torch

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from tinysam_training.commands import train
from tinysam_training.commands.train import run_recipe
from tinysam_training.data.dataset import read_dataset, read_source
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.distill.starting import FLIPS
from tinysam_training.distill.teacher import Teacher
from tinysam_training.recipe import (
    DataSource,
    LossSettings,
    ModelSettings,
    Recipe,
    TeacherSettings,
)
from tinysam_training.run.starting import Hardware
from tinysam_training.synthetic import SYNTHETIC_KINDS
from training.small_runs import (
    FallingJudge,
    RisingJudge,
    with_steps,
    write_pairs,
    write_start,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = Hardware("cpu")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_start(tmp_path_factory.mktemp("start") / "start.safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """discs/train, discs/val and, partly annotated, few/."""
    root = tmp_path_factory.mktemp("data")
    write_pairs(root / "discs" / "train", 3)
    write_pairs(root / "discs" / "val", 1, first=3)
    write_pairs(root / "few", 1, first=4)
    return root


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "Judge", RisingJudge)


def small(start: Path, steps: int = 3, **changes: Any) -> Recipe:
    recipe = with_steps(
        steps,
        data=(DataSource(path="discs"),),
        validation=(DataSource(path="discs", split="val"),),
        model=ModelSettings(start=str(start), batch_norm="frozen"),
    )
    return replace(recipe, **changes)


def run(recipe: Recipe, root: Path, out: Path, **options: Any) -> Any:
    return run_recipe(recipe, root, out, hardware=CPU, **options)


def steps_logged(folder: Path) -> list[int]:
    with (folder / "log.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def notes_of(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, "pt") as file:
        return dict(file.metadata())


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoints.load(path).model.state_dict()


# --------------------------------------------------------------------------- train


def test_a_run_in_parts_gives_the_models_of_one_in_a_piece(
    tmp_path: Path, start: Path, data: Path
) -> None:
    said: list[str] = []
    whole = tmp_path / "whole"
    outcome = run(small(start), data, whole, on_message=said.append)
    assert outcome.finished
    assert outcome.steps == 3
    assert "Training: 3 images" in said[0]
    assert "Validation: 1 image" in said[0]
    assert notes_of(whole / "best.safetensors")["made_by"] == "napari-tinysam train"
    assert notes_of(whole / "last.safetensors")["recipe"] == "small"

    parts = tmp_path / "parts"
    seconds = count(step=20.0)
    first = run(small(start), data, parts, max_minutes=1.0, clock=lambda: next(seconds))
    assert not first.finished
    assert 0 < first.steps < 3
    # What was there is not replaced by mistake …
    with pytest.raises(DataError, match="holds a run already"):
        run(small(start), data, parts)
    # … nor continued with something else.
    with pytest.raises(DataError, match="another recipe"):
        run(small(start, 5), data, parts, resume=True)
    second = run(small(start), data, parts, resume=True)
    assert second.finished
    assert steps_logged(parts) == [1, 2, 3]
    expected, found = (
        weights(folder / "last.safetensors") for folder in (whole, parts)
    )
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_run_without_a_checkpoint_is_begun_anew(
    tmp_path: Path, start: Path, data: Path
) -> None:
    """Killed before its first checkpoint, all that there is of it is a log."""
    (tmp_path / "log.csv").write_text("step,seconds\n1,1.0\n2,2.0\n")
    run(small(start, 1), data, tmp_path, resume=True)
    assert steps_logged(tmp_path) == [1]


def test_without_validation_there_is_the_last_model(
    tmp_path: Path, start: Path, data: Path
) -> None:
    outcome = run(small(start, 1, validation=()), data, tmp_path)
    assert not outcome.best
    assert not (tmp_path / "best.safetensors").exists()
    assert weights(tmp_path / "last.safetensors")


def test_a_run_that_finds_nothing_better_has_no_best_model(
    tmp_path: Path, start: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "Judge", FallingJudge)
    outcome = run(small(start, 1), data, tmp_path)
    assert outcome.best["step"] == 0
    assert not (tmp_path / "best.safetensors").exists()


def test_synthetic_images_alone_are_enough(tmp_path: Path, start: Path) -> None:
    said: list[str] = []
    source = DataSource(
        kind="synthetic", count=2, size=(96, 96), kinds=SYNTHETIC_KINDS[:1]
    )
    recipe = small(start, 1, data=(source,), validation=())
    outcome = run(recipe, tmp_path, tmp_path / "out", on_message=said.append)
    assert outcome.steps == 1
    assert "Synthetic images: 2" in said[0]
    assert "There is no image to train on" not in said[0]


def test_a_random_start_follows_the_seed(tmp_path: Path, data: Path) -> None:
    recipe = small(Path("random"), 1, validation=())
    recipe = replace(
        recipe,
        model=ModelSettings(architecture="tiny_vit_2m", object_head=False),
        losses=LossSettings(object_head=0),
    )
    torch.manual_seed(99)  # whatever was drawn before
    run(recipe, data, tmp_path / "one")
    run(recipe, data, tmp_path / "two")
    one, two = (weights(tmp_path / n / "last.safetensors") for n in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not any(name.startswith("object_head") for name in one)


# ------------------------------------------------------------------------- distill


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Teachers embed without looking; how many images they were asked for."""
    asked: list[int] = []

    def embed(self: Teacher, images: Any, batch: int = 1) -> torch.Tensor:
        asked.append(len(images))
        generator = torch.Generator().manual_seed(int(images[0].sum()))
        return torch.randn(len(images), 256, 64, 64, generator=generator).half()

    monkeypatch.setattr(Teacher, "embed", embed)
    return asked


def distilling(start: Path, teacher: Path, **changes: Any) -> Recipe:
    return small(
        start,
        teacher=TeacherSettings(model=str(teacher), flips=False),
        losses=LossSettings(embedding=1.0, token=1.0, output=0.1),
        **changes,
    )


def test_a_teacher_embeds_once_and_its_losses_are_logged(
    tmp_path: Path, start: Path, data: Path, embedded: list[int]
) -> None:
    teacher = write_start(tmp_path / "teacher.safetensors", seed=1)
    before = teacher.read_bytes()
    out = tmp_path / "out"
    said: list[str] = []
    recipe = distilling(start, teacher, steps=2)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, data, out, on_step=interrupt_at(1), on_message=said.append)
    assert sum(embedded) == 3
    assert any("teacher.safetensors embeds 3 images in 1 turns" in s for s in said)

    outcome = run(recipe, data, out, resume=True)
    assert outcome.finished
    assert sum(embedded) == 3  # nothing again
    with (out / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2"]
    for name in ("embedding", "token", "output", "mask", "foreground"):
        assert all(float(row[name]) > 0 for row in rows), name
    assert notes_of(out / "last.safetensors")["made_by"] == "napari-tinysam distill"
    assert teacher.read_bytes() == before
    # The student's file has nothing of the teacher.
    assert weights(out / "last.safetensors").keys() == weights(start).keys()


def test_flips_are_embedded_too(
    tmp_path: Path, start: Path, data: Path, embedded: list[int]
) -> None:
    recipe = distilling(start, start, steps=1, validation=())
    recipe = replace(recipe, teacher=replace(recipe.teacher, flips=True))
    run(recipe, data, tmp_path)
    assert sum(embedded) == 3 * len(FLIPS)


def test_a_teacher_that_is_not_there_is_a_sentence(
    tmp_path: Path, start: Path, data: Path
) -> None:
    recipe = distilling(start, tmp_path / "nobody.pth")
    with pytest.raises(DataError, match=r"teacher cannot be loaded.*nobody\.pth"):
        run(recipe, data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------- data


def test_sources_are_drawn_by_their_shares(data: Path, start: Path) -> None:
    recipe = small(
        start,
        data=(
            DataSource(path="discs", share=3.0),
            DataSource(path="few", split="", share=1.0),
        ),
    )
    dataset = read_dataset(recipe, data)
    assert [entry.dataset for entry in dataset.train] == ["discs"] * 3 + ["few"]
    assert dataset.shares == pytest.approx([1.0, 1.0, 1.0, 1.0])
    other = read_dataset(replace(recipe, data=recipe.data[:1]), data)
    assert other.fingerprint != dataset.fingerprint


def test_a_folder_called_synthetic_is_looked_at(tmp_path: Path, start: Path) -> None:
    write_pairs(tmp_path / "synthetic_cells", 1)
    recipe = small(
        start, data=(DataSource(path="synthetic_cells", split=""),), validation=()
    )
    dataset = read_dataset(recipe, tmp_path)
    assert len(dataset.report.usable_train) == 1
    assert "Synthetic" not in dataset.text()


def test_synthetic_data_of_another_seed_is_other_data(start: Path, data: Path) -> None:
    def fingerprint(**changes: Any) -> str:
        source = DataSource(kind="synthetic", count=2, size=(96, 96))
        recipe = small(start, data=(replace(source, **changes),))
        return read_dataset(recipe, data).fingerprint

    found = [fingerprint(), fingerprint(), fingerprint(seed=1), fingerprint(count=3)]
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_a_partly_annotated_source_says_nothing_about_the_rest(
    tmp_path: Path, start: Path, data: Path
) -> None:
    source = DataSource(path="few", split="", complete=False)
    recipe = small(start, 1, data=(source,), validation=())
    assert read_source(replace(source, complete=None), data)[0].complete
    (entry,) = read_dataset(recipe, data).train
    assert not entry.complete
    assert not entry.read().complete
    outcome = run(recipe, data, tmp_path)
    assert outcome.steps == 1


def test_a_limit_takes_evenly_spaced_images(data: Path) -> None:
    numbers: Any = list(range(10))
    assert evenly_spaced(numbers, 3) == [0, 4, 9]
    assert evenly_spaced(numbers, 20) == numbers
    assert evenly_spaced([], 3) == evenly_spaced(numbers, 0) == []
    found = read_source(DataSource(path="discs", limit=2), data)
    assert [entry.name[-5:] for entry in found] == ["disc0", "disc2"]


def test_what_is_left_out_is_in_the_report(tmp_path: Path, start: Path) -> None:
    folder = write_pairs(tmp_path / "cells", 1)
    iio.imwrite(folder / "alone.png", np.zeros((64, 64), np.uint8))
    recipe = small(start, data=(DataSource(path="cells", split=""),), validation=())
    assert "alone.png" in read_dataset(recipe, tmp_path).text()


def no_folder(root: Path) -> tuple[DataSource, str]:
    return DataSource(path="nowhere"), "nowhere is not a folder"


def no_split(root: Path) -> tuple[DataSource, str]:
    write_pairs(root / "cells" / "val", 1)
    return DataSource(path="cells"), "does not hold a folder 'train'"


def no_labels(root: Path) -> tuple[DataSource, str]:
    (root / "cells").mkdir()
    iio.imwrite(root / "cells" / "alone.png", np.zeros((64, 64), np.uint8))
    return DataSource(path="cells", split=""), r"no labelled images in .*alone\.png"


def only_text(root: Path) -> tuple[DataSource, str]:
    (root / "cells").mkdir()
    for name in ("one.tif", "one_label.tif"):
        (root / "cells" / name).write_text("not an image")
    return DataSource(path="cells", split=""), r"no labelled images|no image to train"


def no_json(root: Path) -> tuple[DataSource, str]:
    (root / "coco.json").write_text("{")
    return DataSource(kind="coco", path="coco.json"), r"coco\.json"


def unknown_kind(root: Path) -> tuple[DataSource, str]:
    return DataSource(kind="synthetic", kinds=("unicorns",)), "no kind .* 'unicorns'"


def too_small(root: Path) -> tuple[DataSource, str]:
    return DataSource(kind="synthetic", size=(8, 8)), "at least .* 8 × 8 were asked"


@pytest.mark.parametrize(
    "make",
    [no_folder, no_split, no_labels, only_text, no_json, unknown_kind, too_small],
)
def test_data_that_cannot_be_used_is_a_sentence_and_nothing_is_written(
    tmp_path: Path, start: Path, make: Callable[[Path], tuple[DataSource, str]]
) -> None:
    source, words = make(tmp_path)
    with pytest.raises(DataError, match=f"(?s){words}"):
        run(small(start, data=(source,)), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_recipe_without_data_is_a_sentence(tmp_path: Path, start: Path) -> None:
    with pytest.raises(DataError, match="names no data"):
        run(small(start, data=()), tmp_path, tmp_path / "out")


def test_an_output_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, start: Path, data: Path
) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match="cannot be written to"):
        run(small(start, 1), data, tmp_path / "out")


def test_a_device_that_is_not_there_is_a_sentence(
    tmp_path: Path, start: Path, data: Path
) -> None:
    with pytest.raises(DataError, match="'tpu' is not available"):
        run_recipe(small(start), data, tmp_path, hardware=Hardware("tpu"))


def interrupt_at(step: int) -> Callable[..., None]:
    def interrupt(training: Any, figures: Any) -> None:
        if training.steps == step:
            raise KeyboardInterrupt

    return interrupt
