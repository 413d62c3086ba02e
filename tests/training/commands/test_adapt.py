"""An adaptation from images to the user's own model, and all ways in which it can end."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_tinysam import checkpoints
from napari_tinysam.checkpoints.own import own_models
from napari_tinysam.errors import TinySAMError
from tinysam_training.commands import adapt as module
from tinysam_training.commands import finetune as finetuning
from tinysam_training.commands.adapt import adapt, float_origin
from tinysam_training.commands.adaptation import (
    Adaptation,
    Order,
    all_adaptations,
    begin,
)
from tinysam_training.commands.samples import Sample
from tinysam_training.evaluation.before_after import ROWS, judged_settings
from tinysam_training.evaluation.evaluate import Evaluation, ImageResult
from tinysam_training.quantize import products, run
from tinysam_training.quantize.search import ScaleSearch
from tinysam_training.run.seen import SEEN
from training.small_runs import FallingJudge, RisingJudge, discs, shortened, write_start

MakeAdaptation = Callable[..., Adaptation]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_start(tmp_path_factory.mktemp("start") / "start.safetensors")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Three small steps; models are judged by what the test says about the last one."""
    gains: dict[str, float] = dict.fromkeys(ROWS, 0.2)

    def judge(run: Any, model: str, entries: Any) -> Evaluation:
        after = model == str(run.adaptation.made)
        assert after or model == run.order.start
        nothing = np.zeros(0)
        results = [
            ImageResult(
                entry.name,
                "set",
                1,
                {name: 0.5 + after * gains[name] for name in ROWS},
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
    def made(
        images: int = 2, first: int = 0, empty: int = 0, **changes: Any
    ) -> Adaptation:
        found = discs(images, 128)
        samples = [
            Sample(image.name, image.rgb, image.labels[0])
            for image in (*found[first:], *found[:first])
        ]
        rng = np.random.default_rng(9)
        for number in range(empty):
            pixels = rng.integers(0, 99, (128, 128, 3), np.uint8)
            samples.append(Sample(f"empty {number}", pixels, np.zeros((128, 128), int)))
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
    small |= dict.fromkeys(ROWS, -0.1)
    adaptation = make()
    adapt(adaptation)
    end = adaptation.end
    assert end is not None
    assert end["verdict"] == "worse"
    assert "worse than before" in end["text"]
    assert "one click 0.50 → 0.40" in end["text"]
    assert end["figures"]["box"] == [0.5, 0.4]
    assert end["model"] == ""
    assert models(tmp_path) == []


def test_what_fell_is_named_though_the_mean_rose(
    make: MakeAdaptation, small: dict[str, float], tmp_path: Path
) -> None:
    small |= {"click1_iou": -0.03, "box_iou": -0.015}
    adaptation = make()
    adapt(adaptation)
    end = adaptation.end
    assert end is not None
    assert end["verdict"] == "better"
    assert end["remark"] == "Worse than before: one click."
    assert end["text"].endswith(end["remark"])
    assert end["table"]["IoU, 3 clicks"] == [0.5, 0.7]
    assert models(tmp_path)


def test_nothing_better_is_no_failure(
    make: MakeAdaptation, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "Judge", FallingJudge)
    adaptation = make()
    adapt(adaptation)
    assert adaptation.end is not None
    assert adaptation.end["verdict"] == "none"
    assert "it stays" in adaptation.end["text"]
    assert "box 0.50, one click 0.50" in adaptation.end["text"]
    assert adaptation.end["figures"]["one click"] == [0.5, None]
    assert models(tmp_path) == []


def test_one_image_is_enough(make: MakeAdaptation, small: Any) -> None:
    adaptation = make(images=1)
    adapt(adaptation)
    assert adaptation.end is not None
    assert adaptation.end["verdict"] == "better"
    assert "a part of an image that the model learnt from" in adaptation.end["caveat"]


def test_images_without_objects_are_learnt_from_and_never_judged(
    make: MakeAdaptation, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real steps in windows, some of which show no object at all."""
    splits: list[Any] = []
    labelled: list[list[bool]] = []
    read = module._Run.read

    def noted(run: Any) -> Any:
        report, split = read(run)
        splits.append(split)
        labelled.extend(
            [bool(entry.read().labels.any()) for entry in entries]
            for entries in (split.train, split.background, split.reported)
        )
        return report, split

    monkeypatch.setattr(module._Run, "read", noted)
    adaptation = make(images=2, empty=3)
    assert adaptation.order().images == 2
    adapt(adaptation)
    assert adaptation.end is not None
    assert adaptation.end["verdict"] == "better"
    # No more of them than of the others to learn from.
    assert labelled == [[True], [False], [True]]
    learnt = json.loads(splits[0].notes[SEEN])["learnt"]
    assert splits[0].background[0].pixels in learnt
    assert not [e for e in adaptation.events()[0] if e["event"] == "note"]


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
    adapt(make(images=6, first=-2, start=first.end["model"]))
    learnt = {entry.pixels for entry in rounds[0].train}
    assert len(learnt) == 3
    held = rounds[1].reported
    assert held
    assert not learnt & {entry.pixels for entry in held}
    assert {entry.pixels for entry in rounds[0].reported} <= {
        entry.pixels for entry in held
    }
    assert "had learnt" not in rounds[1].caveat


def test_the_most_usual_images_are_held_out_also_when_it_goes_on(
    make: MakeAdaptation, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    adaptation = make(images=4)
    asked: list[list[str]] = []

    def usual(load: Any, entries: list[Any]) -> list[str]:
        asked.append([entry.image for entry in entries])
        return asked[-1][2:] + asked[-1][:2]

    monkeypatch.setattr(module, "most_usual", usual)
    run = module._Run(adaptation, adaptation.order())
    held = [entry.image for entry in run.read()[1].reported]
    assert held == asked[0][2:3]
    assert [entry.image for entry in run.read()[1].reported] == held
    assert len(asked) == 1


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
        patch.setattr("shutil.copyfile", full)
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
    """Rounded for real, with few candidates. A full disk in between changes nothing."""
    steps: list[str] = []
    known = module._Run.judge
    monkeypatch.setattr(products, "_KEPT", 20_000)
    monkeypatch.setattr(run, "sensitivities", lambda *_: [])
    monkeypatch.setattr(run, "task_loss", lambda *_: 0.0)
    quick = partial(run.quantize, settings=ScaleSearch(candidates=2, rounds=0))
    monkeypatch.setattr(run, "quantize", quick)
    monkeypatch.setattr(module, "float_origin", lambda _: str(start))

    def calibrate(run: Any, split: Any) -> None:
        assert checkpoints.locate(run.adaptation.made).quantized
        steps.append("calibrated")

    def judge(run: Any, model: str, entries: Any) -> Evaluation:
        steps.append("made" if model == str(run.adaptation.made) else model)
        return known(run, model, entries)

    monkeypatch.setattr(module._Run, "calibrate", calibrate)
    monkeypatch.setattr(module._Run, "judge", judge)
    adaptation = make(start="default-int8")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", no_space)
        with pytest.raises(TinySAMError, match="No space left"):
            adapt(adaptation)
    assert adaptation.end is None
    assert models(tmp_path) == []
    adapt(adaptation)
    # What is in use is compared with what is installed.
    assert steps == ["default-int8", "calibrated", "made"]
    (model,) = own_models(tmp_path / "models")
    made = checkpoints.load(model.path)
    assert made.quantized
    assert made.model.quantization
    assert model.figures["box"] == (0.5, 0.7)
    floats = checkpoints.load(tmp_path / "models" / "lab-floats.safetensors")
    assert not floats.quantized
    assert made.notes["quantized_from"].endswith(f" {floats.fingerprint}")
    monkeypatch.undo()
    assert float_origin(str(model.path)) == str(floats.path)


# ----------------------------------------------------------------- afterwards


def no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def not_allowed(*_: Any) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_folder_of_models_that_is_read_only_can_be_exchanged(
    make: MakeAdaptation, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adaptation = make()
    judged: list[str] = []
    known = module._Run.judge

    def judge(run: Any, model: str, entries: Any) -> Evaluation:
        judged.append(model)
        return known(run, model, entries)

    monkeypatch.setattr(module._Run, "judge", judge)
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr("shutil.copyfile", not_allowed)
            with pytest.raises(
                TinySAMError, match="models cannot be written to: Permission denied"
            ):
                adapt(adaptation)
        assert adaptation.end is None
        event = adaptation.events()[0][-1]
        assert (event["event"], event["elsewhere"]) == ("stopped", True)
    assert len(judged) == 2  # it is ready, and nothing is computed again
    adaptation.put_elsewhere(tmp_path / "other")
    adapt(adaptation)
    assert adaptation.end is not None
    assert adaptation.end["model"] == str(tmp_path / "other" / "lab.safetensors")
    assert adaptation.end["figures"]["box"] == [0.5, 0.7]
    assert [each.title for each in own_models(tmp_path / "other")] == ["My lab"]
    assert models(tmp_path) == []


def test_a_folder_that_cannot_be_written_while_it_learns_is_no_end(
    make: MakeAdaptation, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module._Run, "write_comparison", not_allowed)
    adaptation = make()
    with pytest.raises(TinySAMError, match="Permission denied"):
        adapt(adaptation)
    assert adaptation.end is None
    assert adaptation.model.exists()


def test_what_has_ended_takes_little_room(
    make: MakeAdaptation, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinysam_training.commands.adaptation.KEPT", 1)
    for _ in range(2):
        adaptation = make(images=1)
        adapt(adaptation)
        assert {path.name for path in adaptation.path.iterdir()} == {
            *("order.json", "events.jsonl", "comparison")
        }
    left = all_adaptations(tmp_path / "adaptations")
    assert left == [adaptation]
    assert len(models(tmp_path)) == 2
