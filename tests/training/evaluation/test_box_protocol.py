"""AP of boxes as prompts, on a COCO set small enough for counting by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from PIL import Image

from analytic_runtime import analytic_predictor
from napari_tinysam.errors import DataError
from tinysam_training.evaluation.box_protocol import (
    LVIS_DETECTIONS,
    box_ap,
    coco_ap,
    lvis_ap,
    read_annotations,
    read_detections,
    segment_detections,
)

if TYPE_CHECKING:
    from pathlib import Path

#: x, y, width, height of the true objects: category 1 in both images, 2 in the second.
OBJECTS = {
    1: (1, 1, (4, 4, 16, 10)),
    2: (2, 1, (20, 30, 16, 10)),
    3: (2, 2, (2, 2, 12, 12)),
}

#: Image, category, score, box. The box is the mask: the runtime fills it.
DETECTIONS = [
    (1, 1, 0.95, (40, 40, 10, 10)),  # nothing there
    (1, 1, 0.9, (4, 4, 16, 10)),  # IoU 1
    (2, 1, 0.8, (20, 30, 10, 10)),  # IoU 0.625
    (2, 2, 0.7, (2, 2, 12, 12)),  # IoU 1
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2):
        Image.new("L", (64, 64)).save(tmp_path / f"{number}.png")
    return tmp_path


def written(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def annotations(folder: Path, **of_images: dict[int, list[int]]) -> Any:
    """The set's annotations; with lists of category ids by image for LVIS."""
    content = {
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": 64, "height": 64}
            | {name: ids.get(n, []) for name, ids in of_images.items()}
            for n in (1, 2)
        ],
        "categories": [
            {"id": 1, "name": "a", "frequency": "f"},
            {"id": 2, "name": "b", "frequency": "r"},
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": [x, y, w, h],
                "area": w * h,
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            }
            | ({} if of_images else {"iscrowd": 0})
            for number, (image, category, (x, y, w, h)) in OBJECTS.items()
        ],
    }
    return read_annotations(written(folder, "annotations.json", content))


def written_detections(folder: Path, rows: list[Any]) -> Path:
    content = [
        {"image_id": i, "category_id": c, "score": s, "bbox": b} for i, c, s, b in rows
    ]
    return written(folder, "detections.json", content)


def results(folder: Path, truth: Any, rows: list[Any], **options: Any) -> list[Any]:
    found = read_detections(written_detections(folder, rows))
    return segment_detections(analytic_predictor(), truth, folder, found, **options)


#: Precision 0, 1/2, 2/3 at recall 0, 1/2, 1, so 2/3 everywhere, where IoU 0.625 suffices (at 0.50,
#: 0.55, 0.60); else 1/2 up to recall 1/2, which is 51 of 101 places, and 0 after.
AP_OF_1 = (3 * 2 / 3 + 7 * 51 / 101 / 2) / 10


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_every_box_is_a_prompt(folder: Path) -> None:
    from pycocotools import mask as rle

    seen = []
    found = results(
        folder, annotations(folder), DETECTIONS, progress=lambda *n: seen.append(n)
    )
    assert seen == [(1, 2), (2, 2)]
    for row, (image, category, score, (x, y, w, h)) in zip(
        found, DETECTIONS, strict=True
    ):
        assert (row["image_id"], row["category_id"]) == (image, category)
        assert row["score"] == score
        expected = np.zeros((64, 64), bool)
        expected[y : y + h, x : x + w] = True
        assert np.array_equal(rle.decode(row["segmentation"]), expected)


