"""The loop: what it promises about resuming, stopping, logging and several processes."""

from __future__ import annotations

import csv
import errno
import os
import signal
import subprocess
import sys
import types
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_tinysam.errors import CheckpointError, DataError, TinySAMError
from napari_tinysam.model import SegmentAnything
from tinysam_training.recipe import (
    Augmentation,
    ModelSettings,
    OptimizerSettings,
    Stage,
)
from tinysam_training.run.averaging import update_average
from tinysam_training.run.loop import PATIENCE
from tinysam_training.run.outcome import TOO_FEW
from tinysam_training.run.schedule import rate_at, stage_at
from training import small_runs
from training.small_runs import RECIPE, discs, training, with_steps

LOSS_NAMES = ("loss", "mask", "iou", "foreground", "dice", "centre", "boundary")


def rows(folder: Path, name: str = "log.csv") -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def weights(run: Any) -> dict[str, torch.Tensor]:
    return {**run.objective.student.state_dict(), **run.average.state_dict()}


def stop_after(step: int) -> Any:
    def stop(run: Any, figures: Any) -> None:
        if run.steps == step:
            raise KeyboardInterrupt

    return stop


def test_a_resumed_run_equals_an_uninterrupted_one_bit_by_bit(tmp_path: Path) -> None:
    whole = training(tmp_path / "whole")
    whole.run()

    with pytest.raises(KeyboardInterrupt):
        training(tmp_path / "parts").run(on_step=stop_after(2))
    second = training(tmp_path / "parts", resume=True)
    assert second.steps == 2
    outcome = second.run()

    assert outcome.finished
    expected, found = weights(whole), weights(second)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    one, two = rows(tmp_path / "whole"), rows(tmp_path / "parts")
    assert [r["step"] for r in two] == [str(n) for n in range(1, 7)]
    assert [r["loss"] for r in one] == [r["loss"] for r in two]


