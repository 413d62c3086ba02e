"""`script/train-on-gpu`: what is packed, what comes back, and a rehearsal of all of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from default_model.on_gpu.__main__ import main
from default_model.on_gpu.collecting import _name_sources
from default_model.on_gpu.delivery import PART, PARTS, deliver, put_together
from default_model.on_gpu.packed_sets import PackedImage
from default_model.on_gpu.packing import (
    PackOrder,
    _leave_out,
    _Set,
    gpu_recipe,
    prepare,
)
from napari_tinysam.errors import TinySAMError
from tinysam_training.data.packed import find_packed
from tinysam_training.recipe import DataSource, load_recipe, recipe_from
from training.small_runs import write_pairs, write_start

RECIPE = """\
name: tiny
data: [{path: discs}]
model: {architecture: tiny_vit_2m, start: random}
steps: 10
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def test_the_rehearsal_trains_without_what_is_missing_there(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["prepare", "--rehearse", "--recipe", str(recipe)])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "2 steps in" in said.err
    for part in ("bundled", "new", "script/train-default land", 'run.py "$OUT"'):
        assert part in said.out
    command = said.out.splitlines()[-1].partition(": ")[2]
    assert command == 'PYTHONUNBUFFERED=1 python3 .gpu/run.py "$OUT"'


def test_a_gpu_gets_larger_batches_in_the_same_stages() -> None:
    content: dict[str, Any] = {
        "stages": [
            {"windows": [[256, 16, 0.8], [512, 3, 0.2]], "objects": 0, "share": 0.1},
            {"windows": [[256, 12, 1.0]], "objects": 4, "share": 0.9},
        ],
        "steps": 9,
    }
    recipe = recipe_from(gpu_recipe(content, 8.5, started=False))
    assert [stage.share for stage in recipe.stages] == [0.1, 0.9]
    for stage in recipe.stages:
        pixels = {side * side * count for side, count, _ in stage.windows}
        assert pixels == {96 * 256**2}
    assert [stage.objects for stage in recipe.stages] == [0, 6]
    assert (recipe.steps, recipe.minutes) == (0, 8.5)
    slower = recipe_from(gpu_recipe(content, 8.5, started=True))
    assert slower.optimizer.learning_rate < recipe.optimizer.learning_rate


def packing(tmp_path: Path, **changes: Any) -> PackOrder:
    write_pairs(tmp_path / "data" / "discs" / "train", 4)
    start = write_start(tmp_path / "start.safetensors")
    content = {
        "data": [{"path": "discs"}],
        "model": {"architecture": "tiny_vit_2m"},
        "minutes": 1,
    }
    values: dict[str, Any] = {
        "recipe": content,
        "data": tmp_path / "data",
        "folder": tmp_path / ".gpu",
        "start": str(start),
        "wheels": "none",
        **changes,
    }
    return PackOrder(**values)


def test_images_lose_a_little_and_some_are_left_out_where_there_is_no_room(
    tmp_path: Path,
) -> None:
    asked, said = packing(tmp_path), list[str]()
    prepare(asked, said.append)
    assert said[-1].endswith("images lossless")
    (whole,) = asked.folder.glob("sets/*.zip")
    assert len(find_packed(whole)) == 4
    size = sum(f.stat().st_size for f in asked.folder.rglob("*") if f.is_file())

    said.clear()
    prepare(packing(tmp_path, limit=size + 100_000), said.append)
    assert said[-1].endswith("of quality 92")
    assert 1 <= len(find_packed(whole)) <= 4
    assert sum(f.stat().st_size for f in asked.folder.rglob("*") if f.is_file()) <= (
        size + 100_000
    )


def test_sets_that_are_worth_little_lose_images_first() -> None:
    def images(count: int) -> list[PackedImage]:
        return [
            PackedImage(str(n), "set", True, True, (1, 1, 1), bytes(90), bytes(10))
            for n in range(count)
        ]

    dear = _Set(DataSource(path="dear", share=0.8), images(40))
    cheap = _Set(DataSource(path="cheap", share=0.1), images(40))
    _leave_out([dear, cheap], dear.size + cheap.size // 4, lambda line: None)
    assert len(dear.images) == 40
    assert len(cheap.images) in (9, 10)


def test_a_folder_that_is_no_pack_is_left_alone(
    tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    words = ["prepare", "--data", tmp_path, "--recipe", recipe, "-o", tmp_path / "mine"]
    assert main([str(word) for word in words]) == 1
    assert "is not a pack" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_bad_input_is_one_sentence(
    tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, text in (
        (["prepare", "--data", tmp_path / "none", "--recipe", recipe], "no data"),
        (["prepare", "--data", tmp_path, "--recipe", tmp_path / "no.yaml"], "read"),
        (["collect", tmp_path], "no weights that came back"),
    ):
        assert main([str(word) for word in words]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert text in said.err.splitlines()[-1]
        assert said.err.startswith("Error: ")
    with pytest.raises(SystemExit) as ended:
        main(["prepare"])
    assert ended.value.code == 2


def test_the_recipe_that_comes_back_names_the_sets_that_were_packed(
    tmp_path: Path,
) -> None:
    asked = packing(tmp_path)
    prepare(asked, lambda line: None)
    back = tmp_path / "recipe.yaml"
    shutil.copyfile(asked.folder / "recipe.yaml", back)
    assert load_recipe(back).data[0].kind == "packed"
    _name_sources(back, asked.folder / "manifest.json")
    (source,) = load_recipe(back).data
    assert (source.path, source.kind, source.split) == ("discs", "folder", "train")


def test_large_weights_come_in_parts(tmp_path: Path) -> None:
    weights, out = tmp_path / "w", tmp_path / "out"
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.csv").write_text("step\n1\n")
    weights.write_bytes(b"old")
    deliver(weights, run, out, step=1, what="average")
    content = bytes(range(256)) * (PART // 256) + b"end"
    weights.write_bytes(content)
    deliver(weights, run, out, step=2, what="best")
    names = sorted(path.name for path in out.iterdir())
    assert names == ["log.csv", PARTS, "weights-2-best.0", "weights-2-best.1"]
    assert all(path.stat().st_size < 16 * 2**20 for path in out.iterdir())

    found = put_together(out, tmp_path / "back")
    assert (found["step"], found["what"]) == (2, "best")
    assert (tmp_path / "back" / "best.safetensors").read_bytes() == content
    assert (tmp_path / "back" / "log.csv").exists()

    damaged = out / "weights-2-best.1"
    damaged.write_bytes(b"End")
    with pytest.raises(TinySAMError, match="damaged"):
        put_together(out, tmp_path / "again")
    damaged.unlink()
    with pytest.raises(TinySAMError, match="no weights"):
        put_together(out, tmp_path / "again")
    assert not (tmp_path / "again").exists()
