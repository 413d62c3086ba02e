"""Fine-tuning: three ways, one whole file, and what happens when something goes wrong."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from napari_tinysam import checkpoints
from napari_tinysam.errors import CheckpointError, DataError, TinySAMError
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.inference.runtime.torch_runtime import TorchRuntime
from napari_tinysam.model import ImageFeatures, SegmentAnything, to_official
from tinysam_training.commands import finetune as module
from tinysam_training.commands.finetune import (
    FinetuneSettings,
    FrameCache,
    Way,
    finetune,
    finetune_recipe,
    run_folder_of,
)
from tinysam_training.data import ImageEntry, ImageStore, find_pairs
from tinysam_training.data.frame_batches import EmbeddedFrame
from tinysam_training.data.turns import TURNS, turned
from tinysam_training.run.starting import new_model
from training.small_runs import (
    FallingJudge,
    RisingJudge,
    discs,
    settle,
    shortened,
    write_pairs,
    write_start,
)

WAYS: tuple[Way, ...] = ("frozen", "lora", "whole")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_start(tmp_path_factory.mktemp("start") / "start.safetensors")


@pytest.fixture(scope="module")
def efficient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A start of the bundled model's architecture."""
    path = tmp_path_factory.mktemp("efficient") / "start.safetensors"
    return write_start(path, architecture="efficientnet_lite0")


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[ImageEntry]:
    return list(find_pairs(write_pairs(tmp_path_factory.mktemp("pairs"), 3)))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of 64 pixels, judged by a rising number; no frame is ever embedded."""
    monkeypatch.setattr(module, "Judge", RisingJudge)
    monkeypatch.setattr(module, "finetune_recipe", shortened(finetune_recipe))
    monkeypatch.setattr(
        SegmentAnything, "encode", lambda self, image: torch.randn(1, 256, 64, 64)
    )


def entry(name: str) -> ImageEntry:
    return ImageEntry(name, "set", True, lambda: discs(1)[0], name)


# ----------------------------------------------------------------- the three ways


def parts_that_changed(one: SegmentAnything, two: SegmentAnything) -> set[str]:
    first, second = one.state_dict(), two.state_dict()
    assert first.keys() == second.keys()
    changed = [n for n in first if not torch.equal(first[n], second[n])]
    return {name.partition(".")[0] for name in changed}


@pytest.mark.parametrize(
    ("way", "kind"), [*((way, "start") for way in WAYS), ("whole", "efficient")]
)
def test_what_comes_out_is_a_whole_model_with_notes(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    entries: list[ImageEntry],
    way: Way,
    kind: str,
    small: None,
) -> None:
    start: Path = request.getfixturevalue(kind)
    output = tmp_path / "lab.safetensors"
    settings = FinetuneSettings(str(start), way, minutes=0.01, device="cpu")
    said: list[str] = []
    result = finetune(
        entries[:2],
        entries[2:],
        output,
        settings,
        fingerprint="abc",
        metadata={"more": "notes"},
        on_message=said.append,
    )
    assert result.better
    assert result.outcome.steps == 2
    assert result.outcome.best["step"] == 2
    assert said

    # The start is as it was, and only what this way trains has changed.
    official = checkpoints.load(start).model
    assert not parts_that_changed(official, result.before)
    changed = parts_that_changed(result.before, result.after)
    decoding = {"prompt_encoder", "mask_decoder", "object_head"}
    assert changed == decoding | (set() if way == "frozen" else {"image_encoder"})

    loaded = checkpoints.load(output).model
    assert not parts_that_changed(loaded, result.after)

    # Official code, which knows no object head, gets exactly what it wants.
    if kind == "start":
        weights = safetensors.torch.load_file(output)
        bare = {n: t for n, t in weights.items() if not n.startswith("object_head.")}
        wanted = to_official(SegmentAnything("tiny_vit_2m").state_dict())
        assert {n: t.shape for n, t in bare.items()} == {
            n: t.shape for n, t in wanted.items()
        }

    with safetensors.safe_open(output, "pt") as file:
        notes = file.metadata()
    assert notes["way"] == way
    assert notes["images"] == "2"
    assert notes["data"] == "abc"
    assert notes["more"] == "notes"
    assert notes["step"] == "2.0000"
    assert notes["start"] == str(start)

    folder = run_folder_of(output)
    assert {p.name for p in tmp_path.iterdir()} == {output.name, folder.name}
    assert (folder / "curves.png").exists()
    assert len((folder / "log.csv").read_text().splitlines()) == 3


def test_batch_norms_keep_their_statistics(
    tmp_path: Path, start: Path, entries: list[ImageEntry], small: None
) -> None:
    settings = FinetuneSettings(model=str(start), way="whole", device="cpu")
    result = finetune(entries, entries, tmp_path / "m.safetensors", settings)
    one, two = result.before.state_dict(), result.after.state_dict()
    statistics = [n for n in one if n.endswith(("running_mean", "running_var"))]
    assert statistics
    assert all(torch.equal(one[n], two[n]) for n in statistics)


def test_no_better_model_writes_nothing(
    tmp_path: Path,
    start: Path,
    entries: list[ImageEntry],
    small: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "Judge", FallingJudge)
    output = tmp_path / "lab.safetensors"
    output.write_bytes(b"an older model")
    settings = FinetuneSettings(model=str(start), device="cpu")
    result = finetune(entries, entries, output, settings)
    assert not result.better
    assert result.after is result.before
    assert output.read_bytes() == b"an older model"


def test_the_training_gets_the_time_that_is_left(
    tmp_path: Path,
    start: Path,
    entries: list[ImageEntry],
    small: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []

    def recipe(settings: FinetuneSettings, minutes: float, images: int) -> Any:
        asked.append(minutes)
        return shortened(finetune_recipe, 1)(settings, minutes, images)

    monkeypatch.setattr(module, "finetune_recipe", recipe)
    seconds = count(step=60.0)
    settings = FinetuneSettings(model=str(start), minutes=10.0, device="cpu")
    output = tmp_path / "lab.safetensors"
    finetune(
        entries,
        entries,
        output,
        settings,
        reserve=2.0,
        clock=lambda: next(seconds),
    )
    assert asked[-1] == pytest.approx(10 - 2 - 1)


@pytest.mark.parametrize("way", WAYS)
def test_even_no_time_at_all_is_a_recipe(way: Way) -> None:
    recipe = finetune_recipe(FinetuneSettings(way=way), -3.0)
    assert recipe.minutes > 0
    assert recipe.model.batch_norm == "frozen"


def test_of_one_image_intensities_are_changed_more_than_of_several() -> None:
    one, two = (
        finetune_recipe(FinetuneSettings(), 1.0, images).augmentation
        for images in (1, 2)
    )
    assert one.colour_gain[0] < two.colour_gain[0]
    assert one.colour_gain[1] > two.colour_gain[1]
    assert one.gamma_probability > two.gamma_probability
    assert one.zoom == two.zoom


# --------------------------------------------------------------------- embeddings


class Averages(torch.nn.Module):
    """A cheap encoder whose embedding shows where everything is."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(image, 16).repeat(1, 86, 1, 1)[:, :256]


