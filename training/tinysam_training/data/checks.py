"""Checks training data before use: reads every image once, and reports all problems together."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.errors import DataError, sentence
from napari_tinysam.frame import FRAME
from tinysam_training.data.findings import Finding, findings_of
from tinysam_training.data.report import DataReport, ImageFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from tinysam_training.labelled_image import ImageEntry, LabelledImage

#: Objects of fewer pixels are specks.
SPECK_PIXELS = 10

#: Images are very large if their longer side exceeds the frame this many times.
LARGE_SCALE = 4

#: Images have little contrast if their gray values span fewer than this many of 256.
LOW_CONTRAST = 8

#: At most two labels, in at least this many pieces each, are classes rather than objects.
SEMANTIC_PIECES = 4

#: Images with thumbnails that correlate more than this are the same.
SAME_CORRELATION = 0.999

#: Digits of `ImageFacts.pixels`.
PIXELS = 16

_THUMBNAIL = 32

# Images that are checked at the same time. More would need much memory if they are large.
_READERS = 4

# Contrast is measured on about this many pixels.
_CONTRAST_SAMPLE = 100_000


@dataclass(frozen=True)
class _Seen:
    """One usable image, already read."""

    entry: ImageEntry
    facts: ImageFacts
    pixels: str  # hash of rgb
    thumbnail: npt.NDArray[np.float32]


def check_data(
    train: Sequence[ImageEntry],
    val: Sequence[ImageEntry] = (),
    *,
    background: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> DataReport:
    """Read every image once and find problems for training.

    Images that cannot be read, have no objects, no contrast or no labels of single objects are left
    out. So are training images that equal a validation image, pixel by pixel. Anything else is a
    warning.

    Parameters
    ----------
    train, val : sequence of ImageEntry
        From `find_pairs`, `find_sa1b`, `find_coco` or `from_arrays`. Validation data may be
        missing.
    background : bool
        Whether complete images without objects are used: they show what is no object.
    progress : callable, optional
        Called after each image with the number read and the total. If it raises, the check ends.

    Returns
    -------
    DataReport
    """
    total = len(train) + len(val)
    done = 0
    findings = [*findings_of(train), *findings_of(val)]
    seen: list[list[_Seen]] = []
    readers = ThreadPoolExecutor(_READERS)
    look_at = partial(_look_at, background=background)
    try:
        for entries in (train, val):
            usable = []
            for found, image in readers.map(look_at, entries):
                findings += found
                usable += [image] if image is not None else []
                done += 1
                if progress is not None:
                    progress(done, total)
            seen.append(usable)
    finally:
        readers.shutdown(cancel_futures=True)
    train_seen, val_seen = seen
    findings += _repeated(train_seen)
    kept = _without_val(train_seen, val_seen, findings)
    findings += _alike(kept, val_seen)
    if not kept:
        text = "There is no image to train on."
        if any(finding.severity == "error" for finding in findings):
            text = "There is no image to train on: all were left out."
        if not any(finding.severity == "fatal" for finding in findings):
            findings.append(Finding("fatal", "nothing to train on", text))
    if val and not val_seen:
        text = "No validation image can be used."
        findings.append(Finding("warning", "nothing to validate on", text))
    return DataReport(
        findings=tuple(findings),
        usable_train=tuple(one.entry for one in kept),
        usable_val=tuple(one.entry for one in val_seen),
        train_facts=tuple(one.facts for one in kept),
        val_facts=tuple(one.facts for one in val_seen),
    )


def _look_at(
    entry: ImageEntry, *, background: bool
) -> tuple[list[Finding], _Seen | None]:
    """Read one image; the second is None if it cannot be used."""
    try:
        image = _read(entry)
    except DataError as error:
        return [Finding("error", "cannot be used", str(error))], None
    hashed = hashlib.sha256(repr(image.rgb.shape).encode())
    hashed.update(np.ascontiguousarray(image.rgb).data)
    pixels = hashed.hexdigest()
    facts = replace(_facts(image), pixels=pixels[:PIXELS])
    findings = _image_findings(image)
    if len(facts.diameters) or not (background and image.complete):
        findings = [*_label_findings(image, facts), *findings]
    if any(finding.severity == "error" for finding in findings):
        return findings, None
    return findings, _Seen(entry, facts, pixels, _thumbnail(image.rgb))


def _read(entry: ImageEntry) -> LabelledImage:
    try:
        return entry.read()
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"There is not enough memory to read {entry.name}.") from error
    except Exception as error:  # the report shows every problem
        raise DataError(sentence(error, f"{entry.name} cannot be read")) from error


def _facts(image: LabelledImage) -> ImageFacts:
    areas = [np.bincount(layer.ravel())[1:] for layer in image.labels]
    diameters = np.sqrt(np.concatenate(areas) * (4 / np.pi))
    height, width = image.rgb.shape[:2]
    return ImageFacts(image.dataset, diameters, FRAME / max(height, width))


def _label_findings(image: LabelledImage, facts: ImageFacts) -> list[Finding]:
    name, count = image.name, len(facts.diameters)
    if count == 0:
        return [Finding("error", "no objects", f"{name} has no objects.")]
    findings = []
    specks = int((facts.diameters**2 * (np.pi / 4) < SPECK_PIXELS - 0.5).sum())
    if specks:
        text = f"{name}: {specks} of {count} objects have fewer than {SPECK_PIXELS} pixels."
        findings.append(Finding("warning", "tiny objects", text))
    pieces = np.concatenate([_pieces(layer) for layer in image.labels])
    if count <= 2 and pieces.sum() >= SEMANTIC_PIECES * count:
        text = (
            f"{name} has {count} {'label' if count == 1 else 'labels'} in {pieces.sum()} places: "
            "its labels seem to be classes, not objects. Give each object a number of "
            "its own."
        )
        return [Finding("error", "labels of classes, not of objects", text)]
    split = int((pieces > 1).sum())
    if split:
        text = f"{name}: {split} of {count} objects, with up to {pieces.max()} pieces."
        findings.append(Finding("warning", "objects in pieces", text))
    return findings


def _image_findings(image: LabelledImage) -> list[Finding]:
    findings = []
    name, (height, width) = image.name, image.rgb.shape[:2]
    if max(height, width) > LARGE_SCALE * FRAME:
        text = (
            f"{name} has {width} × {height} pixels; the model sees {FRAME}. Cut it into parts if "
            "its objects are small."
        )
        findings.append(Finding("warning", "very large images", text))
    pixels = image.rgb.reshape(-1, 3)
    sample = pixels[:: max(1, len(pixels) // _CONTRAST_SAMPLE)]
    low, high = np.percentile(sample, (0.5, 99.5))
    if high - low < LOW_CONTRAST:
        if pixels.min() == pixels.max():
            text = f"{name} has the same value everywhere."
            findings.append(Finding("error", "images without contrast", text))
        else:
            text = (
                f"{name}: nearly all gray values are between {low:.0f} and {high:.0f}."
            )
            findings.append(Finding("warning", "images with little contrast", text))
    return findings


def _pieces(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Count the pieces of each object, without specks beside a larger piece."""
    from skimage.measure import label

    parts = label(labels, connectivity=2)
    areas = np.bincount(parts.ravel())
    owners = np.zeros(len(areas), np.int64)
    owners[parts.ravel()] = labels.ravel()
    counted = areas >= SPECK_PIXELS
    counted[0] = False
    count = int(labels.max(initial=0))
    found = np.bincount(owners[counted], minlength=count + 1)[1:]
    return np.asarray(np.maximum(found, 1), np.int64)


