"""Matches label files with images by their names.

NAME_label.png belongs to the image NAME.png, with any of the file types. For other names of labels
and images see `napari_tinysam.files.names`. In separate folders, both may have the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_tinysam.files.names import as_label, image_base
from tinysam_training.data.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

#: File types that are read, in the order of preference where one image has several.
SUFFIXES = (
    ".ome.tif",
    ".ome.tiff",
    ".tif",
    ".tiff",
    ".npy",
    ".npz",
    ".png",
    ".bmp",
    ".jpg",
    ".jpeg",
)


@dataclass(frozen=True)
class Pair:
    """An image file and its label files, the main one first."""

    stem: str
    image: Path
    labels: tuple[Path, ...]


@dataclass(frozen=True)
class _Label:
    path: Path
    base: str
    family: int
    number: int


def stem_of(path: Path) -> str | None:
    """Name without the file type; None if it is not one of `SUFFIXES`."""
    lower = path.name.lower()
    for suffix in SUFFIXES:
        if lower.endswith(suffix) and len(lower) > len(suffix):
            return path.name[: -len(suffix)]
    return None


def pair_files(
    files: Iterable[Path],
    label_files: Iterable[Path] = (),
    *,
    separate: bool = False,
) -> tuple[list[Pair], list[Finding]]:
    """Match images and labels.

    Parameters
    ----------
    files : iterable of Path
        Images, and labels that have names of labels. Other types of file are ignored.
    label_files : iterable of Path
        Files that are labels whatever their name, since they have their own folder.
    separate : bool
        Whether all labels are among `label_files`. Then `files` are images, except those that are
        named like labels of one of these.

    Returns
    -------
    list of Pair
        By name.
    list of Finding
        Files without partner, and unused files.
    """
    images, labels = _told_apart(files, separate)
    labels += [_own_folder(path, images) for path in _known(label_files)]
    found: list[Pair] = []
    findings: list[Finding] = []
    for stem in sorted(images):
        image, *others = sorted(images[stem], key=_preference)
        findings += [_not_used(path, image) for path in others]
        mine = [label for label in labels if label.base == stem]
        base = None if mine else image_base(stem)
        if base is not None and base not in images:
            mine = [label for label in labels if label.base == base]
        labels = [label for label in labels if label not in mine]
        used, unused = _labelling(mine)
        findings += [_not_used(label.path, used[0].path) for label in unused]
        if used:
            found.append(Pair(stem, image, tuple(label.path for label in used)))
        else:
            text = f"{image} has no label file."
            findings.append(Finding("error", "images without a label file", text))
    for label in labels:
        text = f"{label.path} belongs to no image."
        findings.append(Finding("error", "labels without an image", text))
    return found, findings


def _known(files: Iterable[Path]) -> list[Path]:
    return sorted(path for path in files if stem_of(path) is not None)


def _told_apart(
    files: Iterable[Path], separate: bool
) -> tuple[dict[str, list[Path]], list[_Label]]:
    """Sort the files of one folder into images by stem, and labels."""
    known = [(path, str(stem_of(path))) for path in _known(files)]
    candidates = [
        label for path, stem in known if (label := _as_label(path, stem)) is not None
    ]
    bases = {label.base for label in candidates}
    by_name = {label.path for label in candidates}
    plain = {stem for path, stem in known if path not in by_name}
    plain |= {base for stem in plain if (base := image_base(stem))}
    images: dict[str, list[Path]] = {}
    labels = {label.path: label for label in candidates}
    for path, stem in known:
        label = labels.get(path)
        # An image may be called NAME_seg, if it has NAME_seg_label and there is no NAME.
        is_image = separate or stem in bases
        if label is None or (label.base not in plain and is_image):
            labels.pop(path, None)
            images.setdefault(stem, []).append(path)
    return images, list(labels.values())


def _as_label(path: Path, stem: str) -> _Label | None:
    name = as_label(stem)
    return None if name is None else _Label(path, *name)


def _own_folder(path: Path, images: dict[str, list[Path]]) -> _Label:
    """Read the name of a file that is a label because of its folder."""
    stem = str(stem_of(path))
    if stem in images:
        return _Label(path, stem, 0, 1)
    return _as_label(path, stem) or _Label(path, stem, 0, 1)


def _labelling(labels: Sequence[_Label]) -> tuple[list[_Label], list[_Label]]:
    """Choose labels of one word, one of each number; return the others as well."""
    order = sorted(labels, key=lambda one: (one.family, one.number, one.path))
    used: list[_Label] = []
    for label in order:
        numbers = {other.number for other in used}
        if label.number not in numbers and label.family == order[0].family:
            used.append(label)
    return used, [label for label in order if label not in used]


def _preference(path: Path) -> int:
    lower = path.name.lower()
    return next(i for i, suffix in enumerate(SUFFIXES) if lower.endswith(suffix))


def _not_used(path: Path, instead: Path) -> Finding:
    text = f"{path} is not used: {instead.name} replaces it."
    return Finding("warning", "several files for the same thing", text)