def test_coco_ap_by_hand(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = annotations(folder)
    figures = coco_ap(truth, results(folder, truth, DETECTIONS))
    assert figures["ap"] == pytest.approx((AP_OF_1 + 1) / 2)
    assert figures["ap50"] == pytest.approx((2 / 3 + 1) / 2)
    assert figures["ap75"] == pytest.approx((51 / 101 / 2 + 1) / 2)
    assert figures["ap_small"] == figures["ap"]  # all below 32² pixels
    assert figures["ap_medium"] is None
    assert figures["ap_large"] is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("rules", ["coco", "lvis"])
def test_the_whole_protocol_from_files(
    folder: Path, rules: Literal["coco", "lvis"]
) -> None:
    lists = {"neg_category_ids": {1: [2]}} if rules == "lvis" else {}
    truth = annotations(folder, **lists)
    figures = box_ap(
        analytic_predictor(),
        folder / "annotations.json",
        folder,
        written_detections(folder, DETECTIONS),
        rules=rules,
    )
    judge = {"coco": coco_ap, "lvis": lvis_ap}[rules]
    assert figures == judge(truth, results(folder, truth, DETECTIONS))
    assert figures["ap"] == pytest.approx((AP_OF_1 + 1) / 2)


def test_only_the_best_detections_are_prompts(folder: Path) -> None:
    found = results(folder, annotations(folder), DETECTIONS, limit=1)
    assert [row["score"] for row in found] == [0.95, 0.8]


def test_nothing_detected(folder: Path) -> None:
    truth = annotations(folder)
    assert results(folder, truth, []) == []
    elsewhere = [(9, 1, 0.9, (1, 1, 5, 5))]  # an image that is not annotated
    assert results(folder, truth, elsewhere) == []
    assert coco_ap(truth, [])["ap"] == 0


def test_lvis_rules_by_hand(folder: Path) -> None:
    more = [*DETECTIONS, (1, 2, 0.99, (30, 30, 9, 9))]
    # As COCO, where everything was looked for and drawn: the first detection of 2 is wrong, so
    # its precision is 1/2 everywhere.
    truth = annotations(folder, neg_category_ids={1: [2]})
    figures = lvis_ap(truth, results(folder, truth, more, limit=LVIS_DETECTIONS))
    assert figures["ap"] == pytest.approx((AP_OF_1 + 1 / 2) / 2)
    assert figures["ap_frequent"] == pytest.approx(AP_OF_1)
    assert figures["ap_rare"] == pytest.approx(1 / 2)
    assert figures["ap_common"] is None
    # Nobody looked for 2 in the first image: that detection does not count.
    truth = annotations(folder, neg_category_ids={})
    figures = lvis_ap(truth, results(folder, truth, more))
    assert figures["ap_rare"] == pytest.approx(1)
    assert figures["ap_frequent"] == pytest.approx(AP_OF_1)
    # Not every 1 was drawn in the first image: the unmatched one may be right. Now precision is 1,
    # or 1 up to recall 1/2.
    truth = annotations(folder, not_exhaustive_category_ids={1: [1]})
    figures = lvis_ap(truth, results(folder, truth, more))
    assert figures["ap_frequent"] == pytest.approx((3 + 7 * 51 / 101) / 10)


def test_images_of_lvis_are_found_by_their_address(folder: Path) -> None:
    truth = annotations(folder)
    for number, image in truth.imgs.items():
        del image["file_name"]
        image["coco_url"] = f"http://images.example.org/train2017/{number}.png"
    assert len(results(folder, truth, DETECTIONS)) == 4
    (folder / "train2017").mkdir()
    (folder / "1.png").rename(folder / "train2017" / "1.png")
    assert len(results(folder, truth, DETECTIONS)) == 4


def test_what_cannot_be_read_is_said(folder: Path) -> None:
    (folder / "broken.json").write_text("{")
    for read, words in (
        (read_annotations, "COCO annotations"),
        (read_detections, "detections in COCO's result format"),
    ):
        with pytest.raises(DataError, match="cannot be read"):
            read(folder / "missing.json")
        with pytest.raises(DataError, match="is not a JSON file"):
            read(folder / "broken.json")
        with pytest.raises(DataError, match=words):
            read(written(folder, "other.json", {"a": 1}))
    truth = annotations(folder)
    (folder / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png cannot be read"):
        results(folder, truth, DETECTIONS)