def _thumbnail(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Mean gray of a lattice of cells as a vector of length 1, whatever the size of the image."""
    height, width = rgb.shape[:2]
    bands = _cell_weights(height) @ rgb.reshape(height, -1).astype(np.float32)
    gray = bands.reshape(_THUMBNAIL, width, 3).mean(axis=2)
    vector = (gray @ _cell_weights(width).T).ravel()
    vector -= vector.mean()
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-6), np.float32)


def _cell_weights(length: int) -> npt.NDArray[np.float32]:
    """(cells, length): share of a cell that each pixel covers, cut pixels included."""
    edges = np.linspace(0, length, _THUMBNAIL + 1)[:, np.newaxis]
    pixels = np.arange(length)
    overlap = np.minimum(pixels + 1, edges[1:]) - np.maximum(pixels, edges[:-1])
    return np.asarray(np.maximum(overlap, 0) * (_THUMBNAIL / length), np.float32)


def _repeated(images: list[_Seen]) -> list[Finding]:
    """Find images that occur more than once in the training data."""
    first: dict[str, str] = {}
    findings = []
    for image in images:
        name = image.entry.name
        other = first.setdefault(image.pixels, name)
        if other != name:
            text = f"{name} is the same image as {other}."
            findings.append(Finding("warning", "duplicate images", text))
    return findings


def _without_val(
    train: list[_Seen], val: list[_Seen], findings: list[Finding]
) -> list[_Seen]:
    """Return the training images that are not also validation images."""
    names = {image.pixels: image.entry.name for image in val}
    kept = [image for image in train if image.pixels not in names]
    if len(kept) == len(train):
        return kept
    trained = {image.pixels for image in train}
    if all(image.pixels in trained for image in val):
        text = (
            "All validation images are also training images, so the validation would be "
            "meaningless. Give other images, from other samples if possible."
        )
        findings.append(Finding("fatal", "validation on training images", text))
        return kept
    for image in train:
        if image.pixels in names:
            text = (
                f"{image.entry.name} is left out of training: it is the same image as "
                f"{names[image.pixels]}."
            )
            kind = "validation images among the training images"
            findings.append(Finding("warning", kind, text))
    return kept


def _alike(train: list[_Seen], val: list[_Seen]) -> list[Finding]:
    """Find validation images that nearly equal training images: resized, or the next frame."""
    if not train or not val:
        return []
    vectors = np.stack([image.thumbnail for image in train])
    findings = []
    for image in val:
        correlations = vectors @ image.thumbnail
        nearest = int(correlations.argmax())
        if correlations[nearest] > SAME_CORRELATION:
            other = train[nearest].entry.name
            text = f"{image.entry.name} looks like the training image {other}."
            kind = "validation images like a training image"
            findings.append(Finding("warning", kind, text))
    return findings
