"""COCO's JSON (https://cocodataset.org/#format-data): masks as compressed run lengths."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_tinysam.batch.forms.found import FoundObject, FoundObjects
    from napari_tinysam.masks import BoxedMask


def coco(found: FoundObjects, classes: Sequence[str] = ()) -> bytes:
    """Write the objects as COCO's annotations; each plane is an image of its own.

    Parameters
    ----------
    found : FoundObjects
        The class of an object, if it has one, is the "class" of its row.
    classes : sequence of str
        Names of the categories, counted from 1; objects without a class are in a last one.
    """
    numbers = {name: number for number, name in enumerate((*classes, ""), start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, plane in enumerate(found.planes, start=1):
        height, width = plane.labels.shape
        image = {"id": number, "file_name": found.image}
        place = dict(zip(found.names, plane.index, strict=True))
        images.append({**image, "width": width, "height": height, **place})
        for each in plane:
            # COCO counts from 1: an annotation of number 0 is taken for no match.
            known = {"id": len(annotations) + 1, "image_id": number}
            category = numbers.get(each.row.get("class", ""), numbers[""])
            annotations.append({**known, **_annotation(each, category)})
    content = {
        "info": {"description": "Objects found by napari-tinysam"},
        "images": images,
        "categories": [
            {"id": number, "name": name or "object", "supercategory": "object"}
            for name, number in numbers.items()
        ],
        "annotations": annotations,
    }
    return json.dumps(content, separators=(",", ":")).encode()


def _annotation(found: FoundObject, category: int) -> dict[str, Any]:
    mask = found.mask
    height, width = mask.mask.shape
    size = [int(length) for length in mask.shape]
    annotation = {
        "category_id": category,
        "iscrowd": 0,
        "area": int(mask.area),
        "bbox": [mask.x0, mask.y0, width, height],
        "segmentation": {"size": size, "counts": compressed(run_lengths(mask))},
        "label": found.label,
    }
    if "score" in found.row:
        annotation["score"] = found.row["score"]
    return annotation


def run_lengths(mask: BoxedMask) -> list[int]:
    """Return the lengths of runs outside and inside a mask in turn, down each column.

    The first run is outside, and may be empty.
    """
    height, width = mask.shape
    padded = np.pad(mask.mask.T, ((0, 0), (1, 1))).astype(np.int8)
    change = np.diff(padded, axis=1)
    x, first = np.nonzero(change > 0)
    last = np.nonzero(change < 0)[1]
    begin = (x + mask.x0) * height + mask.y0
    ends = begin + last
    begin += first
    # A run that reaches the lower border goes on at the top of the next column.
    apart = begin[1:] != ends[:-1]
    begin, ends = begin[np.r_[True, apart]], ends[np.r_[apart, True]]
    borders = np.stack([begin, ends], axis=1).ravel()
    lengths: npt.NDArray[np.int64] = np.diff(borders, prepend=0, append=height * width)
    return [int(n) for n in (lengths if lengths[-1] else lengths[:-1])]


def compressed(lengths: list[int]) -> str:
    """Write run lengths as COCO's string.

    From the third on, a length is written as its difference to the one two before it; in digits
    of 5 bits, the lowest first, with a sixth bit that says whether more follow (``rleToString`` in
    https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c).
    """
    text = bytearray()
    for number, length in enumerate(lengths):
        value = length - lengths[number - 2] if number > 2 else length
        more = True
        while more:
            digit = value & 31
            value >>= 5
            more = value != (-1 if digit & 16 else 0)
            text.append(48 + (digit | 32 if more else digit))
    return text.decode("ascii")
