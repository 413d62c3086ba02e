"""An adaptation from images to the user's own model, and all ways in which it can end."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_tinysam import checkpoints
from napari_tinysam.checkpoints.own import own_models
from napari_tinysam.errors import TinySAMError
from tinysam_training.commands import adapt as module
from tinysam_training.commands import finetune as finetuning
from tinysam_training.commands.adapt import adapt, float_origin
from tinysam_training.commands.adaptation import Adaptation, Order, begin
from tinysam_training.commands.samples import Sample
from tinysam_training.evaluation.before_after import ROWS, judged_settings
from tinysam_training.evaluation.evaluate import Evaluation, ImageResult
from training.small_runs import FallingJudge, RisingJudge, discs, shortened, write_start

MakeAdaptation = Callable[..., Adaptation]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_start(tmp_path_factory.mktemp("start") / "start.safetensors")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Three small steps; models are judged by what the test says about the last one."""
    gains = {"after": 0.2}

    def judge(run: Any, model: str, entries: Any) -> Evaluation:
        better = gains["after"] if model == str(run.adaptation.model) else 0.0
        nothing = np.zeros(0)
        results = [
            ImageResult(
                entry.name,
                "set",
                1,
                dict.fromkeys(ROWS, 0.5 + better),
                nothing,
                nothing,
                None,
            )
            for entry in entries
        ]
        return Evaluation("m", "torch", judged_settings(), tuple(results))

    monkeypatch.setattr(module._Run, "judge", judge)
    monkeypatch.setattr(module._Run, "calibrate", lambda *_: None)
    monkeypatch.setattr(module.before_after, "draw_comparison", lambda *_: b"\x89PNG")
    monkeypatch.setattr(finetuning.RunFolder, "draw_curves", lambda _: None)
    monkeypatch.setattr(finetuning, "Judge", RisingJudge)
    small = shortened(finetuning.finetune_recipe, 3)
    monkeypatch.setattr(finetuning, "finetune_recipe", small)
    return gains


@pytest.fixture
def make(tmp_path: Path, start: Path) -> MakeAdaptation:
    def made(images: int = 2, first: int = 0, **changes: Any) -> Adaptation:
        found = discs(images, 128)
        samples = [
            Sample(image.name, image.rgb, image.labels[0])
            for image in (*found[first:], *found[:first])
        ]
        model = tmp_path / "models" / "lab.safetensors"
        known = {"name": "My lab", "model": str(model), "start": str(start)}
        return begin(
            Order(**(known | {"device": "cpu"} | changes)),
            samples,
            tmp_path / "adaptations",
        )

    return made


def said(adaptation: Adaptation) -> list[str]:
    return [event["event"] for event in adaptation.events()[0]]


def models(tmp_path: Path) -> list[str]:
    return [model.text for model in own_models(tmp_path / "models")]


def test_a_better_model_becomes_one_of_the_users_own(
    make: MakeAdaptation, small: Any, tmp_path: Path
) -> None:
    adaptation = make()
    adapt(adaptation)
    end = adaptation.end
    assert end is not None
    assert end["verdict"] == "better"
    assert end["figures"]["one click"] == [0.5, 0.7]
    assert "one click 0.50 → 0.70" in end["text"]
    assert "chose the best moment" in end["caveat"]
    (model,) = own_models(tmp_path / "models")
    assert str(model.path) == end["model"]
    assert model.title == "My lab"
    assert model.images == 2
    assert model.objects > 20
    assert checkpoints.load(model.path).model.object_head is not None
    events = said(adaptation)
    assert events[0] == "began"
    assert "step" in events
    assert events.count("judged") >= 2
    with np.load(adaptation.comparison / "0.npz") as shown:
        assert shown["image"].shape[:2] == shown["before"].shape == shown["after"].shape
    assert "My" not in (adaptation.comparison / "before_after.md").read_text()


def test_worse_on_held_out_images_is_said_and_nothing_is_installed(
    make: MakeAdaptation, small: dict[str, float], tmp_path: Path
) -> None:
    small["after"] = -0.1
    adaptation = make()
    adapt(adaptation)
    assert adaptation.end is not None
    assert adaptation.end["verdict"] == "worse"
    assert "worse than before" in adaptation.end["text"]
    assert adaptation.end["model"] == ""
    assert models(tmp_path) == []


def test_nothing_better_is_no_failure(
    make: MakeAdaptation, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "Judge", FallingJudge)
    adaptation = make()
    adapt(adaptation)
    assert adaptation.end is not None
    assert adaptation.end["verdict"] == "none"
    assert "it stays" in adaptation.end["text"]
    assert models(tmp_path) == []


def test_one_image_is_enough(make: MakeAdaptation, small: Any) -> None:
    adaptation = make(images=1)
    adapt(adaptation)
    assert adaptation.end is not None
    assert adaptation.end["verdict"] == "better"
    assert "a part of an image that the model learnt from" in adaptation.end["caveat"]


