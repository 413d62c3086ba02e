"""Replace the bundled model with a run's weights, if they are better.

The decoder is made narrower, borders and the thresholds of automatic segmentation are measured on
training images, and the weights rounded to 16 bits, before the models are compared on the
validation images. A model that knows its training images by heart gets its borders' offset from
them, but thresholds that suit no other image: those of its weights may be kept instead. The file,
its 8-bit counterpart and the card are made beside the run first, so that a failure never leaves
half a model in the package.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from default_model.code_copy import REPOSITORY
from default_model.comparing import ModelComparison, set_figures
from default_model.state import RefusedError
from napari_tinysam import checkpoints
from napari_tinysam.inference.load import load_model
from papers.bundling import CARD, bundle, describe_quantized
from papers.narrowing import IMAGES, WIDTH, can_be_narrower, narrowed
from papers.published_figures import publish
from papers.shared import images_of_folders
from tinysam_training.calibration import borders, calibrate
from tinysam_training.data import find_pairs
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.evaluation.evaluate import (
    Evaluation,
    EvaluationSettings,
    evaluate,
)
from tinysam_training.evaluation.pictures import write_pictures
from tinysam_training.evaluation.report import write_csv, write_json
from tinysam_training.recipe import load_recipe

if TYPE_CHECKING:
    from tinysam_training.labelled_image import ImageEntry

Say = Callable[[str], None]

#: Folder of the bundled model in the repository.
WEIGHTS = Path("src/napari_tinysam/weights")

#: Documents that quote its figures.
DOCUMENTS = (Path("docs/models.md"), WEIGHTS / CARD)

#: Images of each set for measuring thresholds, and of all of them those with the whole grid.
_CALIBRATED, _WITH_GRID = 5, 10


@dataclass(frozen=True)
class Landing:
    """The model to put into the package.

    Attributes
    ----------
    run : Path
        Folder of the run.
    weights : Path
        The run's file to take.
    data : Path
        The data root: folders with ``train`` and ``val``.
    anyway : bool
        Take it even if it is not better.
    images : int
        The most validation images per set. 0 for all; only then are figures published.
    keep_thresholds : bool
        Keep the thresholds that the weights have.
    repository : Path
        The repository whose bundled model is replaced.
    """

    run: Path
    weights: Path
    data: Path
    anyway: bool = False
    images: int = 0
    keep_thresholds: bool = False
    repository: Path = REPOSITORY

    @property
    def folder(self) -> Path:
        """Folder where the files are made first."""
        return self.run / "landing"

    def check(self) -> None:
        """Check files and folders before the slow part. Raises `RefusedError`."""
        if not self.weights.is_file():
            raise RefusedError(
                f"There are no weights to land: {self.weights} is not a file."
            )
        for name in ("run.json", "log.csv", "recipe.yaml"):
            if not (self.run / name).is_file():
                raise RefusedError(
                    f"{self.run} is not a run's folder: it has no {name}."
                )
        if not self.data.is_dir():
            raise RefusedError(f"There is no data: {self.data} is not a folder.")


def land(asked: Landing, say: Say) -> ModelComparison:
    """Put a run's weights into the package, with 8-bit weights, card and figures.

    Parameters
    ----------
    asked : Landing
    say : callable
        Called with lines about the progress.

    Returns
    -------
    ModelComparison

    Raises
    ------
    RefusedError
        If the model is not better, or cannot be made. The package is unchanged then.
    """
    asked.check()
    folder, package = asked.folder, asked.repository / WEIGHTS
    train, val = _folders(asked.data, "train"), _folders(asked.data, "val")
    folder.mkdir(exist_ok=True)
    weights = _narrowed(asked.weights, train, asked.run / "narrowed.safetensors", say)
    say("Measuring borders, and the thresholds of automatic segmentation.")
    _calibrated(
        weights,
        _annotated_whole(asked.run, train),
        asked.run / "calibrated.safetensors",
        say,
        keep_thresholds=asked.keep_thresholds,
    )
    shutil.copyfile(package / CARD, folder / CARD)
    made = bundle(asked.run, folder, "calibrated")  # in 16 bits, as in the package

    entries = [
        entry
        for each in val
        for found in [find_pairs(each, "val")]
        for entry in evenly_spaced(found, asked.images or len(found))
    ]
    say(f"Judging both models on {len(entries)} images.")
    before = judged(package / "default.safetensors", entries, say)
    after = judged(made, entries, say)
    comparison = ModelComparison(set_figures(before), set_figures(after))
    say(comparison.table())
    if comparison.objections and not asked.anyway:
        reasons = "; ".join(comparison.objections)
        raise RefusedError(f"The bundled model stays: {reasons}. --anyway takes it.")

    quantized = folder / "default-int8.safetensors"
    _command("napari_tinysam", "quantize", made, *train, "-o", quantized)
    describe_quantized(quantized, folder)
    for file in (made, quantized, folder / CARD):
        shutil.copyfile(file, package / file.name)
    say(f"{package}: default.safetensors, default-int8.safetensors, {CARD}")
    if asked.images:
        say("The figures are not published: not all images were used.")
        return comparison
    write_figures(asked, replace(after, model="default"), entries)
    say(f"The figures are in {', '.join(map(str, DOCUMENTS))}.")
    return comparison


def judged(model: Path, entries: Sequence[ImageEntry], say: Say) -> Evaluation:
    """Judge a model as ``napari-tinysam evaluate --clicks 3`` does."""

    def progress(done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            say(f"{model.name}: {done} of {total} images")

    settings = EvaluationSettings(clicks=3, keep_masks=True)
    return evaluate(load_model(model, convert=say), entries, settings, progress)


def write_figures(
    asked: Landing, evaluation: Evaluation, entries: list[ImageEntry]
) -> None:
    """Write the figures of the new bundled model into the documents that quote them."""
    folder = asked.folder
    write_json(folder / "figures.json", evaluation)
    write_csv(folder / "images.csv", evaluation)
    write_pictures(folder, evaluation, entries)
    model = asked.repository / WEIGHTS / "default.safetensors"
    _command("papers.robustness", model, "-o", folder / "robustness")
    documents = [asked.repository / document for document in DOCUMENTS]
    publish(folder / "figures.json", documents, folder / "robustness")


def _folders(data: Path, split: str) -> list[Path]:
    found = sorted(each.parent for each in data.glob(f"*/{split}") if each.is_dir())
    if not found:
        raise RefusedError(f"There is no data: {data} has no folders with {split}.")
    return found


def _annotated_whole(run: Path, folders: list[Path]) -> list[Path]:
    """Leave out sets that are partly annotated according to the run's recipe."""
    partly = {
        source.path
        for source in load_recipe(run / "recipe.yaml").data
        if source.complete is False
    }
    return [folder for folder in folders if folder.name not in partly]


