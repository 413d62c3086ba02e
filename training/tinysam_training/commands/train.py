"""Runs a recipe, from the data on disk to the best model; with a teacher, as a distillation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from tinysam_training.commands.judged import judged_training
from tinysam_training.data import (
    ImageStore,
)
from tinysam_training.data.dataset import read_dataset
from tinysam_training.data.sampling import Sources
from tinysam_training.data.window_batches import WindowBatches
from tinysam_training.distill.starting import embedded_batches, load_teacher
from tinysam_training.learning.objective import Objective
from tinysam_training.run.exporting import whole_model
from tinysam_training.run.folder import RunFolder
from tinysam_training.run.judging import Judge
from tinysam_training.run.starting import (
    Hardware,
    launched,
    starting_model,
    thresholds_of,
)

if TYPE_CHECKING:
    from tinysam_training.data.frame_batches import FrameBatches
    from tinysam_training.recipe import Recipe
    from tinysam_training.run.loop import Training
    from tinysam_training.run.outcome import TrainingOutcome


def run_recipe(
    recipe: Recipe,
    root: Path,
    out: Path,
    *,
    hardware: Hardware | None = None,
    resume: bool = False,
    max_minutes: float | None = None,
    ends: float | None = None,
    on_message: Callable[[str], None] = lambda message: None,
    on_step: Callable[[Training, Mapping[str, float]], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingOutcome:
    """Run a recipe, or resume its run.

    Parameters
    ----------
    recipe : Recipe
        With a teacher the run is a distillation: the student sees windows of whole frames, and the
        teacher's embeddings of those frames are computed once and stored. Without a teacher, the
        model sees augmented windows.
    root : Path
        The data root.
    out : Path
        Folder for all output of the run; the best model is ``best.safetensors`` there.
    hardware : Hardware, optional
    resume : bool
        Continue the run in `out`.
    max_minutes : float, optional
        Stop after this many minutes with a checkpoint; the schedule does not change.
    ends : float, optional
        Value of `clock` by which the whole schedule ends, however long reading takes; replaces the
        recipe's minutes.
    on_message, on_step, clock
        As for `finetune`.

    Raises
    ------
    DataError
        If recipe or data cannot be used.
    TinySAMError
        If memory or disk space runs out.
    """
    fabric = launched(hardware or Hardware())
    best = out / "best.safetensors"
    folder = RunFolder(out, recipe, writes=fabric.is_global_zero, best=best)
    if folder.holds_run and not resume:
        raise DataError(
            f"{out} holds a run already. Continue it with --resume, or choose another "
            "folder."
        )
    say = on_message if fabric.is_global_zero else lambda message: None
    dataset = read_dataset(recipe, root, on_message=say)
    folder.fingerprint = dataset.fingerprint
    # The same weights in every process, whatever random numbers were drawn before.
    torch.manual_seed(recipe.seed)
    student = starting_model(
        recipe.model.start,
        architecture=recipe.model.architecture,
        decoder=recipe.model.decoder,
        object_head=recipe.model.object_head,
        details=recipe.model.details,
        dense_prompts=recipe.model.dense_prompts,
        imagenet=recipe.model.imagenet,
    )
    teacher = load_teacher(recipe, fabric) if recipe.teacher.model else None
    folder.begin(resume=resume)
    images = ImageStore(dataset.train)
    sources = Sources.by_share(images, dataset.shares)
    batches: WindowBatches | FrameBatches
    if teacher is not None:
        batches = embedded_batches(
            teacher, recipe, sources, out, fabric, say, student.map_stride
        )
    else:
        batches = WindowBatches(
            sources, recipe, device=fabric.device, map_stride=student.map_stride
        )
    notes = {
        "made_by": "napari-tinysam distill" if teacher else "napari-tinysam train",
        "recipe": recipe.name,
        "data": dataset.fingerprint,
        **thresholds_of(recipe.model.start),
    }

    if ends is not None and not recipe.steps:
        recipe = replace(recipe, minutes=max((ends - clock()) / 60, 0.1))
    judge = None
    if dataset.validation:
        judge = Judge(
            ImageStore(dataset.validation),
            fabric.device,
            limit=recipe.judging.images,
            objects=recipe.judging.objects,
        )
    training = judged_training(
        Objective(student, recipe, teacher.model if teacher else None),
        batches,
        recipe,
        folder,
        fabric,
        judge=judge,
        notes=notes,
        clock=clock,
    )
    if resume and training.resume():
        say(f"Going on after step {training.steps}.")
    outcome = training.run(max_minutes=max_minutes, on_step=on_step)
    if fabric.is_global_zero:
        # The last step as well: without validation there is no best one.
        last = out / "last.safetensors"
        checkpoints.save(whole_model(training.average), last, notes)
    return outcome
