"""Zero-shot instance segmentation as in the papers: a detector's boxes as prompts, COCO or LVIS AP.

The protocol is Segment Anything's (Kirillov et al., 2023, section 7.4), which TinySAM's table 1
follows with the boxes of a ViTDet-H: each detected box is a prompt, its mask gets the detection's
category and score, and mask AP is computed. The detections are a file in COCO's result format,
``[{"image_id", "category_id", "bbox": [x, y, w, h], "score"}, …]``.

Of the three masks the one with the best predicted score counts, as TinySAM is trained for three
masks only. Boxes go to the model as they are in the file, without regard to half pixels, as in the
official code.

pycocotools does the counting. LVIS annotates each image for some categories only, so its rules are
added here (Gupta et al., "LVIS", CVPR 2019, section 3): detections of categories that were not
checked in an image are dropped, unmatched ones of categories that are not annotated exhaustively
are ignored, and the 300 best of an image count instead of 100 per category.

`box_ap` runs the whole protocol.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_tinysam.errors import DataError, sentence
from napari_tinysam.prompts import Prompts
from tinysam_training.evaluation.simulated_user import BATCH

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.inference.predictor import Predictor

#: Detections that count per image: for COCO in each category, for LVIS in total.
COCO_DETECTIONS, LVIS_DETECTIONS = 100, 300

#: COCO's names of its ranges of areas, and ours.
_AREAS = {"all": "", "small": "_small", "medium": "_medium", "large": "_large"}

#: LVIS' groups of categories by the number of training images, and ours.
_FREQUENCIES = {"r": "_rare", "c": "_common", "f": "_frequent"}

Figures = dict[str, float | None]


def box_ap(
    predictor: Predictor,
    annotations: str | Path,
    images: str | Path,
    detections: str | Path,
    *,
    rules: Literal["coco", "lvis"] = "coco",
    progress: Callable[[int, int], None] | None = None,
) -> Figures:
    """Measure mask AP with a detector's boxes as prompts.

    Parameters
    ----------
    predictor : Predictor
        The model.
    annotations : path
        A json file of COCO or LVIS annotations.
    images : path
        The folder of their images.
    detections : path
        A json file of boxes in COCO's result format.
    rules : {"coco", "lvis"}
        Whose rules count matches.
    progress : callable, optional
        As for `segment_detections`.

    Returns
    -------
    dict
        As from `coco_ap` or `lvis_ap`: 0–1, None where there is nothing to find.

    Raises
    ------
    DataError
        If a file or an image cannot be read.
    """
    truth = read_annotations(annotations)
    lvis = rules == "lvis"
    results = segment_detections(
        predictor,
        truth,
        images,
        read_detections(detections),
        limit=LVIS_DETECTIONS if lvis else COCO_DETECTIONS,
        progress=progress,
    )
    return lvis_ap(truth, results) if lvis else coco_ap(truth, results)


def read_annotations(path: str | Path) -> Any:
    """Read COCO or LVIS annotations.

    Returns
    -------
    pycocotools.coco.COCO
        The index of the file.

    Raises
    ------
    DataError
        If the file cannot be read or holds no annotations.
    """
    content = _read_json(path)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise DataError(f"{path} does not hold COCO annotations.")
    return _index(content)


def read_detections(path: str | Path) -> list[dict[str, Any]]:
    """Read a detector's boxes; raises `DataError` where the file is not in the result format."""
    content = _read_json(path)
    keys = {"image_id", "category_id", "bbox", "score"}
    if not isinstance(content, list) or not all(
        isinstance(row, dict) and keys <= row.keys() for row in content
    ):
        raise DataError(f"{path} does not hold detections in COCO's result format.")
    return content


