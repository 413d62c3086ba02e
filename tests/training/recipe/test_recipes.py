"""Recipes: files in, values checked, files out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from tinysam_training.data.sampling import BatchRequest, Sources
from tinysam_training.data.window_batches import WindowBatches
from tinysam_training.learning.objective import Objective, parameter_groups
from tinysam_training.recipe import (
    Augmentation,
    DataSource,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    PromptSettings,
    Recipe,
    Stage,
    TeacherSettings,
    ValidationSettings,
    find_recipe,
    load_recipe,
    recipe_as_yaml,
    recipe_from,
)
from tinysam_training.run import starting
from tinysam_training.run.starting import new_model, starting_model
from training.small_runs import discs

TRAINING = Path(__file__).parents[3] / "training"
SHIPPED = sorted(TRAINING.glob("*/recipes/*.yaml"))

#: Every part differs from its default.
FULL = Recipe(
    name="étude",
    data=(
        DataSource(path="a", complete=False, share=0.5, limit=3, origin="a lab"),
        DataSource(kind="synthetic", kinds=("one", "two"), size=(64, 96), seed=4),
        DataSource(kind="coco", path="a.json", images="images"),
    ),
    validation=(DataSource(split="val"),),
    model=ModelSettings("default", trained="lora", lora_rank=4, batch_norm="frozen"),
    teacher=TeacherSettings("vit_h", flips=False),
    losses=LossSettings(embedding=1.0, token=0.5, hard_mask_weights=False),
    prompts=PromptSettings(
        point=1, box=0, box_with_point=0, mode="replace", mask_prompt=0
    ),
    augmentation=Augmentation.none(),
    optimizer=OptimizerSettings(betas=(0.8, 0.9), accumulate=2),
    stages=(Stage(), Stage(2.0, ((64, 2, 1.0), (1024, 1, 0.5)), 3, 9)),
    judging=ValidationSettings(0.5, 1, 2),
    steps=5,
    minutes=0.5,
    seed=7,
)


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("recipe", [FULL, Recipe(steps=1)], ids=["full", "defaults"])
def test_a_recipe_comes_back_from_its_file(tmp_path: Path, recipe: Recipe) -> None:
    assert load_recipe(written(tmp_path, recipe_as_yaml(recipe))) == recipe


def test_a_file_names_what_differs(tmp_path: Path) -> None:
    text = "minutes: 3\noptimizer:\n  learning_rate: 1e-4\nstages:\n- rounds: 4\n"
    recipe = load_recipe(written(tmp_path, text))
    assert recipe.name == "mine"
    assert recipe.optimizer == OptimizerSettings(learning_rate=1e-4)
    assert recipe.stages == (Stage(rounds=4),)
    assert recipe == replace(
        Recipe(minutes=3),
        name="mine",
        optimizer=recipe.optimizer,
        stages=recipe.stages,
    )


def test_changes_replace_what_is_in_the_file(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, "minutes: 3\nseed: 1\n"), minutes=30)
    assert (recipe.minutes, recipe.seed) == (30, 1)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_load(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.data
    assert recipe_from(yaml.safe_load(recipe_as_yaml(recipe))) == recipe
    assert bool(recipe.teacher.model) == bool(recipe.losses.embedding)


@pytest.mark.parametrize("name", ["default", "scratch", "distill"])
def test_recipes_of_the_package_have_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe(name) in SHIPPED
    assert load_recipe(Path(name), steps=7).name == name
    assert find_recipe(f"{name}.yaml") == Path(f"{name}.yaml")


def test_a_name_that_no_recipe_has_is_refused_with_those_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="one of default, distill, scratch"):
        load_recipe("mine")
    Path("mine").write_text("steps: 3")
    assert load_recipe("mine").steps == 3


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_give_a_model_and_batches(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for what must be downloaded or installed, in whose place are random weights."""
    recipe = load_recipe(path)
    settings, begun = recipe.model, []
    published = SimpleNamespace(model=new_model("tiny_vit"))
    monkeypatch.setattr(checkpoints, "load", lambda name: published)
    monkeypatch.setattr(starting, "begin_with_imagenet", begun.append)
    # `papers.widening` makes one. Only trials begin with what is bundled: it changes.
    starts = {"random", "tinysam", "wide.safetensors"}
    assert settings.start in starts | ({"default"} if "papers" in path.parts else set())
    model = starting_model(
        settings.start,
        architecture=settings.architecture,
        decoder=settings.decoder,
        object_head=settings.object_head,
        details=settings.details,
        dense_prompts=settings.dense_prompts,
        imagenet=settings.imagenet,
    )
    random = "efficientnet_lite0" if settings.start == "random" else "tiny_vit"
    assert model.architecture == (settings.architecture or random)
    assert len(begun) == settings.imagenet
    assert len(parameter_groups(Objective(model, recipe))) >= 2
    batches = WindowBatches(
        Sources.by_share(discs(2), [1, 2]), recipe, map_stride=model.map_stride
    )
    for number, stage in enumerate(recipe.stages):
        batch = batches[BatchRequest(0, number)]
        assert batch.prompted == (stage.objects > 0)
        assert len(batch.windows) in [count for _, count, _ in stage.windows]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"learning_rate": 1}, "learning_rate is not known"),
        ({"optimizer": {"lr": 1}}, "optimizer.lr is not known; there are learning"),
        ({"data": [{}, {"folder": "a"}]}, r"data\[1\].folder is not known"),
        ({"stages": [{"window": []}]}, r"stages\[0\].window is not known"),
        ({"augmentation": {"flip": 1}}, "augmentation.flip is not known"),
        ({"prompts": {"points": 1}}, "prompts.points is not known"),
        ({3: 4}, "3 is not known"),
    ],
)
def test_keys_that_do_not_exist_are_refused(
    content: dict[str, object], place: str
) -> None:
    with pytest.raises(DataError, match=place):
        recipe_from({"steps": 1, **content})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"steps": "many"}, "steps: .*integer"),
        ({"steps": -1}, "steps: .*greater than or equal to 0"),
        ({"minutes": float("inf")}, "minutes: .*finite"),
        ({"data": "folder"}, "data: "),
        ({"data": [{"kind": "zip"}]}, r"data\[0\]\.kind: .*'folder'"),
        ({"data": [{"share": 0}]}, r"data\[0\]\.share: .*greater than 0"),
        ({"data": [{"size": [64]}]}, r"data\[0\]\.size"),
        ({"model": {"trained": "half"}}, r"model\.trained"),
        ({"model": {"lora_rank": 0}}, r"model\.lora_rank"),
        ({"model": None}, "model"),
        ({"losses": {"focal": -1}}, r"losses\.focal"),
        ({"losses": {"others": 1.5}}, r"losses\.others"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, r"optimizer\.betas\[1\]"),
        ({"optimizer": {"accumulate": 0}}, r"optimizer\.accumulate"),
        ({"optimizer": {"learning_rate": float("nan")}}, "learning_rate"),
        (
            {"prompts": {"negatives": 2}},
            r"prompts\.negatives: .*less than or equal to 1",
        ),
        ({"augmentation": {"blur_probability": 2}}, "blur_probability"),
        ({"stages": [{"share": 0}]}, r"stages\[0\]\.share"),
        ({"stages": []}, "has no stages"),
        ({"stages": [{"windows": [[100, 1, 1]]}]}, "multiples of 32"),
        ({"stages": [{"windows": [[1056, 1, 1]]}]}, "up to 1024"),
        ({"stages": [{"windows": [[64, 0, 1]]}]}, "counts and weights positive"),
        ({"stages": [{"windows": []}]}, "no windows"),
        (
            {"stages": [{"objects": 0}], "losses": {"object_head": 0}},
            "prompts no objects",
        ),
        ({"stages": [{"zoom": [1.0, 0.5]}]}, "the smaller one first"),
        ({"stages": [{"zoom": [0, 0.5]}]}, r"stages\[0\]\.zoom"),
        (
            {"stages": [{"zoom": [0.5, 1]}], "teacher": {"model": "default"}},
            "stage with a teacher has no zoom",
        ),
        ({"steps": 0}, "neither how many steps nor how many minutes"),
        ({"losses": {"token": 1}}, "losses against a teacher, but names none"),
        (
            {"losses": {"focal": 0, "dice": 0, "iou": 0, "object_head": 0}},
            "no losses to learn from",
        ),
        (
            {
                "losses": {"focal": 0, "dice": 0, "iou": 0},
                "model": {"object_head": False},
            },
            "no losses to learn from",
        ),
    ],
)
def test_values_that_cannot_be_are_refused_with_their_place(
    content: dict[str, object], words: str
) -> None:
    with pytest.raises(DataError, match=words) as error:
        recipe_from({"steps": 1, **content}, "mine.yaml")
    assert "\n" not in str(error.value)


def test_each_problem_is_a_sentence() -> None:
    with pytest.raises(DataError) as error:
        recipe_from({"step": 1, "losses": {"dice": -1, "iou": "?"}}, "mine.yaml")
    said = str(error.value)
    assert said.startswith("mine.yaml: losses.dice: Input should be")
    assert " losses.iou: Input should be a valid number" in said
    assert " step is not known; there are name, data" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: [", "is not a YAML file"),
        ("a: b: c", "is not a YAML file"),
        (b"\xff\xfe\x00", "is not a YAML file"),
        ("!!python/object/apply:os.getcwd []", "is not a YAML file"),
        ("just words", "holds no recipe"),
        ("- a\n- list", "holds no recipe"),
        ("", "holds no recipe"),
    ],
)
def test_files_that_are_no_recipes_are_refused(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(DataError, match=rf"mine\.yaml {words}"):
        load_recipe(path)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(DataError, match="cannot be read"):
        load_recipe(tmp_path)
