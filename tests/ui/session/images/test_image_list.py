"""Going through a list of images: what is opened, saved, remembered. On a ViewerModel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image

from desk import Desk, open_desk
from napari_tinysam.errors import FileError
from napari_tinysam.ui.state.image_list import EntryState

if TYPE_CHECKING:
    from napari_tinysam.ui.session.images.image_list import ListedImages

pytestmark = pytest.mark.usefixtures("at_once")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of noise, of two sizes."""
    folder = tmp_path / "cells"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number, shape in enumerate(((60, 80), (60, 80), (50, 90), (60, 80))):
        tifffile.imwrite(folder / f"{number}.tif", noise.integers(0, 255, shape, "u1"))
    return folder


def open_list(*sources: Path) -> tuple[Desk, ListedImages]:
    desk = open_desk()
    listed = desk.session.listed
    listed.open_paths(list(sources))
    return desk, listed


def states(listed: ListedImages) -> str:
    assert listed.images is not None
    return "".join(entry.state.value[0] for entry in listed.images.entries)


def names(desk: Desk) -> list[str]:
    return [layer.name for layer in desk.viewer.layers if type(layer) is Image]


def labels_in(path: Path) -> Any:
    return tifffile.imread(path)


def test_images_are_annotated_saved_and_left_one_after_the_other(folder: Path) -> None:
    desk, listed = open_list(folder)
    assert names(desk) == ["0"]
    assert states(listed) == "nnnn"
    desk.click(40, 30)
    desk.session.commit()
    assert states(listed) == "snnn"
    assert listed.current is not None
    assert (listed.current.count, listed.current.saved) == (1, False)
    desk.session.next_image()
    assert names(desk) == ["1"]
    assert listed.images is not None
    first = listed.images.entries[0]
    assert (first.count, first.saved, first.labels) == (
        1,
        True,
        folder / "0_labels.tif",
    )
    assert labels_in(folder / "0_labels.tif").max() == 1
    assert not [layer for layer in desk.viewer.layers if "0" in layer.name]
    desk.session.previous_image()
    assert names(desk) == ["0"]
    assert desk.ids == [1]


def test_objects_that_are_not_committed_go_with_their_image(folder: Path) -> None:
    desk, _ = open_list(folder)
    desk.click(40, 30)
    desk.session.finish_image()
    assert names(desk) == ["1"]
    assert labels_in(folder / "0_labels.tif").max() == 1


def test_the_view_shows_the_image_of_the_list_beside_a_larger_one(folder: Path) -> None:
    desk = open_desk(Image(np.zeros((600, 800)), name="slide"))
    desk.session.listed.open_paths([folder])
    assert desk.image.name == "0"
    np.testing.assert_allclose(desk.viewer.scene.camera.center[-2:], (29.5, 39.5))
    desk.session.next_image()
    desk.session.next_image()  # of another size
    np.testing.assert_allclose(desk.viewer.scene.camera.center[-2:], (24.5, 44.5))


def test_nothing_is_done_while_no_image_of_the_list_is_selected(folder: Path) -> None:
    desk, listed = open_list(folder)
    desk.viewer.layers.remove("0")
    desk.session.finish_image()
    assert states(listed) == "nnnn"
    text = "No image of the list is selected: click one in the list."
    assert desk.told[-1] == ("info", text)
    listed.go_to(0)
    assert names(desk) == ["0"]


