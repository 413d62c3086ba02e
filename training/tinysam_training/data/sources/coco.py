"""Annotations in COCO format: one JSON file for many images, with polygons or run lengths."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from napari_tinysam.errors import DataError
from tinysam_training.data.findings import Finding, FoundEntries
from tinysam_training.data.fingerprints import combined, file_fingerprint
from tinysam_training.data.sources.mask_layers import MAX_LAYERS
from tinysam_training.data.sources.sa1b import image_with_masks, read_json
from tinysam_training.labelled_image import ImageEntry


def find_coco(
    annotations: str | Path,
    images: str | Path | None = None,
    *,
    complete: bool = False,
    dataset: str | None = None,
    max_layers: int = MAX_LAYERS,
) -> FoundEntries:
    """List the images of a COCO file.

    Crowd regions are not objects: they are left out, and their image counts as partly annotated.

    Parameters
    ----------
    annotations : path
        The JSON file.
    images : path, optional
        The folder of images. Without it, the folder of the JSON file, or ``images`` in or beside
        it.
    complete : bool
        Whether a pixel without mask is background.
    dataset : str, optional
        The set that they belong to; by default the name of the JSON file.
    max_layers : int
        See `mask_layers`.

    Returns
    -------
    FoundEntries
        In the file's order, with findings about images that are missing or have no objects.

    Raises
    ------
    DataError
        If the JSON file cannot be read or is of another format.
    """
    path = Path(annotations)
    listed, by_image = _content(path)
    dataset = dataset or path.stem
    folders = [Path(images)] if images is not None else _image_folders(path)
    found = FoundEntries()
    names: set[str] = set()
    for one in listed:
        file_name = str(one["file_name"])
        image = next(
            (f / file_name for f in folders if (f / file_name).is_file()), None
        )
        mine = by_image.get(one["id"], [])
        if image is None:
            text = f"{file_name} of {path} is not in {folders[0]}."
            found.findings.append(Finding("error", "labels without an image", text))
            continue
        masks = [a["segmentation"] for a in mine if not a.get("iscrowd")]
        if not masks:
            text = f"{image} has no objects in {path.name}."
            found.findings.append(Finding("error", "no objects", text))
            continue
        name = f"{dataset}/{Path(file_name).with_suffix('').as_posix()}"
        if name in names:
            name = f"{dataset}/{file_name} ({one['id']})"
        names.add(name)
        known = complete and len(masks) == len(mine)
        try:
            fingerprint = combined(
                file_fingerprint(image),
                json.dumps(masks, sort_keys=True),
                known,
                max_layers,
            )
        except DataError as error:
            found.findings.append(Finding("error", "cannot be used", str(error)))
            continue
        read = partial(
            image_with_masks,
            image,
            masks,
            name=name,
            dataset=dataset,
            complete=known,
            max_layers=max_layers,
        )
        found.append(ImageEntry(name, dataset, known, read, fingerprint))
    return found


def _content(path: Path) -> tuple[list[dict[str, Any]], dict[Any, list[Any]]]:
    """Images, and annotations by the id of their image."""
    found = read_json(path)
    try:
        listed = list(found["images"])
        by_image: dict[Any, list[Any]] = {one["id"]: [] for one in listed}
        _ = [one["file_name"] for one in listed]
        for annotation in found["annotations"]:
            _ = annotation["segmentation"]
            by_image.setdefault(annotation["image_id"], []).append(annotation)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not in the format of COCO.") from error
    return listed, by_image


def _image_folders(path: Path) -> list[Path]:
    """List the usual folders for the images of a COCO file."""
    above = path.absolute().parent
    subset = path.stem.removeprefix("instances_")
    return [
        above,
        above / "images",
        above.parent,
        above.parent / "images",
        above.parent / subset,
        above.parent / "images" / subset,
    ]
