"""What of a list is auto-segmented beside the viewer, and that nobody's labels are hidden by it."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from desk import open_desk
from napari_tinysam.ui.state.image_list import EntryState
from napari_tinysam.ui.state.region import Region

if TYPE_CHECKING:
    from collections.abc import Callable

    from desk import Desk

pytestmark = pytest.mark.usefixtures("at_once")


def object_of(label: int) -> Any:
    """Return labels with one object."""
    labels = np.zeros((60, 80), np.uint16)
    labels[10:30, 10:30] = label
    return labels


class Batch:
    """Writes labels as ``napari-tinysam auto`` does, until it is stopped."""

    lines = ()

    def __init__(self, command: list[str]) -> None:
        self.folder = Path(command[command.index("--output") + 1])
        self.images = [Path(each) for each in command[command.index("--") + 1 :]]
        self.stopped = threading.Event()

    def wait(self) -> int:
        for image in self.images:
            tifffile.imwrite(self.folder / f"{image.stem}_labels.tif", object_of(7))
        return 0

    def stop(self) -> None:
        self.stopped.set()


def open_list(*sources: Path) -> tuple[Desk, list[Batch]]:
    desk = open_desk()
    desk.session.listed.open_paths(list(sources))
    batches: list[Batch] = []
    desk.session.files._start = lambda command: (
        batches.append(Batch(list(command))) or batches[-1]
    )
    return desk, batches


def segment(desk: Desk, begin: Callable[[], None] | None = None) -> None:
    """Segment the rest, and do what the batches say on this thread until they have ended."""
    files, posted = desk.session.files, queue.Queue[Any]()
    files._post = posted.put
    (begin or desk.session.auto_segment_rest)()
    while files.running:
        posted.get(timeout=30)()


def test_what_is_not_done_and_not_open_is_segmented(folder: Path) -> None:
    desk, batches = open_list(folder)
    entries = desk.session.listed.images.entries  # type: ignore[union-attr]
    desk.session.listed.set_state(entries[1], EntryState.DONE)
    segment(desk)
    assert batches[0].images == [folder / "2.tif", folder / "3.tif"]
    assert batches[0].folder == folder
    assert entries[2].labels == folder / "2_labels.tif"
    assert entries[2].state is EntryState.STARTED
    for entry in entries:
        desk.session.listed.set_state(entry, EntryState.DONE)
    segment(desk)
    assert len(batches) == 1
    assert "no other image" in desk.told[-1][1]


@pytest.mark.parametrize("name", ["2_cp_masks.tif", "../labels/2.tif"])
def test_labels_of_another_program_are_not_hidden(folder: Path, name: str) -> None:
    theirs = folder / name
    theirs.parent.mkdir(exist_ok=True)
    if theirs.parent != folder:
        images = folder.parent / "images"
        folder.rename(images)
        folder = images
        theirs = folder / name
    tifffile.imwrite(theirs, object_of(3))
    desk, batches = open_list(folder)
    segment(desk)
    assert batches[0].images == [folder / "1.tif", folder / "3.tif"]
    assert any(
        f"Left out, as they have labels already: {theirs.name}." in text
        for _, text in desk.told
    )
    desk.session.listed.go_to(2)
    assert desk.ids == [3]
    assert not (folder / "2_labels.tif").exists()


def test_labels_that_came_since_the_list_was_opened_are_seen(folder: Path) -> None:
    desk, batches = open_list(folder)
    tifffile.imwrite(folder / "3_masks.tif", object_of(3))
    segment(desk)
    assert batches[0].images == [folder / "1.tif", folder / "2.tif"]
    desk.session.listed.go_to(3)
    assert desk.ids == [3]


def test_labels_beside_the_images_are_not_hidden_by_a_folder(
    folder: Path, tmp_path: Path
) -> None:
    tifffile.imwrite(folder / "1_labels.tif", object_of(3))
    desk, batches = open_list(folder)
    other = tmp_path / "results"
    other.mkdir()
    desk.session.listed.set_folder(other)
    segment(desk)
    assert batches[0].images == [folder / "2.tif", folder / "3.tif"]
    assert batches[0].folder == other
    desk.session.listed.go_to(1)
    assert desk.ids == [3]
    desk.session.listed.go_to(2)
    assert desk.ids == [7]


def test_images_of_several_folders_are_labelled_beside_them(
    folder: Path, tmp_path: Path
) -> None:
    second = tmp_path / "more"
    second.mkdir()
    for number in (5, 6):
        (folder / f"{number - 3}.tif").rename(second / f"{number}.tif")
    desk, batches = open_list(folder, second)
    segment(desk)
    assert [batch.folder for batch in batches] == [folder, second]
    desk.session.listed.go_to(3)
    assert desk.ids == [7]
    assert (second / "6_labels.tif").exists()


def test_results_never_get_the_name_of_another_image(folder: Path) -> None:
    import imageio.v3 as iio

    iio.imwrite(folder / "2.png", np.zeros((60, 80), np.uint8))
    desk, batches = open_list(folder)
    entries = desk.session.listed.images.entries  # type: ignore[union-attr]
    done = next(e for e in entries if e.path == folder / "2.tif")
    desk.session.listed.set_state(done, EntryState.DONE)
    segment(desk)  # 2.png alone would become 2_labels.tif
    assert batches[0].images == [folder / "1.tif", folder / "3.tif"]
    assert any("same name" in text for _, text in desk.told)


def test_a_long_list_is_segmented_part_by_part(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_tinysam.ui.session.images import rest

    monkeypatch.setattr(rest, "_LETTERS", 2 * len(str(folder / "0.tif")) + 3)
    desk, batches = open_list(folder)
    segment(desk)
    assert [len(batch.images) for batch in batches] == [2, 1]


def test_cancelling_ends_all_parts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_tinysam.ui.session.images import rest

    monkeypatch.setattr(rest, "_LETTERS", 1)

    def wait(batch: Batch) -> int:
        batch.stopped.wait(30)
        return 1

    monkeypatch.setattr(Batch, "wait", wait)
    desk, batches = open_list(folder)

    def begin() -> None:
        desk.session.auto_segment_rest()
        assert desk.session.rest.running
        desk.session.files.cancel()

    segment(desk, begin)
    assert not desk.session.rest.running
    assert len(batches) == 1


def test_it_is_a_region_while_a_list_is_open(folder: Path) -> None:
    desk, batches = open_list(folder)
    assert Region.LIST in desk.session.regions
    desk.session.auto.set_region(Region.LIST)
    segment(desk, desk.session.auto_segment)
    assert batches[0].images == [folder / f"{at}.tif" for at in (1, 2, 3)]
    desk.session.listed.leave_list()
    assert desk.session.region is Region.PLANE
