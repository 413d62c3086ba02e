"""``napari-tinysam finetune``, ``train`` and ``distill``: what they write, and how they refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
import yaml

from command import Run, run_command, run_refused
from napari_tinysam import checkpoints
from napari_tinysam.errors import TinySAMError
from napari_tinysam.everything import Thresholds
from tinysam_training.commands import finetune, train
from tinysam_training.distill.teacher import Teacher
from tinysam_training.evaluation import before_after
from tinysam_training.evaluation.before_after import Comparison
from training.small_runs import (
    FallingJudge,
    RisingJudge,
    shortened,
    write_pairs,
    write_start,
)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_start(tmp_path_factory.mktemp("start") / "start.safetensors")


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Run]:
    """Run the command in a folder with four annotated images in cells/, for two small steps."""
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "cells", 4)
    write_pairs(tmp_path / "judged", 1, first=4)
    small = shortened(finetune.finetune_recipe)
    monkeypatch.setattr(finetune, "finetune_recipe", small)
    monkeypatch.setattr(finetune, "Judge", RisingJudge)
    monkeypatch.setattr(train, "Judge", RisingJudge)

    return partial(run_command, capsys)


@pytest.fixture
def refused(
    run: Callable[..., Run], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., str]:
    """Run a command that must fail: a sentence at the end of stderr, no file touched."""

    def call(*arguments: object, code: int) -> str:
        return run_refused(capsys, tmp_path, *arguments, code=code)[-1]

    return call


@pytest.fixture
def unjudged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The table at the end without looking at images; how many it would be about."""
    asked: list[int] = []

    class Nothing(Comparison):
        def __init__(self, before: Any, after: Any, caveat: str, images: int) -> None:
            assert before != after
            object.__setattr__(self, "caveat", caveat)

        def table(self) -> str:
            return f"| the table |\n{self.caveat}"

    def judge(predictor: Any, entries: Any) -> str:
        asked.append(len(entries))
        return predictor.model_id

    monkeypatch.setattr(before_after, "judge", judge)
    monkeypatch.setattr(before_after, "Comparison", Nothing)
    monkeypatch.setattr(before_after, "draw_comparison", lambda *_: b"\x89PNG")
    return asked


# ------------------------------------------------------------------------ finetune


def test_finetune_writes_a_model_a_table_and_a_picture(
    run: Callable[..., Run], start: Path, tmp_path: Path
) -> None:
    """The only test that really looks at a whole image: one image, one object."""
    labels = np.zeros((96, 128), np.uint8)
    labels[30:60, 40:80] = 1
    held_out = tmp_path / "held"
    held_out.mkdir()
    iio.imwrite(held_out / "one.png", labels * 100 + 20)
    iio.imwrite(held_out / "one_label.png", labels)
    done = run(
        *("finetune", "cells", "-o", "lab.safetensors", "--model", start),
        *("--held-out", "held", "--minutes", "1", "--device", "cpu"),
    )
    assert done.code == 0, done.err
    assert "Training: 4 images" in done.err
    assert "Validation: 1 image" in done.err
    adapted = checkpoints.load("lab.safetensors")
    assert adapted.model.object_head is not None
    # Without thresholds auto-segmentation would find nothing.
    assert Thresholds.from_notes(adapted.notes).labels.confidence == 0.33
    assert "lab.safetensors: 2 steps, best after 2" in done.out
    table = Path("lab-finetune/before_after.md").read_text()
    assert table in done.out
    lines = [line for line in table.splitlines() if line.startswith("|")]
    rows = {row.split("|")[1].strip(): row for row in lines}
    # One image to judge on and four to learn from: it has to choose too.
    assert table.splitlines()[-1].startswith("The same images chose the best moment")
    for name in before_after.ROWS.values():
        assert name in rows
    box = [float(cell) for cell in rows["IoU, box"].split("|")[2:4]]
    assert all(0 <= value <= 1 for value in box)
    assert Path("lab-finetune/before_after.png").read_bytes().startswith(b"\x89PNG")


def test_a_part_is_held_out(
    run: Callable[..., Run], start: Path, unjudged: list[int]
) -> None:
    done = run(
        "finetune", "cells", "-o", "a.safetensors", "--model", start, "--way", "lora"
    )
    assert done.code == 0, done.err
    assert unjudged == [1, 1]
    assert "1 image is held out, for choosing the best moment and for" in done.err
    assert "| the table |\nThe same images chose the best moment" in done.out
    assert "chose the best" in Path("a-finetune/before_after.md").read_text()
    said = (
        "2 steps are too few to learn anything; 10 minutes on this machine are about "
    )
    assert int(done.out.split(said)[1].split(".")[0].replace(",", "")) > 2