def test_an_image_is_not_done_while_it_is_searched(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, listed = open_list(folder)
    monkeypatch.setattr(listed, "_busy", lambda: True)
    desk.session.finish_image()
    assert states(listed) == "nnnn"
    assert names(desk) == ["0"]
    text = "Wait until what is running has ended, or cancel it."
    assert desk.told == [("info", text)]


def test_done_images_are_passed_over_unless_wanted(folder: Path) -> None:
    desk, listed = open_list(folder)
    desk.session.finish_image()
    assert states(listed) == "dnnn"
    desk.session.previous_image()
    assert names(desk) == ["1"]
    assert desk.told[-1] == ("info", "No image before this one is left to do.")
    listed.set_skip_done(False)
    desk.session.previous_image()
    assert names(desk) == ["0"]
    for _ in range(4):
        desk.session.finish_image()
    assert states(listed) == "dddd"
    assert desk.told[-1] == ("info", "All 4 images are done.")


def test_undo_still_works_after_going_back(folder: Path) -> None:
    desk, _ = open_list(folder)
    desk.click(40, 30)
    desk.session.commit()
    desk.session.next_image()
    desk.session.previous_image()
    desk.session.undo()
    assert desk.ids == []


def test_a_later_start_goes_on_at_the_same_place(folder: Path) -> None:
    desk, listed = open_list(folder)
    desk.session.finish_image()
    desk.click(40, 30)
    desk.session.next_image()
    desk.session.close()
    again = open_desk()
    listed = again.session.listed
    assert listed.offer is not None
    assert listed.offer.title == "cells"
    listed.go_on_with_offer()
    assert names(again) == ["2"]
    assert states(listed) == "dsnn"
    again.session.previous_image()
    assert again.ids == [1]


def test_what_vanished_between_two_starts_is_said(folder: Path) -> None:
    desk, _ = open_list(folder)
    desk.session.close()
    (folder / "3.tif").unlink()
    again, listed = open_list(folder)
    assert states(listed) == "nnn"
    assert again.told == [("warning", "Not there any more: 3.")]


def test_a_file_that_vanishes_is_passed_over_and_said(folder: Path) -> None:
    (folder / "1.tif").write_bytes(b"II*\0 no image")
    desk, listed = open_list(folder)
    (folder / "2.tif").unlink()
    assert not desk.told
    desk.session.next_image()
    assert names(desk) == ["3"]
    assert listed.images is not None
    problems = [entry.problem for entry in listed.images.entries]
    assert "1.tif" in problems[1]
    assert problems[2] == "2.tif is not there any more."
    assert desk.told[-1] == ("warning", problems[2])


def test_an_image_that_cannot_be_opened_is_not_said_to_be_done(folder: Path) -> None:
    (folder / "1.tif").write_bytes(b"II*\0 no image")
    desk, listed = open_list(folder)
    for _ in range(3):
        desk.session.finish_image()
    assert states(listed) == "dndd"
    text = "All 4 images are done, but 1 that cannot be opened."
    assert desk.told[-1] == ("info", text)


def test_a_folder_without_images_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    desk, listed = open_list(tmp_path)
    assert listed.images is None
    assert desk.told == [("warning", f"There are no images in the folder {tmp_path}.")]
    assert listed.text == desk.told[0][1]


@pytest.mark.parametrize("name", ["1_cp_masks.png", "1_masks.tif", "1-seg.tif"])
def test_labels_of_other_programs_are_opened_and_kept(folder: Path, name: str) -> None:
    import imageio.v3 as iio

    labels = np.zeros((60, 80), np.uint16)
    labels[5:20, 5:20], labels[30:40, 30:40] = 1, 2
    iio.imwrite(folder / name, labels)
    before = (folder / name).read_bytes()
    desk, listed = open_list(folder)
    assert listed.images is not None
    assert [entry.name for entry in listed.images.entries] == ["0", "1", "2", "3"]
    assert states(listed) == "nsnn"
    listed.go_to(1)
    assert desk.ids == [1, 2]
    assert listed.current is not None
    assert listed.current.count == 2
    desk.click(65, 45)
    desk.session.commit()
    desk.session.next_image()
    assert labels_in(folder / "1_labels.tif").max() == 3
    assert (folder / name).read_bytes() == before
    assert listed.images.entries[1].labels == folder / "1_labels.tif"


def test_labels_in_a_folder_of_their_own_are_opened(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        tifffile.imwrite(tmp_path / part / "a.tif", np.eye(40, 50, dtype=np.uint8))
    desk, _ = open_list(tmp_path / "images")
    assert desk.ids == [1]


def test_python_objects_are_not_opened(folder: Path) -> None:
    held: Any = {"masks": np.ones((60, 80), np.uint8)}
    np.save(folder / "0_seg.npy", held, allow_pickle=True)
    desk, listed = open_list(folder)
    assert states(listed) == "nnnn"
    assert names(desk) == ["0"]
    assert "0_seg.npy is not opened: it holds Python objects" in desk.told[0][1]


def test_labels_of_another_size_are_kept_aside(folder: Path) -> None:
    other = np.ones((10, 10), np.uint8)
    tifffile.imwrite(folder / "0_labels.tif", other)
    desk, _ = open_list(folder)
    assert desk.told == [
        (
            "warning",
            "0_labels.tif has 10 × 10 pixels and the image 60 × 80, so it is not shown. It is "
            "kept as 0_labels.tif.old when you save.",
        )
    ]
    assert desk.session.target is None
    desk.click(40, 30)
    desk.session.next_image()
    assert labels_in(folder / "0_labels.tif").shape == (60, 80)
    np.testing.assert_array_equal(labels_in(folder / "0_labels.tif.old"), other)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_labels_that_came_meanwhile_or_are_in_another_folder_are_kept_aside(
    folder: Path, tmp_path: Path, elsewhere: bool
) -> None:
    desk, listed = open_list(folder)
    desk.click(40, 30)
    desk.session.commit()
    place = tmp_path / "other" if elsewhere else folder
    place.mkdir(exist_ok=True)
    theirs = np.full((60, 80), 7, np.uint8)
    tifffile.imwrite(place / "0_labels.tif", theirs)
    if elsewhere:
        listed.set_folder(place)
    desk.session.next_image()
    assert names(desk) == ["1"]
    assert labels_in(place / "0_labels.tif").max() == 1
    np.testing.assert_array_equal(labels_in(place / "0_labels.tif.old"), theirs)
    text = "There was another 0_labels.tif; it is kept as 0_labels.tif.old."
    assert desk.told == [("warning", text)]
    desk.session.previous_image()
    desk.click(10, 10)
    desk.session.next_image()
    assert len(list(place.glob("*.old*"))) == 1  # from now on it is ours


def test_labels_of_another_size_do_not_keep_others_from_another_folder(
    folder: Path, tmp_path: Path
) -> None:
    tifffile.imwrite(folder / "0_labels.tif", np.ones((10, 10), np.uint8))
    desk, listed = open_list(folder)
    before = (folder / "0_labels.tif").read_bytes()
    listed.set_folder(tmp_path / "other")
    desk.click(40, 30)
    desk.session.next_image()
    assert labels_in(tmp_path / "other" / "0_labels.tif").shape == (60, 80)
    assert (folder / "0_labels.tif").read_bytes() == before


def test_nothing_is_lost_where_nothing_can_be_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_tinysam.ui.session.labels import saving

    write = saving._write_labels

    def refuse(path: Path, labels: Any) -> None:
        if path.parent == folder:
            raise FileError(f"You have no permission to write to the folder {folder}.")
        write(path, labels)

    monkeypatch.setattr(saving, "_write_labels", refuse)
    desk, listed = open_list(folder)
    desk.click(40, 30)
    desk.session.next_image()
    assert names(desk) == ["0"]
    assert desk.ids == [1]
    assert listed.needs_folder
    assert "choose another folder for the labels" in listed.text
    chosen = tmp_path / "mine"
    listed.set_folder(chosen)
    assert not listed.needs_folder
    desk.session.next_image()
    assert names(desk) == ["1"]
    assert labels_in(chosen / "0_labels.tif").max() == 1
    # Training finds images and labels in one folder.
    assert sorted(os.listdir(chosen)) == ["0.tif", "0_labels.tif"]
    desk.session.previous_image()
    assert desk.ids == [1]


def test_the_list_is_what_training_reads(folder: Path) -> None:
    from tinysam_training.data.sources.folders import find_pairs

    desk, _ = open_list(folder)
    desk.click(40, 30)
    desk.session.finish_image()
    found = find_pairs(folder)
    assert [entry.name for entry in found] == ["cells/0"]


def test_images_of_one_name_from_two_folders_have_their_own_labels(
    tmp_path: Path,
) -> None:
    paths = []
    for part in ("one", "two"):
        (tmp_path / part).mkdir()
        paths.append(tmp_path / part / "a.tif")
        tifffile.imwrite(paths[-1], np.eye(60, 80, dtype=np.uint8))
    desk, listed = open_list(*paths)
    desk.click(40, 30)
    desk.session.finish_image()
    assert labels_in(tmp_path / "one" / "a_labels.tif").max() == 1
    listed.set_folder(tmp_path / "labels")
    desk.click(40, 30)
    desk.session.finish_image()
    assert listed.images is not None
    assert listed.images.entries[1].labels == tmp_path / "labels" / "a_tif_2_labels.tif"


def test_open_layers_make_a_list_and_stay(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    layers = [Image(noise.random((60, 80)), name=name) for name in "abc"]
    desk = open_desk(*layers)
    listed = desk.session.listed
    listed.take_layers()
    assert listed.current is not None
    assert listed.current.name == "c"
    desk.session.previous_image()
    assert desk.image is layers[1]
    assert [layer.visible for layer in layers] == [False, True, False] or layers[
        1
    ].visible
    assert all(layer in desk.viewer.layers for layer in layers)
    desk.click(40, 30)
    desk.session.commit()
    desk.session.next_image()
    assert desk.image is layers[2]
    assert (
        desk.session.unsaved_layers()
    )  # still in the viewer: asked about when it closes
    listed.set_folder(tmp_path)
    desk.session.previous_image()
    listed.save()
    assert labels_in(tmp_path / "b_labels.tif").max() == 1


def test_the_fields_of_a_plate_are_listed(tmp_path: Path) -> None:
    import zarr

    plate = zarr.open_group(str(tmp_path / "plate.ome.zarr"), mode="w", zarr_format=2)
    wells = [{"path": "A/1"}, {"path": "B/2"}]
    plate.attrs["plate"] = {"wells": wells}
    for well in wells:
        group = plate.create_group(well["path"])
        group.attrs["well"] = {"images": [{"path": "0"}]}
        field = group.create_group("0")
        field.attrs["multiscales"] = [
            {"version": "0.4", "axes": ["y", "x"], "datasets": [{"path": "0"}]}
        ]
        field.create_array("0", data=np.ones((60, 80), np.uint8))
    desk, listed = open_list(tmp_path / "plate.ome.zarr")
    assert listed.images is not None
    found = [entry.name for entry in listed.images.entries]
    assert found == ["plate_A01_0", "plate_B02_0"]
    desk.click(40, 30)
    desk.session.finish_image()
    assert labels_in(tmp_path / "plate_A01_0_labels.tif").max() == 1
    assert names(desk) == ["plate_B02_0"]


def test_the_next_image_is_encoded_ahead(folder: Path) -> None:
    desk = open_desk()
    desk.session.set_ahead(True)
    listed = desk.session.listed
    listed.open_paths([folder])
    assert len(desk.runtime.encoded) == 2  # the open one and the next
    desk.session.next_image()
    assert len(desk.runtime.encoded) == 3  # only the one after it


def test_a_run_is_not_interrupted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, listed = open_list(folder)
    monkeypatch.setattr(listed, "_busy", lambda: True)
    desk.session.next_image()
    assert names(desk) == ["0"]
    assert "Wait until what is running" in desk.told[-1][1]


def test_marking_by_hand(folder: Path) -> None:
    desk, listed = open_list(folder)
    assert listed.images is not None
    listed.set_state(listed.images.entries[2], EntryState.DONE)
    assert states(listed) == "nndn"
    assert desk.session.listed.images is not None
    assert listed.images.next_to_do() == 1


def test_a_label_file_that_another_program_changed_meanwhile_is_kept(
    folder: Path,
) -> None:
    tifffile.imwrite(folder / "0_labels.tif", np.eye(60, 80, dtype=np.uint8))
    desk, _ = open_list(folder)
    desk.click(60, 15)
    desk.session.commit()
    others = np.full((60, 80), 7, np.uint16)
    tifffile.imwrite(folder / "0_labels.tif", others)
    desk.session.next_image()
    assert names(desk) == ["1"]
    assert labels_in(folder / "0_labels.tif").max() == 2
    np.testing.assert_array_equal(labels_in(folder / "0_labels.tif.old"), others)
    assert "0_labels.tif.old" in desk.told[-1][1]


# --- classes -----------------------------------------------------------------------------


def classified(folder: Path) -> tuple[Desk, ListedImages]:
    """Open a list with two classes, and commit two objects of the first image."""
    desk, listed = open_list(folder)
    for name in ("alive", "dead"):
        desk.session.classifying.add(name)
    for x in (20, 60):
        desk.click(x, 30)
        desk.session.commit()
    return desk, listed


def give(desk: Desk, x: float, digit: int) -> None:
    desk.session.hover_at(desk.world(x, 30))
    desk.session.classifying.give(digit)


def named(desk: Desk) -> dict[int, str]:
    layer = desk.session.target
    assert layer is not None
    found = desk.session.classifying.of(layer)
    return {label: each.name for label, each in found.items()}


def test_objects_have_classes_with_undo(folder: Path) -> None:
    desk, _ = classified(folder)
    give(desk, 20, 1)
    give(desk, 60, 2)
    assert named(desk) == {1: "alive", 2: "dead"}
    give(desk, 60, 0)
    assert named(desk) == {1: "alive"}
    desk.session.undo()
    assert named(desk) == {1: "alive", 2: "dead"}
    desk.session.undo()
    desk.session.undo()
    assert named(desk) == {}
    desk.session.redo()
    assert named(desk) == {1: "alive"}


def test_a_class_is_renamed_while_it_is_in_use(folder: Path) -> None:
    desk, _ = classified(folder)
    classifying = desk.session.classifying
    give(desk, 20, 1)
    alive, dead = classifying.classes
    classifying.rename(alive, "living")
    assert named(desk) == {1: "living"}
    classifying.rename(alive, "dead")
    assert desk.told[-1] == ("warning", "There is a class “dead” already.")
    classifying.remove(alive)
    assert desk.told[-1][1] == "1 object is “living”: give them another class first."
    classifying.remove(dead)
    assert classifying.classes == [alive]


def test_deleted_objects_do_not_count_and_keep_their_class_for_undo(
    folder: Path,
) -> None:
    desk, _ = classified(folder)
    give(desk, 20, 1)
    give(desk, 60, 1)
    classifying = desk.session.classifying
    alive = classifying.classes[0]
    assert classifying.count(alive) == 2
    desk.session.hover_at(desk.world(20, 30))
    desk.session.delete_object()
    assert classifying.count(alive) == 1
    desk.session.undo()
    assert classifying.count(alive) == 2
    assert named(desk) == {1: "alive", 2: "alive"}
    for x in (20, 60):
        desk.session.hover_at(desk.world(x, 30))
        desk.session.delete_object()
    classifying.remove(alive)
    assert alive not in classifying.classes


def test_classes_are_colours_on_the_canvas(folder: Path) -> None:
    desk, _ = classified(folder)
    layer, classifying = desk.session.target, desk.session.classifying
    assert layer is not None
    before = layer.colormap
    give(desk, 20, 1)
    classifying.recolour(classifying.classes[0], "#ff0000")
    np.testing.assert_allclose(layer.get_color(1), (1, 0, 0, 1))
    np.testing.assert_allclose(layer.get_color(2)[:3], (0.75, 0.75, 0.75))
    classifying.set_coloured(False)
    assert layer.colormap is before


def test_classes_are_saved_in_a_table_and_in_coco(folder: Path) -> None:
    import json

    desk, listed = classified(folder)
    give(desk, 20, 2)
    desk.session.next_image()
    lines = (folder / "0_classes.csv").read_text().splitlines()
    assert [line.rsplit(",", 1)[0] for line in lines] == ["label,class", "1,dead", "2,"]
    coco = json.loads((folder / "0_coco.json").read_text())
    names = {each["id"]: each["name"] for each in coco["categories"]}
    assert names == {1: "alive", 2: "dead", 3: "object"}
    found = {each["label"]: names[each["category_id"]] for each in coco["annotations"]}
    assert found == {1: "dead", 2: "object"}
    # Another start has both classes again, and the object has its own.
    desk.session.close()
    again, listed = open_list(folder)
    assert [each.name for each in again.session.classifying.classes] == [
        "alive",
        "dead",
    ]
    listed.go_to(0)
    assert named(again) == {1: "dead"}


def test_digits_are_classes_only_while_there_are_some(folder: Path) -> None:
    desk, listed = open_list(folder)
    from app_model.types import KeyBinding, KeyCode

    one = KeyBinding.from_int(KeyCode.Digit1)
    assert one not in desk.viewer.keymap
    desk.session.classifying.add("alive")
    assert one in desk.viewer.keymap
    listed.leave_list()
    assert one not in desk.viewer.keymap
