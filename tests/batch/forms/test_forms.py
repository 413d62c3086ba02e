"""Objects in the forms of other programs: each is read back and drawn again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import points_in_poly

from napari_tinysam.batch.forms import FORMS, FoundObjects
from napari_tinysam.batch.forms.found import PlaneObjects


def found(*planes: np.ndarray, axes: str = "") -> FoundObjects:
    made = []
    for number, labels in enumerate(planes):
        rows = [
            {"label": int(n), "area": int((labels == n).sum()), "score": 0.5}
            for n in np.unique(labels)
            if n
        ]
        made.append(PlaneObjects((number,) if axes else (), labels, rows))
    return FoundObjects("cells.tif", axes, [axes.lower()] if axes else [], made)


@pytest.fixture
def plane() -> np.ndarray:
    """A rectangle, a ring, two pieces of one object, and a column from border to border."""
    labels = np.zeros((20, 31), np.int32)
    labels[2:5, 3:9] = 1
    labels[8:14, 4:12] = 2
    labels[10:12, 6:9] = 0
    labels[2:4, 14:16] = labels[7:9, 14:20] = 3
    labels[:, 25:27] = 5
    return labels


def drawn(rings: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Fill rings by the even-odd rule."""
    y, x = np.indices(shape)
    centres = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1)
    inside = [points_in_poly(centres, np.asarray(ring)) for ring in rings]
    return np.logical_xor.reduce(inside).reshape(shape)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@given(
    arrays(
        np.int32,
        st.tuples(st.integers(1, 12), st.integers(1, 9)),
        elements=st.integers(0, 3),
    )
)
def test_coco_is_what_pycocotools_reads(labels: np.ndarray) -> None:
    mask_api = pytest.importorskip("pycocotools.mask")
    content = json.loads(FORMS["coco"].encode(found(labels)))
    again = np.zeros_like(labels)
    for each in content["annotations"]:
        mask = mask_api.decode(each["segmentation"])
        assert mask.sum() == each["area"]
        assert mask_api.toBbox(each["segmentation"]).tolist() == each["bbox"]
        again[mask > 0] = each["label"]
    np.testing.assert_array_equal(again, labels)


def test_coco_of_a_stack_has_an_image_for_each_plane(plane: np.ndarray) -> None:
    content = json.loads(FORMS["coco"].encode(found(plane, plane, axes="Z")))
    assert [image["z"] for image in content["images"]] == [0, 1]
    assert {image["width"] for image in content["images"]} == {31}
    assert [each["id"] for each in content["annotations"]] == list(range(1, 9))
    assert [each["image_id"] for each in content["annotations"]] == [1] * 4 + [2] * 4
    assert {each["score"] for each in content["annotations"]} == {0.5}


def test_geojson_draws_the_same_objects(plane: np.ndarray) -> None:
    content = json.loads(FORMS["geojson"].encode(found(plane)))
    assert content["type"] == "FeatureCollection"
    again = np.zeros_like(plane)
    for feature in content["features"]:
        geometry = feature["geometry"]
        assert "plane" not in geometry
        pieces = geometry["coordinates"]
        if geometry["type"] == "Polygon":
            pieces = [pieces]
        assert all(ring[0] == ring[-1] for piece in pieces for ring in piece)
        mask = drawn([ring for piece in pieces for ring in piece], plane.shape)
        again[mask] = int(feature["properties"]["name"])
        assert feature["properties"]["objectType"] == "detection"
        assert feature["properties"]["measurements"] == {
            "area": mask.sum(),
            "score": 0.5,
        }
    np.testing.assert_array_equal(again, plane)
    assert len({feature["id"] for feature in content["features"]}) == 4


def test_geojson_tells_the_plane(plane: np.ndarray) -> None:
    content = json.loads(FORMS["geojson"].encode(found(plane, plane, axes="Z")))
    (last,) = content["features"][-1:]
    assert last["geometry"]["plane"] == {"c": -1, "z": 1, "t": 0}


def test_rois_draw_the_same_objects(plane: np.ndarray, tmp_path: Path) -> None:
    roifile = pytest.importorskip("roifile")
    path = tmp_path / "rois.zip"
    path.write_bytes(FORMS["roi"].encode(found(plane, plane, axes="Z")))
    rois = roifile.roiread(path)
    again = np.zeros((2, *plane.shape), np.int32)
    for roi in rois:
        if roi.composite:
            rings = [r[:-1] for r in roi.path2coords(roi.multi_coordinates)]
            assert all(len(ring) >= 4 for ring in rings)
        else:
            rings = [roi.coordinates()]
        plane_name, label = roi.name.split("-")
        assert plane_name == f"z{roi.z_position - 1}"
        assert roi.t_position == 0
        mask = drawn(rings, plane.shape)
        again[roi.z_position - 1][mask] = int(label)
    np.testing.assert_array_equal(again, [plane, plane])


def test_no_objects_are_no_error(tmp_path: Path) -> None:
    nothing = found(np.zeros((5, 7), np.int32))
    assert json.loads(FORMS["coco"].encode(nothing))["annotations"] == []
    assert json.loads(FORMS["geojson"].encode(nothing))["features"] == []
    assert FORMS["roi"].encode(nothing).startswith(b"PK")


def test_the_same_objects_give_the_same_file(plane: np.ndarray) -> None:
    pytest.importorskip("roifile")
    for form in FORMS.values():
        assert form.encode(found(plane)) == form.encode(found(plane))