@pytest.mark.parametrize(
    ("folders", "choosing", "reported"),
    [
        ({"val": 2}, 2, 2),
        ({"test": 2}, 2, 2),
        ({"test": 5}, 2, 3),
        ({"val": 1, "test": 2}, 1, 2),
    ],
    ids=str,
)
def test_the_folders_val_and_test_are_held_out(
    run: Callable[..., Run],
    start: Path,
    unjudged: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folders: dict[str, int],
    choosing: int,
    reported: int,
) -> None:
    chosen_on: list[int] = []

    class CountingJudge(RisingJudge):
        def __init__(self, images: Any, device: Any, **options: Any) -> None:
            super().__init__(images, device, **options)
            chosen_on.append(len(images))

    monkeypatch.setattr(finetune, "Judge", CountingJudge)
    write_pairs(tmp_path / "split" / "train", 1)
    first = 1
    for name, count in folders.items():
        write_pairs(tmp_path / "split" / name, count, first=first)
        first += count
    done = run("finetune", "split", "-o", "a.safetensors", "--model", start)
    assert done.code == 0, done.err
    assert unjudged == [reported, reported]
    assert set(chosen_on) == {choosing}
    assert "Training: 1 image," in done.err
    assert f"Validation: {sum(folders.values())} images" in done.err
    same = len(folders) == 1 and choosing == reported
    assert ("The same images chose" in done.out) == same


def test_one_image_is_enough(
    run: Callable[..., Run], start: Path, unjudged: list[int], tmp_path: Path
) -> None:
    write_pairs(tmp_path / "one", 1)
    done = run("finetune", "one", "-o", "a.safetensors", "--model", start)
    assert done.code == 0, done.err
    assert "A part of one/disc0 is held out" in done.err
    assert "The same images chose the best moment" in done.out


def test_no_better_model_is_an_error(
    run: Callable[..., Run], start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "Judge", FallingJudge)
    done = run("finetune", "cells", "-o", "a.safetensors", "--model", start)
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("Error: No model was better than")
    assert "2 steps are too few to learn anything; 10 minutes" in done.err
    assert not Path("a.safetensors").exists()


def test_ctrl_c_says_where_the_best_model_is(
    run: Callable[..., Run], start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Path] = []
    save = checkpoints.save

    def interrupted(model: Any, path: Path, notes: Any) -> None:
        if saved:
            raise KeyboardInterrupt
        save(model, path, notes)
        saved.append(path)

    monkeypatch.setattr(checkpoints, "save", interrupted)
    done = run("finetune", "cells", "-o", "a.safetensors", "--model", start)
    assert done.code == 130
    assert "The best model so far is in a.safetensors." in done.err
    assert done.err.splitlines()[-1] == "Stopped."
    assert done.out == ""
    assert checkpoints.load("a.safetensors")