def test_the_next_round_is_compared_on_images_that_its_start_has_not_learnt_from(
    make: MakeAdaptation, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[Any] = []
    read = module._Run.read

    def noted(run: Any) -> Any:
        report, split = read(run)
        rounds.append(split)
        return report, split

    monkeypatch.setattr(module._Run, "read", noted)
    first = make(images=4)
    adapt(first)
    assert first.end is not None
    # Begins with what came out; the list has two more images, before the others.
    for seed in range(3):
        adapt(make(images=6, first=-2, start=first.end["model"], seed=seed))
        learnt = {entry.pixels for entry in rounds[0].train}
        assert len(learnt) == 3
        held = rounds[-1].reported
        assert held
        assert not learnt & {entry.pixels for entry in held}
        assert "had learnt" not in rounds[-1].caveat


def test_stopping_early_keeps_the_best(
    make: MakeAdaptation, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        finetuning,
        "finetune_recipe",
        shortened(finetuning.finetune_recipe, 10_000),
    )
    adaptation = make()
    step = module._Run.step

    def asks(run: Any, training: Any, figures: Any) -> None:
        step(run, training, figures)
        if training.steps == 2:
            adaptation.ask("stop")

    monkeypatch.setattr(module._Run, "step", asks)
    adapt(adaptation)
    assert adaptation.end is not None
    assert adaptation.end["verdict"] == "better"
    assert models(tmp_path)


def test_a_program_in_the_background_of_a_shell_can_be_cancelled_too(
    make: MakeAdaptation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK", 0.01)
    adaptation = make()

    def waits(run: Any) -> None:
        adaptation.ask("cancel")
        for _ in range(6000):
            module.time.sleep(0.01)

    monkeypatch.setattr(module._Run, "whole", waits)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt):
            adapt(adaptation)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert adaptation.end is not None
    assert adaptation.end["event"] == "cancelled"


@pytest.mark.parametrize("request_", ["pause", "cancel"])
def test_a_pause_goes_on_from_its_checkpoint_and_a_cancelled_run_has_ended(
    make: MakeAdaptation,
    small: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request_: Any,
) -> None:
    monkeypatch.setattr(module, "_LOOK", 0.01)
    adaptation = make()
    first = module._Run.step

    def waits(run: Any, training: Any, figures: Any) -> None:
        first(run, training, figures)
        if training.steps == 2:
            adaptation.ask(request_)
            for _ in range(6000):
                module.time.sleep(0.01)

    monkeypatch.setattr(module._Run, "step", waits)
    with pytest.raises(KeyboardInterrupt):
        adapt(adaptation)
    assert not adaptation.running
    assert (adaptation.end is not None) == (request_ == "cancel")
    assert models(tmp_path) == []
    if request_ == "cancel":
        return
    steps: list[int] = []

    def notes(run: Any, training: Any, figures: Any) -> None:
        steps.append(training.steps)

    monkeypatch.setattr(module._Run, "step", notes)
    adapt(adaptation)
    assert steps == [3]
    assert adaptation.end is not None
    assert adaptation.end["verdict"] == "better"


def test_a_full_disk_is_a_sentence_and_may_be_resumed(
    make: MakeAdaptation, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adaptation = make()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(module._Run, "install", full)
        with pytest.raises(TinySAMError, match="No space left on device"):
            adapt(adaptation)
    assert said(adaptation)[-1] == "stopped"
    assert adaptation.end is None
    assert models(tmp_path) == []


def test_no_memory_is_a_sentence_and_may_be_resumed(
    make: MakeAdaptation, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    adaptation = make()

    def full(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(module._Run, "step", full)
    with pytest.raises(TinySAMError, match="Memory ran out at step 1"):
        adapt(adaptation)
    assert adaptation.end is None


def test_a_start_that_is_gone_ends_it(make: MakeAdaptation, tmp_path: Path) -> None:
    adaptation = make(start=str(tmp_path / "gone.safetensors"))
    with pytest.raises(TinySAMError, match="gone"):
        adapt(adaptation)
    assert adaptation.end is not None
    assert adaptation.end["event"] == "failed"


def test_quantized_models_are_adapted_from_their_floats(start: Path) -> None:
    assert float_origin("default-int8") == "default"
    assert float_origin("default") == "default"
    assert float_origin(str(start)) == str(start)


def test_a_quantized_start_gives_a_quantized_model_and_keeps_its_floats(
    make: MakeAdaptation,
    small: Any,
    start: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounded: list[Any] = []

    def quantize(model: Any, entries: Any) -> Any:
        rounded.append(len(entries))
        return SimpleNamespace(model=model)

    monkeypatch.setattr(module, "float_origin", lambda _: str(start))
    monkeypatch.setattr("tinysam_training.quantize.run.quantize", quantize)
    adapt(make(start="default-int8"))
    assert rounded == [1]
    (model,) = own_models(tmp_path / "models")
    monkeypatch.undo()
    floats = tmp_path / "models" / "lab-floats.safetensors"
    assert checkpoints.load(floats).model.object_head is not None
    notes = checkpoints.read_notes(model.path)
    name, _, fingerprint = notes["quantized_from"].rpartition(" ")
    assert name
    assert checkpoints.locate(floats).fingerprint == fingerprint