def _narrowed(weights: Path, folders: list[Path], path: Path, say: Say) -> Path:
    """Write the weights with a narrower decoder, where one fits; return their file."""
    found = checkpoints.load(weights)
    if not can_be_narrower(found.model, WIDTH):
        return weights
    entries = images_of_folders(folders, "train", IMAGES)
    checkpoints.save(narrowed(found.model, entries), path, found.notes)
    say(f"The decoder's MLPs are {WIDTH} units wide now.")
    return path


def _calibrated(
    weights: Path,
    folders: list[Path],
    path: Path,
    say: Say,
    *,
    keep_thresholds: bool,
) -> None:
    """Write the weights again with their borders and thresholds."""
    entries = images_of_folders(folders, "train", _CALIBRATED)

    def progress(done: int, total: int) -> None:
        say(f"{done} of {total} images")

    offset = borders.border_offset(load_model(weights, convert=say), entries)
    say(f"Borders fit best where logits are {-offset:g}.")
    if offset:
        borders.move_borders(weights, path, offset)
        weights = path
    if keep_thresholds:
        if not offset:
            shutil.copyfile(weights, path)
        return
    found = calibrate.calibrate(
        load_model(weights, convert=say),
        entries,
        grid_images=_WITH_GRID,
        progress=progress,
    )
    calibrate.write(str(weights), path, found)


def _command(module: str, *arguments: object) -> None:
    """Run a module's command in its own process."""
    asked = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(asked, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise RefusedError(f"{module} {arguments[0]} failed: {lines[-1]}")
