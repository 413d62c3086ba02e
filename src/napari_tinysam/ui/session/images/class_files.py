"""Files of the classes of an image's objects: a table, and COCO's JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.files.atomic import replacing, write_text

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

_COLUMNS = ("label", "class", "pixels")


def class_table(labels: Path) -> Path:
    """Return the table that belongs to a label file: NAME_classes.csv."""
    return labels.with_name(f"{labels.stem.removesuffix('_labels')}_classes.csv")


def read_classes(labels: Path) -> dict[int, str]:
    """Return the names of the classes of a label file's objects, by their ids; {} without any."""
    try:
        text = class_table(labels).read_text("utf-8")
        rows = csv.DictReader(io.StringIO(text))
        return {int(row["label"]): row["class"] for row in rows if row["class"]}
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return {}


def write_classes(
    labels_file: Path,
    image: str,
    labels: npt.NDArray[Any],
    classes: Mapping[int, str],
    names: Sequence[str],
) -> None:
    """Write which object has which class: NAME_classes.csv and NAME_coco.json.

    Parameters
    ----------
    labels_file : Path
        NAME_labels.tif.
    image : str
        Name of the image's file.
    labels : ndarray of int, (…, H, W)
    classes : mapping of int to str
        By id; objects may have none.
    names : sequence of str
        Of all classes, in order.

    Raises
    ------
    FileError
        If a file cannot be written.
    """
    ids, counts = np.unique(labels, return_counts=True)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for label, count in zip(ids.tolist(), counts.tolist(), strict=True):
        if label:
            table.writerow((label, classes.get(label, ""), count))
    path = class_table(labels_file)
    write_text(path, text.getvalue())
    with replacing(
        path.with_name(path.name.replace("_classes.csv", "_coco.json"))
    ) as file:
        file.write(_coco(image, labels, classes, names))


def _coco(
    image: str,
    labels: npt.NDArray[Any],
    classes: Mapping[int, str],
    names: Sequence[str],
) -> bytes:
    from napari_tinysam.batch.forms.coco import coco
    from napari_tinysam.batch.forms.found import FoundObjects, PlaneObjects

    rows: list[dict[str, Any]] = [
        {"label": label, "class": name} for label, name in classes.items()
    ]
    axes = (
        "TZ"[-(labels.ndim - 2) :] if 2 < labels.ndim <= 4 else "Q" * (labels.ndim - 2)
    )
    planes = [
        PlaneObjects(index, np.asarray(labels[index], np.int64), rows)
        for index in np.ndindex(labels.shape[:-2])
    ]
    places = [f"axis_{number}" for number in range(labels.ndim - 2)]
    return coco(FoundObjects(image, axes, places, planes), names)