def test_a_cached_embedding_is_that_of_inference() -> None:
    model = SegmentAnything("tiny_vit_2m")
    model.image_encoder = Averages()
    cache = FrameCache(model)
    image = discs(1)[0]
    pixels = np.ascontiguousarray(image.rgb[:96])  # wider than high
    cut = type(image)(image.name, "set", pixels, image.labels[:, :96].copy())
    cache.add_held_out(0, cut)
    predictor = Predictor(
        TorchRuntime(model, torch.device("cpu")), name="m", model_id="m"
    )
    expected = predictor.encode(pixels).features.embedding
    found = cache.held_out(0).embedding.float()
    assert found.shape == (1, 256, 64, 64)
    assert torch.allclose(found, expected.reshape(found.shape), atol=2e-3)


def test_turns_are_embedded_while_time_lasts() -> None:
    model = SegmentAnything("tiny_vit_2m")
    model.image_encoder = Averages()
    image = discs(1)[0]
    images: Any = ImageStore([entry("0"), entry("1")])
    none = FrameCache(model, clock=count(step=1.0).__next__)
    assert none.fill(images, seconds=0.0) == ("identity",)

    # The second turn is expected to be done after 4 seconds, the third after 4.5.
    some = FrameCache(model, clock=count(step=1.0).__next__)
    turns = some.fill(images, seconds=4.2)
    assert turns == tuple(TURNS)[:2]
    for turn in turns:
        found = some.features(EmbeddedFrame(1, turn)).embedding
        other = FrameCache(model)
        other.add_held_out(0, turned(image, turn))
        assert torch.equal(found, other.held_out(0).embedding)


def test_memory_for_embeddings_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SegmentAnything("tiny_vit_2m")
    model.image_encoder = Averages()
    monkeypatch.setattr(module, "EMBEDDING_BYTES", 2 * 256 * 64 * 64 * 2)
    images: Any = ImageStore([entry("0")])
    assert FrameCache(model).fill(images, seconds=1e9) == tuple(TURNS)[:2]


