"""What a session left is made again from its provenance, pixel by pixel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_tinysam.errors import FileError
from napari_tinysam.journal.provenance_file import read_provenance, to_text
from napari_tinysam.replay.again import Replayed, replay
from napari_tinysam.replay.comparison import Comparison, compare
from napari_tinysam.replay.image import ReplayedImage
from pixel_runtime import pixel_predictor
from replay.sessions import SESSIONS, Session, open_session


def again(
    one: Session, folder: Path, salt: int = 0
) -> tuple[Replayed, Comparison, np.ndarray]:
    """Write the files of a session and read them again, as another program would."""
    file, image = folder / "cells_provenance.json", folder / "cells.npy"
    file.write_text(to_text(one.told()), encoding="utf-8")
    np.save(image, one.pixels)
    told = read_provenance(file)
    opened = ReplayedImage.open(image, told.about.image)
    predictor = pixel_predictor(salt)
    made = replay(told, opened, lambda model: predictor)
    return made, compare(told, made), made.labels.to_array()


@pytest.mark.parametrize("name", SESSIONS)
def test_the_same_model_gives_the_same_labels(name: str, tmp_path: Path) -> None:
    one = SESSIONS[name]()
    assert not [text for level, text in one.desk.told if level == "error"]
    assert one.labels.any()
    made, compared, labels = again(one, tmp_path)
    np.testing.assert_array_equal(labels, one.labels)
    assert compared.identical
    assert made.prompted
    assert all(each.iou == 1 for each in compared.objects)


def test_another_model_is_compared_object_by_object(tmp_path: Path) -> None:
    one = SESSIONS["edits"]()
    made, compared, labels = again(one, tmp_path, salt=7)
    assert not compared.identical
    assert [each.label for each in compared.objects] == [1, 2]
    assert all(0 < each.iou < 1 for each in compared.objects)
    assert compared.mean == pytest.approx(np.mean([e.iou for e in compared.objects]))
    assert [row[:2] for row in compared.by_origin()] == [("clicks", 2)]
    for each in compared.objects:
        old, new = one.labels == each.label, labels == each.label
        assert each.iou == pytest.approx((old & new).sum() / (old | new).sum())
    assert made.prompted == {1, 2}


def test_with_another_model_undo_and_merges_concern_its_own_masks(
    tmp_path: Path,
) -> None:
    for name in ("undo_and_redo", "merges_and_deletes"):
        one = SESSIONS[name]()
        _, compared, labels = again(one, tmp_path, salt=5)
        # Nothing is left of what was taken back, merged or deleted.
        assert set(np.unique(labels)) == set(np.unique(one.labels))
        assert all(each.iou > 0.5 for each in compared.objects)


def test_what_no_model_predicts_is_put_from_its_pixels(tmp_path: Path) -> None:
    one = SESSIONS["painting"]()
    made, compared, labels = again(one, tmp_path, salt=7)
    painted = next(each for each in compared.objects if each.label == 7)
    assert (painted.again, painted.iou) == (False, 1.0)
    np.testing.assert_array_equal(labels == 7, one.labels == 7)
    assert 8 in made.prompted


def test_a_long_journal_that_has_lost_its_first_pixels_is_replayed_all_the_same(
    tmp_path: Path,
) -> None:
    one = SESSIONS["painting"]()
    told = one.told()
    told.beginning = None
    told.actions = [
        replace(each, boxes=(), changes=(), lost=bool(each.changes))
        for each in told.actions
    ]
    made = replay(told, ReplayedImage(one.pixels), lambda model: pixel_predictor())
    np.testing.assert_array_equal(made.labels.to_array() == 7, one.labels == 7)
    assert set(np.unique(made.labels.to_array())) == set(np.unique(one.labels))
    assert any("not known any more" in remark for remark in made.remarks)


def test_another_image_is_refused(tmp_path: Path) -> None:
    told = SESSIONS["clicks"]().told()
    path = tmp_path / "cells.npy"
    np.save(path, np.zeros((150, 200), np.uint16))
    with pytest.raises(FileError, match=r"not the image .*: its pixels differ\.$"):
        ReplayedImage.open(path, told.about.image)
    np.save(path, np.zeros((15, 20), np.uint16))
    with pytest.raises(FileError, match=r"it has the shape \(15, 20\)"):
        ReplayedImage.open(path, told.about.image)


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".png"])
def test_the_image_is_read_from_any_file(suffix: str, tmp_path: Path) -> None:
    import imageio.v3 as iio
    import tifffile

    path = tmp_path / f"cells{suffix}"
    one = SESSIONS["clicks"]()
    if suffix == ".npy":
        np.save(path, one.pixels)
    elif suffix == ".tif":
        tifffile.imwrite(path, one.pixels, compression="zlib")
    else:
        iio.imwrite(path, one.pixels)
    told = one.told()
    opened = ReplayedImage.open(path, told.about.image)
    made = replay(told, opened, lambda model: pixel_predictor())
    np.testing.assert_array_equal(made.labels.to_array(), one.labels)


def test_a_changed_action_is_named(tmp_path: Path) -> None:
    told = SESSIONS["clicks"]().told()
    number = next(
        n for n, each in enumerate(told.actions) if each.action.name == "commit"
    )
    action = told.actions[number].action
    broken = {**action.arguments, "overlap": "whatever"}
    told.actions[number] = replace(
        told.actions[number], action=replace(action, arguments=broken)
    )
    image = ReplayedImage(SESSIONS["clicks"]().pixels)
    with pytest.raises(FileError, match=rf"Action {action.number} \(commit\)"):
        replay(told, image, lambda model: pixel_predictor())


def test_after_a_crash_the_whole_story_is_there(tmp_path: Path) -> None:
    one = SESSIONS["edits"]()
    pixels, records = one.pixels, one.told().objects
    one.desk.session.close(window_is_gone=True)

    later = open_session(pixels)
    later.do(later.desk.session.recovery.restore)
    target = later.desk.session.target
    assert later.desk.session.objects.of(target).of(records) == records
    later.do(later.desk.session.undo)
    later.do(later.desk.session.redo)
    later.commit(150, 120)
    _, compared, labels = again(later, tmp_path)
    assert compared.identical
    np.testing.assert_array_equal(labels, later.labels)
    assert [each.origin for each in compared.objects] == ["clicks"] * 3
    assert later.told().objects[1] == records[1]