def test_a_run_of_a_model_that_was_replaced_does_not_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an update whose bundled model has a narrower decoder."""
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path).run(on_step=stop_after(1))
    narrow = partial(SegmentAnything, object_head=True, mlp_dim=128)
    monkeypatch.setattr(small_runs, "new_model", narrow)
    with pytest.raises(
        DataError, match=r"of another model than the one that .* begins"
    ):
        training(tmp_path, resume=True)
    assert (tmp_path / "checkpoint.pt").exists()


def signalled_in(method: Any, number: int, at: int) -> Any:
    """Let a method send this process a signal when it was called so many times, then go on."""
    calls = count(1)

    def signalled(*arguments: Any, **options: Any) -> Any:
        found = method(*arguments, **options)
        if next(calls) == at:
            signal.raise_signal(number)
        return found

    return signalled


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("place", ["optimizer", "folder"])
def test_a_signal_within_a_step_ends_the_run_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, place: str
) -> None:
    """Between the moved weights and their counter, and between the counter and the log."""
    # In the background of a shell Ctrl+C would be ignored.
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    own = signal.signal(number, default)
    try:
        stopped_within_a_step(tmp_path, monkeypatch, number, place)
        assert signal.getsignal(number) == default
    finally:
        signal.signal(number, own)


def stopped_within_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, place: str
) -> None:
    whole = training(tmp_path / "whole")
    whole.run()

    first = training(tmp_path / "parts")
    holder = first.optimizer if place == "optimizer" else first.folder
    name = "step" if place == "optimizer" else "log"
    monkeypatch.setattr(holder, name, signalled_in(getattr(holder, name), number, 2))
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert [r["step"] for r in rows(tmp_path / "parts")] == ["1", "2"]
    second = training(tmp_path / "parts", resume=True)
    assert second.steps == 2
    assert second.run().finished

    expected, found = weights(whole), weights(second)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    one, two = rows(tmp_path / "whole"), rows(tmp_path / "parts")
    assert [r["loss"] for r in one] == [r["loss"] for r in two]


def test_a_signal_while_the_best_model_is_written_waits_for_it(tmp_path: Path) -> None:
    written: list[float] = []

    def export(model: SegmentAnything, figures: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        written.append(figures["step"])

    scores = count(0.1, 0.1)
    run = training(tmp_path, judge=lambda model: {"score": next(scores)}, export=export)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert written == [3]
    resumed = training(tmp_path, resume=True)
    assert resumed.best["step"] == 3  # what the file holds
    assert len(rows(tmp_path, "validation.csv")) == 2


def test_a_step_that_failed_half_way_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = training(tmp_path)
    step = run.optimizer.step

    def failing(*arguments: Any, **options: Any) -> None:
        step(*arguments, **options)
        if run.steps == 3:
            raise MemoryError

    def save(run: Any, figures: Any) -> None:
        if run.steps == 2:
            run.save()

    monkeypatch.setattr(run.optimizer, "step", failing)
    with pytest.raises(TinySAMError, match="Memory ran out"):
        run.run(on_step=save)
    assert training(tmp_path, resume=True).steps == 2


def test_an_ignored_ctrl_c_stays_ignored(tmp_path: Path) -> None:
    def step(run: Any, figures: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert training(tmp_path, with_steps(1)).run(on_step=step).finished
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("stopped", [2, 3, 5])
def test_stages_and_augmented_batches_are_resumed_bit_by_bit(
    tmp_path: Path, stopped: int
) -> None:
    """First the object head alone, then prompts; both with all that is drawn at random."""
    recipe = replace(
        RECIPE,
        stages=(
            Stage(share=0.5, windows=((64, 3, 1.0),), objects=0, zoom=(0.5, 1.2)),
            Stage(share=0.5, windows=((64, 2, 0.5), (96, 1, 0.5)), objects=2, rounds=1),
        ),
        model=ModelSettings("random", "efficientnet_lite0", dense_prompts=True),
        augmentation=Augmentation.full(),
    )
    whole = training(tmp_path / "whole", recipe)
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path / "parts", recipe).run(on_step=stop_after(stopped))
    second = training(tmp_path / "parts", recipe, resume=True)
    assert second.run().finished
    expected, found = weights(whole), weights(second)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    one, two = rows(tmp_path / "whole"), rows(tmp_path / "parts")
    assert [r["loss"] for r in one] == [r["loss"] for r in two]
    assert [bool(r.get("mask")) for r in one] == 3 * [False] + 3 * [True]


def test_what_was_logged_after_the_last_checkpoint_is_done_and_logged_again(
    tmp_path: Path,
) -> None:
    run = training(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run.run(on_step=stop_after(2))
    with (tmp_path / "log.csv").open("a") as file:
        file.write("3,1.0,0.1\n4,")  # the process was killed here
    resumed = training(tmp_path, resume=True)
    resumed.run()
    assert [r["step"] for r in rows(tmp_path)] == [str(n) for n in range(1, 7)]


def test_four_images_are_learnt_by_heart(tmp_path: Path) -> None:
    images = discs(4)
    recipe = with_steps(
        60,
        optimizer=OptimizerSettings(learning_rate=1e-3, warmup=0.05),
        stages=(Stage(windows=((64, 4, 1.0),), objects=3, rounds=0),),
        model=replace(RECIPE.model, batch_norm="train"),
    )
    training(tmp_path, recipe, images=images).run()
    log = rows(tmp_path)

    def mean(name: str, part: list[dict[str, str]]) -> float:
        return sum(float(r[name]) for r in part) / len(part)

    for name in ("loss", "mask", "foreground", "dice"):
        assert mean(name, log[-10:]) < 0.85 * mean(name, log[:10]), name
    assert mean("iou_best", log[-10:]) > mean("iou_best", log[:10]) + 0.1


def test_a_part_of_a_run_stops_after_its_minutes_and_keeps_the_schedule(
    tmp_path: Path,
) -> None:
    seconds = count(step=20.0)
    run = training(tmp_path, clock=lambda: next(seconds))
    outcome = run.run(max_minutes=1.0)
    assert not outcome.finished
    assert 0 < outcome.steps < 6
    rest = training(tmp_path, resume=True)
    assert rest.progress == outcome.steps / 6
    assert rest.run().steps == 6


def test_a_time_budget_ends_the_run_and_the_schedule_follows_the_time(
    tmp_path: Path,
) -> None:
    seconds = count(step=10.0)
    recipe = replace(RECIPE, steps=0, minutes=1.0)
    run = training(tmp_path, recipe, clock=lambda: next(seconds))
    outcome = run.run()
    assert outcome.finished
    assert outcome.seconds >= 60
    rates = [float(r["rate"]) for r in rows(tmp_path)]
    assert rates == sorted(rates, reverse=True)


def test_a_run_that_was_too_short_says_what_would_be_enough(tmp_path: Path) -> None:
    """A step takes 3 seconds, and validating 50, which says nothing about steps."""
    now = [0.0]

    def judge(model: SegmentAnything) -> dict[str, float]:
        now[0] += 50.0
        return {"score": 0.5}

    run = training(tmp_path, with_steps(2), judge=judge, clock=lambda: now[0])
    step = run.optimizer.step

    def slow(*arguments: Any, **options: Any) -> None:
        step(*arguments, **options)
        now[0] += 3.0

    run.optimizer.step = slow  # type: ignore[method-assign]
    outcome = run.run()
    assert outcome.speed == pytest.approx(1 / 3)
    assert outcome.shortness == (
        "2 steps are too few to learn anything; 10 minutes on this machine are about 200."
    )
    assert replace(outcome, steps=TOO_FEW).shortness == ""
    slower = replace(outcome, speed=1 / 60)
    assert slower.shortness.endswith("100 minutes on this machine are about 100.")
    assert replace(outcome, steps=1).shortness.startswith("1 step is too few")


def test_a_step_is_done_though_judging_the_start_took_all_the_time(
    tmp_path: Path,
) -> None:
    now = [0.0]

    def judge(model: SegmentAnything) -> dict[str, float]:
        now[0] += 50.0
        return {"score": now[0]}

    def step(run: Any, figures: Any) -> None:
        now[0] += 1.0

    recipe = replace(RECIPE, steps=0, minutes=0.5)
    run = training(tmp_path, recipe, judge=judge, clock=lambda: now[0])
    outcome = run.run(on_step=step)
    assert outcome.steps == 1
    assert outcome.best["step"] == 1


def test_the_best_model_is_exported_when_it_is_found(tmp_path: Path) -> None:
    scores = iter([0.3, 0.5, 0.4])
    exported: list[float] = []

    def judge(model: SegmentAnything) -> dict[str, float]:
        return {"score": next(scores)}

    run = training(
        tmp_path, judge=judge, export=lambda model, f: exported.append(f["score"])
    )
    outcome = run.run()
    assert outcome.first["score"] == 0.3
    assert outcome.best == {"score": 0.5, "step": 3.0}
    assert exported == [0.5]
    assert [float(r["score"]) for r in rows(tmp_path, "validation.csv")] == [
        0.3,
        0.5,
        0.4,
    ]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_was_stopped_before_its_last_validation_is_judged(
    tmp_path: Path,
) -> None:
    scores = iter([0.3, 0.5, 0.7])
    exported: list[float] = []

    def run(resume: bool) -> Any:
        return training(
            tmp_path,
            judge=lambda model: {"score": next(scores)},
            export=lambda model, f: exported.append(f["score"]),
            resume=resume,
        )

    with pytest.raises(KeyboardInterrupt):
        run(resume=False).run(on_step=stop_after(RECIPE.steps))
    assert exported == [0.5]
    outcome = run(resume=True).run()
    assert outcome.best == {"score": 0.7, "step": float(RECIPE.steps)}
    assert exported == [0.5, 0.7]


def test_what_could_not_be_exported_is_judged_again(tmp_path: Path) -> None:
    exported: list[float] = []

    def full(model: SegmentAnything, figures: Any) -> None:
        raise CheckpointError("The disk is full.")

    def export(model: SegmentAnything, figures: Any) -> None:
        exported.append(figures["step"])

    def rising(model: SegmentAnything) -> dict[str, float]:
        return {"score": next(scores)}

    scores = count(0.1, 0.1)
    with pytest.raises(TinySAMError, match=r"disk is full at step 3; no better model"):
        training(tmp_path, judge=rising, export=full).run()
    outcome = training(tmp_path, judge=rising, export=export, resume=True).run()
    assert outcome.steps == RECIPE.steps
    assert exported == [4, 6]


def test_a_start_that_nothing_beats_is_not_exported(tmp_path: Path) -> None:
    exported: list[float] = []
    scores = iter([0.9, 0.5, 0.4])
    run = training(
        tmp_path,
        judge=lambda model: {"score": next(scores)},
        export=lambda model, f: exported.append(f["score"]),
    )
    assert run.run().best["step"] == 0
    assert exported == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ],
    ids=["python", "gpu", "cpu"],
)
def test_out_of_memory_says_where_the_best_model_is(
    tmp_path: Path, error: Exception
) -> None:
    def step(run: Any, figures: Any) -> None:
        if run.steps == 4:
            raise error

    scores = iter([0.1, 0.5])
    run = training(
        tmp_path,
        judge=lambda model: {"score": next(scores)},
        export=lambda model, f: None,
    )
    with pytest.raises(TinySAMError, match=r"[Mm]emory.*best model.*step 3"):
        run.run(on_step=step)
    assert training(tmp_path, resume=True).steps == 4


def test_a_mistake_is_no_sentence_but_leaves_a_checkpoint(tmp_path: Path) -> None:
    def step(run: Any, figures: Any) -> None:
        if run.steps == 4:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        training(tmp_path).run(on_step=step)
    assert training(tmp_path, resume=True).steps == 4


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: Any) -> None:
    run = training(tmp_path)

    def full(row: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run.folder, "log", full)
    with pytest.raises(TinySAMError, match="No space left on device"):
        run.run()


def test_other_errors_are_not_swallowed(tmp_path: Path) -> None:
    def broken(run: Any, figures: Any) -> None:
        raise RuntimeError("a fault of the program")

    with pytest.raises(RuntimeError, match="a fault of the program"):
        training(tmp_path).run(on_step=broken)


def test_a_gradient_that_is_no_number_changes_nothing(tmp_path: Path) -> None:
    run = training(tmp_path)
    before = {n: v.clone() for n, v in run.objective.student.state_dict().items()}
    for parameter in run.parameters:
        parameter.grad = torch.full_like(parameter, float("nan"))
    run._update(torch.tensor(float("nan")))
    after = run.objective.student.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in run.parameters)
    for _ in range(PATIENCE - 1):
        run._update(torch.tensor(float("inf")))
    with pytest.raises(TinySAMError, match="became NaN or infinite"):
        run._update(torch.tensor(float("inf")))


def test_a_run_of_another_recipe_or_other_data_is_not_continued(tmp_path: Path) -> None:
    training(tmp_path).run()
    with pytest.raises(DataError, match="another recipe"):
        training(tmp_path, with_steps(7), resume=True)
    record = tmp_path / "run.json"
    record.write_text(record.read_text().replace('"discs"', '"other"'))
    with pytest.raises(DataError, match="data changed"):
        training(tmp_path, resume=True)


def test_a_damaged_checkpoint_is_a_sentence(tmp_path: Path) -> None:
    training(tmp_path).run()
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 half of it")
    with pytest.raises(DataError, match="damaged"):
        training(tmp_path, resume=True)


def test_the_folder_tells_how_the_run_was_made(tmp_path: Path) -> None:
    training(tmp_path).run()
    assert "learning_rate: 0.001" in (tmp_path / "recipe.yaml").read_text()
    record = (tmp_path / "run.json").read_text()
    for word in ('"seed": 0', '"data": "discs"', '"torch"', '"timm"'):
        assert word in record
    assert not list(tmp_path.glob(".tinysam-*"))


def test_tensorboard_gets_steps_and_validations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, path: str) -> None:
            assert path == str(tmp_path)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, value, step))

    board = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    training(tmp_path, with_steps(10), judge=lambda model: {"score": 0.5}).run()
    logged = rows(tmp_path)[-1]
    assert ("train/loss", float(logged["loss"]), 10) in [
        (name, pytest.approx(value, rel=1e-5), step) for name, value, step in told
    ]
    assert ("validation/score", 0.5, 10) in told


def test_the_rate_warms_up_and_falls_to_its_floor() -> None:
    settings = OptimizerSettings(learning_rate=1.0, warmup=0.1, floor=0.01)
    assert rate_at(0.05, settings) == pytest.approx(0.5)
    assert rate_at(0.1, settings) == pytest.approx(1.0)
    assert rate_at(0.55, settings) == pytest.approx(0.505)
    assert rate_at(1.0, settings) == pytest.approx(0.01)


def test_stages_share_the_budget() -> None:
    stages = (Stage(share=1), Stage(share=3))
    found = [stage_at(p, stages) for p in (0, 0.24, 0.25, 0.9, 1.0)]
    assert found == [0, 0, 1, 1, 1]


def test_the_average_follows_parameters_and_statistics() -> None:
    average, model = SegmentAnything(image_size=64), SegmentAnything(image_size=64)
    name = "image_encoder.body.patch_embed.conv1.bn.running_mean"
    model.state_dict()[name].fill_(1.0)
    before = average.state_dict()["mask_decoder.iou_token.weight"].clone()
    update_average(average, model, 0.75)
    assert torch.allclose(average.state_dict()[name], torch.tensor(0.25))
    now = average.state_dict()["mask_decoder.iou_token.weight"]
    target = model.state_dict()["mask_decoder.iou_token.weight"]
    assert torch.allclose(now, 0.75 * before + 0.25 * target, atol=1e-6)


def test_two_processes_learn_as_one_with_twice_the_batch(tmp_path: Path) -> None:
    """Each of two processes does half of what one accumulates: the same losses, step by step."""
    recipe = with_steps(3, optimizer=replace(RECIPE.optimizer, accumulate=2))
    training(tmp_path / "one", recipe).run()

    script = Path(__file__).with_name("two_processes.py")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(script.parents[2]),
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            str(script),
            str(tmp_path / "two"),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert len(two) == 3  # one process logs
    for a, b in zip(one, two, strict=True):
        for name in LOSS_NAMES:
            assert float(a[name]) == pytest.approx(float(b[name]), rel=2e-3), name


def test_mixed_precision_takes_a_step(tmp_path: Path) -> None:
    run = training(tmp_path, with_steps(2), precision="bf16-mixed")
    run.objective.student.dense_prompts = True
    outcome = run.run()
    assert outcome.finished
    assert all(torch.isfinite(value).all() for value in weights(run).values())
