"""Finds, lists and checks the images of a recipe or of folders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_tinysam.errors import DataError
from tinysam_training.data import (
    DataReport,
    check_data,
    find_coco,
    find_pairs,
    find_sa1b,
)
from tinysam_training.data.findings import FoundEntries, findings_of
from tinysam_training.data.fingerprints import combined
from tinysam_training.data.packed import find_packed
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.synthetic import entries as synthetic_entries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tinysam_training.labelled_image import ImageEntry
    from tinysam_training.recipe import DataSource, Recipe


@dataclass(frozen=True, eq=False)
class Dataset:
    """The images of a recipe's sources.

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
        """Return the report, and the number of synthetic images."""
        made = len(self.train) - len(self.report.usable_train)
        drawn = [f"Synthetic images: {made:,}."] if made else []
        return "\n".join([self.report.text(), *drawn])


def read_source(source: DataSource, root: Path) -> list[ImageEntry]:
    """List the images of a source.

    Parameters
    ----------
    source : DataSource
    root : Path
        Base of its relative path.

    Raises
    ------
    DataError
        If there is no such folder or file, or it cannot be read.
    """
    found = _listed(source, root)
    if source.limit:
        found = FoundEntries(evenly_spaced(found, source.limit), findings_of(found))
    return found


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
            made[0].read()  # rejects sizes that no image can have
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
        The data root, base of the sources' relative paths.
    progress : callable, optional
        Called with images checked and their number.
    on_message : callable
        Called with the report, even if training is refused.

    Raises
    ------
    DataError
        If the data cannot be used for training.
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
        if source.kind == "synthetic":  # right by construction, so not checked
            made += found
        else:
            real += found
    validation = FoundEntries()
    for source in recipe.validation:
        validation += read_source(source, root)
    report = check_data(real, validation, progress=progress)
    if made and not real:  # only synthetic images were asked for
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
