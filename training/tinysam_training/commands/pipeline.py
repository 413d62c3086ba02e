"""Runs that a recipe describes: `train` and `distill`, from the data on disk to the best model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from napari_tinysam.model import DetailedMaskDecoder
from tinysam_training.data import (
    DataReport,
    ImageStore,
    check_data,
    find_coco,
    find_pairs,
    find_sa1b,
)
from tinysam_training.data.batching import FrameBatches, Sources, WindowBatches
from tinysam_training.data.findings import FoundEntries, findings_of
from tinysam_training.data.fingerprints import combined
from tinysam_training.data.packed import find_packed
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.distill.teacher import Teacher
from tinysam_training.learning.objective import Objective
from tinysam_training.run.exporting import whole_model
from tinysam_training.run.folder import RunFolder
from tinysam_training.run.judging import Judge
from tinysam_training.run.loop import Training, TrainingOutcome
from tinysam_training.run.starting import (
    Hardware,
    launched,
    starting_model,
    thresholds_of,
)
from tinysam_training.synthetic import entries as synthetic_entries

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from napari_tinysam.model import SegmentAnything
    from tinysam_training.data.labelled_image import ImageEntry
    from tinysam_training.recipe import DataSource, Recipe


#: Turns whose embeddings a teacher's cache holds where flips are wanted.
FLIPS = ("identity", "mirrored", "upside_down", "half_turn")


@dataclass(frozen=True, eq=False)
class Dataset:
    """What a recipe's sources hold.

    Attributes
    ----------
    train, validation : list of ImageEntry
    shares : list of float
        How often each image of `train` is drawn, relative to the others.
    report : DataReport
        Of the real images.
    fingerprint : str
    """

    train: list[ImageEntry]
    validation: list[ImageEntry]
    shares: list[float]
    report: DataReport
    fingerprint: str

    def text(self) -> str:
        """Return the report, and how many images are drawn instead of read."""
        made = len(self.train) - len(self.report.usable_train)
        drawn = [f"Synthetic images: {made:,}."] if made else []
        return "\n".join([self.report.text(), *drawn])


def read_source(source: DataSource, root: Path) -> list[ImageEntry]:
    """List the images of a source.

    Parameters
    ----------
    source : DataSource
    root : Path
        What its path is relative to.

    Raises
    ------
    DataError
        If there is no such folder or file, or it cannot be read.
    """
    found = _listed(source, root)
    if source.limit:
        found = FoundEntries(evenly_spaced(found, source.limit), findings_of(found))
    return found


def images_of_folders(
    folders: Sequence[Path], split: str, limit: int
) -> list[ImageEntry]:
    """List at most so many labelled images of each folder, evenly spaced.

    Parameters
    ----------
    folders : sequence of Path
    split : str
        "train", "val", …: a sub-folder of each, where there is one.
    limit : int

    Raises
    ------
    DataError
        If there is no such folder, or it cannot be read.
    """
    return [
        entry
        for folder in folders
        for entry in evenly_spaced(find_pairs(folder, split), limit)
    ]


def _listed(source: DataSource, root: Path) -> list[ImageEntry]:
    path = root / source.path
    complete: dict[str, Any] = {}
    if source.complete is not None:
        complete["complete"] = source.complete
    if source.kind == "synthetic":
        try:
            made = synthetic_entries(
                source.count, source.seed, source.kinds or None, source.size
            )
            made[0].read()  # tells sizes that no image can be drawn in
        except ValueError as error:
            raise DataError(str(error)) from error
        return list(made)
    if source.kind == "sa1b":
        return find_sa1b(path, **complete)
    if source.kind == "coco":
        return find_coco(path, root / source.images, **complete)
    if source.kind == "packed":
        return find_packed(path, source.complete)
    return find_pairs(path, source.split or None, **complete)


def read_dataset(
    recipe: Recipe,
    root: Path,
    progress: Callable[[int, int], None] | None = None,
    on_message: Callable[[str], None] = lambda message: None,
) -> Dataset:
    """Find and check all images of a recipe.

    Parameters
    ----------
    recipe : Recipe
    root : Path
        The data root that the sources' paths are relative to.
    progress : callable, optional
        Called with images checked and their number.
    on_message : callable
        Called with the report, also if training is refused then.

    Raises
    ------
    DataError
        If training must be refused.
    """
    if not recipe.data:
        raise DataError(f"The recipe {recipe.name!r} names no data.")
    real = FoundEntries()
    made: list[ImageEntry] = []
    shares: dict[int, float] = {}
    for source in recipe.data:
        found = read_source(source, root)
        if not found:
            reasons = [f" {finding.text}" for finding in findings_of(found)[:1]]
            place = root / source.path
            raise DataError(
                f"There are no labelled images in {place}.{''.join(reasons)}"
            )
        for entry in found:
            shares[id(entry)] = source.share / len(found)
        if source.kind == "synthetic":  # right by construction, so not looked at
            made += found
        else:
            real += found
    validation = FoundEntries()
    for source in recipe.validation:
        validation += read_source(source, root)
    report = check_data(real, validation, progress=progress)
    if made and not real:  # nothing real to train on, which is what was asked for
        kept = tuple(one for one in report.findings if one.severity != "fatal")
        report = replace(report, findings=kept)
    usable = [*report.usable_train, *made]
    dataset = Dataset(
        usable,
        list(report.usable_val),
        [shares[id(entry)] for entry in usable],
        report,
        combined([report.fingerprint], [entry.fingerprint for entry in made])
        if made
        else report.fingerprint,
    )
    on_message(dataset.text())
    if report.refused:
        raise DataError(report.refused)
    return dataset


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
    """Do what a recipe says, or go on with it.

    Parameters
    ----------
    recipe : Recipe
        With a teacher it is a distillation: the student sees windows of whole frames, whose teacher
        embeddings are computed once and stored. Without, it sees augmented windows.
    root : Path
        The data root.
    out : Path
        Folder for everything that the run writes; the best model is ``best.safetensors`` there.
    hardware : Hardware, optional
    resume : bool
        Go on with the run that is in `out`.
    max_minutes : float, optional
        Stop after so many minutes with a checkpoint; the schedule does not change.
    ends : float, optional
        When `clock` says so the whole schedule is to be done, however long reading took: instead of
        the recipe's minutes.
    on_message, on_step, clock
        As for `finetune`.

    Raises
    ------
    DataError
        If recipe or data cannot be used.
    TinySAMError
        If memory or disk space ends.
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
    # The same weights in every process, whatever was drawn before.
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
    teacher = None
    if recipe.teacher.model:
        teacher = Teacher.load(recipe.teacher.model, fabric.device)
        if isinstance(teacher.model.mask_decoder, DetailedMaskDecoder):
            raise DataError(
                f"{teacher.name} cannot teach: its decoder reads finer features than the "
                "embedding, which is all that is stored. Name a TinyViT or SAM model."
            )
    folder.begin(resume=resume)
    images = ImageStore(dataset.train)
    sources = Sources.by_share(images, dataset.shares)
    batches: WindowBatches | FrameBatches
    if teacher is not None:
        batches = _embedded(
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

    def export(model: SegmentAnything, figures: Mapping[str, float]) -> None:
        found = {k: f"{v:.4f}" for k, v in figures.items()}
        checkpoints.save(whole_model(model), best, {**notes, **found})

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
    training = Training(
        Objective(student, recipe, teacher.model if teacher else None),
        batches,
        recipe,
        folder,
        fabric,
        judge=judge,
        export=export,
        clock=clock,
    )
    if resume and training.resume():
        say(f"Going on after step {training.steps}.")
    outcome = training.run(max_minutes=max_minutes, on_step=on_step)
    if fabric.is_global_zero:
        # What the last step left, too: without validation it is all there is.
        last = out / "last.safetensors"
        checkpoints.save(whole_model(training.average), last, notes)
    return outcome


def _embedded(
    teacher: Teacher,
    recipe: Recipe,
    sources: Sources,
    out: Path,
    fabric: Fabric,
    say: Callable[[str], None],
    map_stride: int,
) -> FrameBatches:
    """Give windows of frames that the teacher embedded; it needs its encoder no more then."""
    from tinysam_training.distill.embedding_cache import EmbeddingCache  # and zarr

    turns: Sequence[str] = FLIPS if recipe.teacher.flips else FLIPS[:1]
    cache = EmbeddingCache(out / recipe.teacher.cache)
    say(
        f"The teacher {teacher.name} embeds {len(sources.weights)} images in "
        f"{len(turns)} turns; what is stored already is not embedded again."
    )
    frames = cache.precompute(sources.images, teacher, turns)
    fabric.barrier()
    teacher.drop_encoder()
    return FrameBatches(
        sources, turns, frames, recipe, own=False, map_stride=map_stride
    )