def test_finetune_refuses_what_makes_no_sense(refused: Callable[..., str]) -> None:
    command = ("finetune", "cells", "-o", "a.safetensors")
    said = refused(*command, "--way", "quickly", code=2)
    assert "frozen, lora, whole" in said
    for minutes in ("0", "-3", "nan", "inf"):
        assert "--minutes" in refused(*command, f"--minutes={minutes}", code=2)
    assert "--seed" in refused(*command, "--seed=-1", code=2)
    assert "--minutes" in refused(*command, "--minutes", "ten", code=2)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("model.tif", "should end in"),
        ("model.SAFETENSORS", "should end in .safetensors"),
        ("nowhere/model.safetensors", "does not exist"),
        ("folder.safetensors", "is a folder"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_at_once(
    refused: Callable[..., str], tmp_path: Path, output: str, words: str
) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    assert words in refused("finetune", "cells", "-o", output, code=1)


def test_a_folder_of_others_is_refused_at_once(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    said = refused("finetune", "cells", "-o", "a.safetensors", code=1)
    assert "no permission to write to the folder" in said


def text_files(folder: Path) -> None:
    for name in ("one.tif", "one_label.tif"):
        (folder / name).write_text("this is not an image\n")


def images_only(folder: Path) -> None:
    iio.imwrite(folder / "one.png", np.zeros((64, 64), np.uint8))


def nothing_drawn(folder: Path) -> None:
    images_only(folder)
    iio.imwrite(folder / "one_label.png", np.zeros((64, 64), np.uint8))


def nothing_at_all(folder: Path) -> None:
    (folder / "notes.txt").write_text("hello")


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (text_files, "o image to train on"),
        (images_only, "o image to train on"),
        (nothing_drawn, "o image to train on"),
        (nothing_at_all, "does not hold images with labels"),
    ],
)
def test_data_without_labels_is_refused(
    refused: Callable[..., str],
    tmp_path: Path,
    fill: Callable[[Path], None],
    words: str,
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    fill(folder)
    assert words in refused("finetune", "data", "-o", "a.safetensors", code=1)


def test_a_folder_that_is_not_there_is_refused(refused: Callable[..., str]) -> None:
    said = refused("finetune", "nowhere", "-o", "a.safetensors", code=1)
    assert "nowhere is not a folder" in said
    said = refused(
        *("finetune", "cells", "-o", "a.safetensors", "--held-out", "nowhere"), code=1
    )
    assert "nowhere is not a folder" in said


def test_an_unknown_model_is_refused(refused: Callable[..., str]) -> None:
    command = ("finetune", "cells", "-o", "a.safetensors", "--model")
    assert "huge-sam" in refused(*command, "huge-sam", code=1)
    assert "disc0.png is a file of" in refused(*command, "cells/disc0.png", code=1)


def test_an_unknown_device_is_refused(refused: Callable[..., str], start: Path) -> None:
    command = ("finetune", "cells", "-o", "a.safetensors", "--model", start)
    assert "'tpu' is not available" in refused(*command, "--device", "tpu", code=1)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["python", "gpu", "cpu"],
)
def test_out_of_memory_is_a_sentence(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def run_out(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(finetune, "finetune", run_out)
    said = refused("finetune", "cells", "-o", "a.safetensors", code=1)
    assert "not enough memory" in said


def test_a_full_disk_is_a_sentence(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise TinySAMError("A file could not be written (No space left on device).")

    monkeypatch.setattr(finetune, "finetune", full)
    said = refused("finetune", "cells", "-o", "a.safetensors", code=1)
    assert "No space left on device" in said


# --------------------------------------------------------------- train and distill


def recipe_file(start: Path, **changes: Any) -> dict[str, Any]:
    """A small recipe, written to recipe.yaml."""
    recipe = {
        "data": [{"path": "cells", "split": ""}],
        "validation": [{"path": "judged", "split": ""}],
        "model": {"start": str(start), "batch_norm": "frozen"},
        "stages": [{"windows": [[64, 1, 1.0]], "objects": 2, "rounds": 0}],
        "steps": 2,
        **changes,
    }
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
    return recipe


def test_the_length_of_a_run_can_be_said(run: Callable[..., Run], start: Path) -> None:
    recipe_file(start, steps=0, minutes=100)
    command = ("train", "recipe.yaml", "--data", ".", "-o", "out", "--device", "cpu")
    done = run(*command, "--steps", "3")
    assert done.code == 0, done.err
    assert "out: 3 steps" in done.out
    assert "3 steps are too few to learn anything; 10 minutes on this" in done.out
    recipe = yaml.safe_load(Path("out/recipe.yaml").read_text())
    assert (recipe["steps"], recipe["minutes"]) == (3, 0)


def test_train_stops_and_goes_on(run: Callable[..., Run], start: Path) -> None:
    recipe_file(start)
    command = ("train", "recipe.yaml", "--data", ".", "-o", "out", "--device", "cpu")
    done = run(*command, "--max-minutes", "0.00001")
    assert done.code == 0, done.err
    assert "out: 1 steps" in done.out
    assert "--resume continues it" in done.out
    assert "too few" not in done.out  # it is not the end
    assert "Training: 4 images" in done.err

    again = run(*command)
    assert again.code == 1
    assert "--resume" in again.err.splitlines()[-1]

    rest = run(*command, "--resume")
    assert rest.code == 0, rest.err
    assert "out: 2 steps" in rest.out
    assert "Best at step" in rest.out
    assert "Going on after step 1." in rest.err
    assert Path("out/last.safetensors").exists()


def test_train_says_how_to_go_on_after_ctrl_c(
    run: Callable[..., Run], start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe_file(start)

    def interrupted(*_: Any, on_step: Any, **__: Any) -> None:
        class Training:
            progress, steps, best = 0.5, 1, {"score": 0.5}

        on_step(Training(), {"loss": 1.0})
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run_recipe", interrupted)
    done = run("train", "recipe.yaml", "--data", ".", "-o", "out")
    assert done.code == 130
    assert "--resume continues the run in out." in done.err


def test_distill_learns_from_the_teacher_of_the_recipe(
    run: Callable[..., Run], start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Teacher, "embed", lambda self, images, batch=1: torch.zeros(1, 256, 64, 64)
    )
    recipe_file(
        write_start(Path("student.safetensors"), architecture="efficientnet_lite0"),
        teacher={"model": str(start), "flips": False},
        losses={"embedding": 1.0, "token": 1.0},
        steps=1,
    )
    done = run("distill", "recipe.yaml", "--data", ".", "-o", "out", "--device", "cpu")
    assert done.code == 0, done.err
    assert "The teacher start.safetensors embeds" in done.err
    assert Path("out/best.safetensors").exists()


@pytest.mark.parametrize("command", ["train", "distill"])
def test_broken_recipes_are_refused(refused: Callable[..., str], command: str) -> None:
    arguments = (command, "recipe.yaml", "--data", ".", "-o", "out")
    assert "cannot be read" in refused(*arguments, code=1)
    for text, words in (
        ("data: [", "is not a YAML file"),
        ("hello", "holds no recipe"),
        ("steps: 1\nlearning_rate: 0.1", "learning_rate is not known"),
        ("steps: many", "steps"),
        ("name: no end", "neither how many steps"),
    ):
        Path("recipe.yaml").write_text(text)
        assert words in refused(*arguments, code=1)


def test_what_a_recipe_names_must_be_there(
    refused: Callable[..., str], start: Path
) -> None:
    train = ("train", "recipe.yaml", "-o", "out", "--data")
    recipe_file(start)
    assert "cells is not a folder" in refused(*train, "nowhere", code=1)
    recipe_file(start, data=[])
    assert "names no data" in refused(*train, ".", code=1)
    recipe_file(start, validation=[{"path": "cells", "split": ""}])
    said = refused(*train, ".", code=1)
    assert said.startswith("Error: All validation images are also training images")
    assert "median diameter" not in said  # the report has lines of its own
    recipe_file(start, model={"start": "huge-sam"})
    assert "huge-sam" in refused(*train, ".", code=1)
    recipe_file(start)
    distill = ("distill", "recipe.yaml", "-o", "out", "--data", ".")
    assert "names no teacher" in refused(*distill, code=1)
    recipe_file(start, teacher={"model": "nobody"})
    assert "The teacher cannot be loaded" in refused(*distill, code=1)


def test_train_refuses_what_makes_no_sense(
    refused: Callable[..., str], start: Path
) -> None:
    recipe_file(start)
    command = ("train", "recipe.yaml", "--data", ".", "-o", "out")
    assert "--max-minutes" in refused(*command, "--max-minutes", "0", code=2)
    assert "--steps" in refused(*command, "--steps", "0", code=2)
    assert "--precision" in refused(*command, "--precision", "8-bit", code=2)
    assert "--devices" in refused(*command, "--devices", "0", code=2)
    assert "'tpu' is not available" in refused(*command, "--device", "tpu", code=1)
    Path("out").write_text("a file")
    assert "cannot be written to" in refused(*command, code=1)


def test_two_processes_tell_the_user_once(
    run: Callable[..., Run], start: Path, tmp_path: Path
) -> None:
    recipe_file(start, steps=1, validation=[])
    del run  # only its folder is needed: processes of their own know nothing of patches
    command = ["train", "recipe.yaml", "--data", ".", "-o", "out", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "napari_tinysam", *command, "--devices", "2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("out: 1 steps") == 1
    assert done.stderr.count("Training: 4 images") == 1
    rows = (tmp_path / "out" / "log.csv").read_text().splitlines()
    assert len(rows) == 2  # one process logs


def test_fine_tuning_that_was_cut_goes_on(
    run: Callable[..., Run], start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tinysam_training.run.loop import Training

    stopped = Training.run

    def cut(self: Training, **options: Any) -> Any:
        stopped(self, **{**options, "stop": lambda: self.steps >= 1})
        raise KeyboardInterrupt

    ask = ("finetune", "cells", "-o", "mine.safetensors", "--model", start)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "run", cut)
        assert run(*ask).code == 130
    assert Path("mine-finetune/checkpoint.pt").exists()

    found = run(*ask, "--resume")
    assert found.code == 0, found.err
    assert "goes on after step 1" in found.err