def segment_detections(
    predictor: Predictor,
    annotations: Any,
    folder: str | Path,
    detections: Iterable[Mapping[str, Any]],
    *,
    limit: int = COCO_DETECTIONS,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Prompt with every detected box.

    Parameters
    ----------
    predictor : Predictor
        The model.
    annotations : pycocotools.coco.COCO
        From `read_annotations`; names the images' files.
    folder : path
        Of the images.
    detections : iterable of dict
        Boxes, from `read_detections`. Those of images that are not annotated are skipped.
    limit : int
        The most detections per image; the best scores count.
    progress : callable, optional
        Called after each image with the number done and the total.

    Returns
    -------
    list of dict
        In COCO's result format: image_id, category_id, score, segmentation (RLE).

    Raises
    ------
    DataError
        If an image cannot be read.
    """
    by_image: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for detection in detections:
        if detection["image_id"] in annotations.imgs:
            by_image[detection["image_id"]].append(detection)
    results: list[dict[str, Any]] = []
    for done, (number, found) in enumerate(by_image.items(), start=1):
        best = sorted(found, key=lambda row: -row["score"])[:limit]
        rgb = _read_image(Path(folder), annotations.imgs[number])
        results += _segment_image(predictor, rgb, best)
        if progress is not None:
            progress(done, len(by_image))
    return results


def _segment_image(
    predictor: Predictor,
    rgb: npt.NDArray[np.uint8],
    detections: Sequence[Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    from pycocotools import mask as rle

    embedding = predictor.encode(rgb)
    for start in range(0, len(detections), BATCH):
        part = detections[start : start + BATCH]
        x, y, width, height = np.array([row["bbox"] for row in part], np.float32).T
        boxes = np.stack([x, y, x + width, y + height], axis=1)
        masks = predictor.predict(embedding, Prompts(boxes=boxes))
        for row, detection in enumerate(part):
            full = masks.boxed(row).to_full()
            yield {
                "image_id": detection["image_id"],
                "category_id": detection["category_id"],
                "score": float(detection["score"]),
                "segmentation": rle.encode(np.asfortranarray(full, np.uint8)),
            }


def coco_ap(annotations: Any, results: Sequence[Mapping[str, Any]]) -> Figures:
    """COCO mask AP.

    Parameters
    ----------
    annotations : pycocotools.coco.COCO
        From `read_annotations`.
    results : sequence of dict
        From `segment_detections`.

    Returns
    -------
    dict
        ``ap`` (mean over IoU 0.50:0.05:0.95), ``ap50``, ``ap75``, and by area ``ap_small``,
        ``ap_medium``, ``ap_large``; 0–1, None where there is nothing to find.
    """
    evaluator = _evaluator(annotations, results)
    with _quiet():
        evaluator.evaluate()
        evaluator.accumulate()
    return _figures(evaluator)


def lvis_ap(annotations: Any, results: Sequence[Mapping[str, Any]]) -> Figures:
    """LVIS mask AP, by its rules for images that are not annotated for every category.

    Parameters
    ----------
    annotations : pycocotools.coco.COCO
        From `read_annotations` of an LVIS file: images have ``neg_category_ids`` and
        ``not_exhaustive_category_ids``, categories ``frequency``.
    results : sequence of dict
        From `segment_detections`, with ``limit=LVIS_DETECTIONS``.

    Returns
    -------
    dict
        As from `coco_ap`, plus ``ap_rare``, ``ap_common``, ``ap_frequent``.
    """
    evaluator = _evaluator(annotations, _judgeable(annotations, results))
    evaluator.params.maxDets = [LVIS_DETECTIONS]
    with _quiet():
        evaluator.evaluate()
    for found in evaluator.evalImgs:
        if found is None:
            continue
        image = annotations.imgs[found["image_id"]]
        if found["category_id"] in image.get("not_exhaustive_category_ids", ()):
            unmatched = found["dtMatches"] == 0
            found["dtIgnore"] = np.logical_or(found["dtIgnore"], unmatched)
    with _quiet():
        evaluator.accumulate()
    figures = _figures(evaluator)
    ids = evaluator.params.catIds
    for letter, name in _FREQUENCIES.items():
        group = [
            k
            for k, category in enumerate(ids)
            if annotations.cats[category].get("frequency") == letter
        ]
        figures[f"ap{name}"] = _mean(evaluator.eval["precision"][:, :, group, 0, -1])
    return figures


def _judgeable(
    annotations: Any, results: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Results of categories that were checked in their image, the best of each image."""
    looked_for: dict[int, set[int]] = {
        number: set(image.get("neg_category_ids", ()))
        for number, image in annotations.imgs.items()
    }
    for annotation in annotations.anns.values():
        looked_for[annotation["image_id"]].add(annotation["category_id"])
    by_image: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in results:
        by_image[row["image_id"]].append(row)
    kept = []
    for number, rows in by_image.items():
        best = sorted(rows, key=lambda row: -row["score"])[:LVIS_DETECTIONS]
        kept += [row for row in best if row["category_id"] in looked_for[number]]
    return kept


def _evaluator(annotations: Any, results: Sequence[Mapping[str, Any]]) -> Any:
    from pycocotools.cocoeval import COCOeval

    # LVIS has no crowds, and lacks the field.
    for annotation in annotations.anns.values():
        annotation.setdefault("iscrowd", 0)
    with _quiet():
        if results:
            found = annotations.loadRes([dict(row) for row in results])
        else:
            found = _index({**annotations.dataset, "annotations": []})
        return COCOeval(annotations, found, "segm")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the output of pycocotools, and its warnings with numpy 2."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def _figures(evaluator: Any) -> Figures:
    # (thresholds, recalls, categories, areas, detections)
    precision = evaluator.eval["precision"][..., -1]
    labels = evaluator.params.areaRngLbl
    figures: Figures = {"ap": _mean(precision[..., labels.index("all")])}
    for threshold in (0.5, 0.75):
        row = np.flatnonzero(np.isclose(evaluator.params.iouThrs, threshold))
        figures[f"ap{threshold * 100:.0f}"] = _mean(precision[row, ..., 0])
    for label, name in _AREAS.items():
        figures[f"ap{name}"] = _mean(precision[..., labels.index(label)])
    return figures


def _mean(precision: npt.NDArray[np.float64]) -> float | None:
    """Mean over the valid entries; -1 stands for nothing to find."""
    there = precision[precision > -1]
    return float(there.mean()) if there.size else None


def _index(content: dict[str, Any]) -> Any:
    from pycocotools.coco import COCO

    index = COCO()
    index.dataset = content
    with _quiet():
        index.createIndex()
    return index


def _read_json(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(sentence(error, f"{path} cannot be read")) from error
    except ValueError as error:
        raise DataError(f"{path} is not a JSON file.") from error


def _read_image(folder: Path, image: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    """Read (H, W, 3) uint8, gray as three equal channels, without stretching contrast."""
    from PIL import Image

    name = image.get("file_name")
    if name is None:  # LVIS: ".../train2017/000000391895.jpg"
        name = "/".join(str(image.get("coco_url", image["id"])).split("/")[-2:])
    path = folder / name
    if not path.exists():
        path = folder / Path(name).name
    try:
        with Image.open(path) as file:
            return np.asarray(file.convert("RGB"))
    except (OSError, ValueError) as error:
        raise DataError(f"The image {path} cannot be read.") from error