def test_details_are_cached_where_the_head_sees_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    model = new_model("tiny_vit_2m").eval()
    settle(model)
    image = discs(1)[0]
    cache = FrameCache(model)
    # One turn: 256 channels of 64², 64 of 128² and 32 of 256², 8 MiB in all.
    monkeypatch.setattr(module, "EMBEDDING_BYTES", 8 << 20)
    assert cache.fill([image], seconds=1e9) == ("identity",)  # type: ignore[arg-type]
    found = cache.features(EmbeddedFrame(0, "identity"))
    assert [tuple(each.shape) for each in found.details] == [
        (1, 64, 128, 128),
        (1, 32, 256, 256),
    ]
    predictor = Predictor(
        TorchRuntime(model, torch.device("cpu")), name="m", model_id="m"
    )
    wanted = predictor.object_maps(predictor.encode(image.rgb))
    details = tuple(each.float() for each in found.details)
    with torch.no_grad():
        maps = model.object_maps(ImageFeatures(found.embedding.float(), details))
    np.testing.assert_allclose(maps[0].sigmoid().numpy(), wanted, atol=5e-3)


# ------------------------------------------------------------------- what goes wrong


def test_no_images_is_a_sentence(tmp_path: Path, start: Path) -> None:
    with pytest.raises(DataError, match="at least one annotated image"):
        finetune([], [], tmp_path / "m.safetensors")


def test_a_start_that_is_not_there_is_a_sentence(
    tmp_path: Path, entries: list[ImageEntry]
) -> None:
    settings = FinetuneSettings(model=str(tmp_path / "nowhere.pth"), device="cpu")
    with pytest.raises(CheckpointError, match="no file"):
        finetune(entries, entries, tmp_path / "m.safetensors", settings)
    assert not list(tmp_path.iterdir())


def test_out_of_memory_says_where_the_best_model_is(
    tmp_path: Path, start: Path, entries: list[ImageEntry], small: None
) -> None:
    def step(training: Any, figures: Any) -> None:
        if training.steps == 2:
            raise MemoryError

    output = tmp_path / "lab.safetensors"
    settings = FinetuneSettings(model=str(start), device="cpu")
    with pytest.raises(TinySAMError, match=r"Memory ran out.*step 1.*lab\.safe"):
        finetune(entries, entries, output, settings, on_step=step)
    assert notes_of(output)["step"] == "1.0000"


def test_a_full_disk_leaves_the_model_before(
    tmp_path: Path,
    start: Path,
    entries: list[ImageEntry],
    small: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_file = safetensors.torch.save_file
    calls = count(1)

    def full(weights: Any, path: str, notes: Any) -> None:
        save_file(weights, path, notes)
        if next(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    output = tmp_path / "lab.safetensors"
    settings = FinetuneSettings(model=str(start), device="cpu")
    with pytest.raises(
        TinySAMError, match=r"No space left.*best model .*\(step 1\) is in"
    ):
        finetune(entries, entries, output, settings)
    assert notes_of(output)["step"] == "1.0000"
    assert checkpoints.load(output).model.object_head is not None
    assert not list(tmp_path.glob(".tinysam-*"))


_KILLED = """
import os, signal, sys
from pathlib import Path
import safetensors.torch
from tinysam_training.commands import finetune as module
from tinysam_training.data import find_pairs
from training.small_runs import RisingJudge, shortened

save_file, calls = safetensors.torch.save_file, []

def killed(weights, path, notes):
    save_file(weights, path, notes)
    calls.append(path)
    if len(calls) == 2:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

safetensors.torch.save_file = killed
module.Judge = RisingJudge
module.finetune_recipe = shortened(module.finetune_recipe, 3)
start, pairs, output = sys.argv[1:]
entries = find_pairs(pairs)
module.finetune(
    entries, entries, Path(output),
    module.FinetuneSettings(model=start, way="whole", device="cpu"),
)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_process_leaves_a_whole_model(tmp_path: Path, start: Path) -> None:
    """Killed while the second model was half written: the first is there, whole."""
    pairs = write_pairs(tmp_path / "pairs", 1)
    output = tmp_path / "lab.safetensors"
    script = tmp_path / "killed.py"
    script.write_text(_KILLED)
    done = subprocess.run(
        [sys.executable, str(script), str(start), str(pairs), str(output)],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == -9, done.stderr[-3000:]
    assert notes_of(output)["step"] == "1.0000"
    assert checkpoints.load(output).model.object_head is not None


def notes_of(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, "pt") as file:
        return dict(file.metadata())
