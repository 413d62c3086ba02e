"""SA-1B: folders of images, NAME.jpg, and their masks, NAME.json.

Kirillov et al., Segment Anything, ICCV 2023, section 5; the data set has its own licence, which
allows research.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from napari_tinysam.errors import DataError, FileError, sentence
from napari_tinysam.files.planes import read_plane
from tinysam_training.data.findings import Finding, FoundEntries
from tinysam_training.data.fingerprints import combined, file_fingerprint
from tinysam_training.data.sources.mask_layers import MAX_LAYERS, mask_layers
from tinysam_training.labelled_image import ImageEntry, LabelledImage

_IMAGES = (".jpg", ".jpeg", ".png")


def find_sa1b(
    folder: str | Path,
    *,
    complete: bool = False,
    dataset: str = "sa1b",
    max_layers: int = MAX_LAYERS,
) -> FoundEntries:
    """List the images of SA-1B in a folder and its sub-folders.

    Parameters
    ----------
    folder : path
        With NAME.jpg and NAME.json.
    complete : bool
        Whether a pixel without mask is background. In SA-1B it is not.
    dataset : str
        The set that they belong to.
    max_layers : int
        See `mask_layers`.

    Returns
    -------
    FoundEntries
        By path, with findings about images without masks and masks without image.

    Raises
    ------
    DataError
        If there are none.
    """
    root = Path(folder)
    found = FoundEntries()
    try:
        paths = sorted(p for p in root.rglob("*") if not p.name.startswith("."))
    except OSError as error:
        raise DataError(sentence(error, f"{root} cannot be read")) from error
    images = {p.with_suffix(""): p for p in paths if p.suffix.lower() in _IMAGES}
    masks = {p.with_suffix(""): p for p in paths if p.suffix.lower() == ".json"}
    for stem in sorted(images.keys() | masks.keys()):
        if stem not in images:
            text = f"{masks[stem]} belongs to no image."
            found.findings.append(Finding("error", "labels without an image", text))
        elif stem not in masks:
            text = f"{images[stem]} has no label file."
            found.findings.append(Finding("error", "images without a label file", text))
        else:
            name = f"{dataset}/{stem.relative_to(root).as_posix()}"
            read = partial(
                read_sa1b,
                images[stem],
                masks[stem],
                name=name,
                dataset=dataset,
                complete=complete,
                max_layers=max_layers,
            )
            try:
                files = [file_fingerprint(p) for p in (images[stem], masks[stem])]
            except DataError as error:
                found.findings.append(Finding("error", "cannot be used", str(error)))
                continue
            fingerprint = combined(files, complete, max_layers)
            found.append(ImageEntry(name, dataset, complete, read, fingerprint))
    if not found and not found.findings:
        raise DataError(f"{root} holds no images of SA-1B (NAME.jpg and NAME.json).")
    return found


def read_sa1b(
    image: Path,
    masks: Path,
    *,
    name: str,
    dataset: str,
    complete: bool = False,
    max_layers: int = MAX_LAYERS,
) -> LabelledImage:
    """Read an image and the JSON file with its masks.

    Raises
    ------
    DataError
        If one cannot be read, or pycocotools is missing.
    """
    found = read_json(masks)
    annotations = found.get("annotations") if isinstance(found, dict) else None
    if not isinstance(annotations, list) or not all(
        isinstance(one, dict) and "segmentation" in one for one in annotations
    ):
        raise DataError(f"{masks} has no masks in the format of SA-1B.")
    return image_with_masks(
        image,
        [one["segmentation"] for one in annotations],
        name=name,
        dataset=dataset,
        complete=complete,
        max_layers=max_layers,
    )


def image_with_masks(
    image: Path,
    masks: list[Any],
    *,
    name: str,
    dataset: str,
    complete: bool,
    max_layers: int,
) -> LabelledImage:
    """Read an image whose objects are masks as `mask_layers` takes them.

    Raises
    ------
    DataError
        If the image cannot be read, or a mask does not fit.
    """
    try:
        plane = read_plane(image)
    except FileError as error:
        raise DataError(str(error)) from error
    try:
        labels = mask_layers(masks, plane.size, max_layers)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    return LabelledImage.from_arrays(
        name, dataset, plane.pixels, labels, complete=complete, **plane.options
    )


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(sentence(error, f"{path} cannot be read")) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: it is not JSON.") from error
