"""Parts of the session by themselves: they need no session, only what they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel

from fake_inference import SteppedInference
from fake_predictor import disc_predictor
from napari_tinysam.inference.looks import Look
from napari_tinysam.ui.session.auto.run import EmbeddedPlane
from napari_tinysam.ui.session.auto.segmenter import AutoSegmenter
from napari_tinysam.ui.session.undoing import Undoing
from napari_tinysam.ui.state.drafts import ObjectDraft, PlaneDrafts
from napari_tinysam.ui.state.images import Memory
from napari_tinysam.ui.state.painted import whole
from napari_tinysam.ui.state.planes import Plane, shown_plane
from napari_tinysam.ui.state.region import FreePixels, Region, region_of
from napari_tinysam.ui.state.status import Status, StatusKind
from napari_tinysam.ui.state.subject import Subject

if TYPE_CHECKING:
    from napari.layers import Image


@pytest.fixture
def subject() -> Subject:
    viewer, found = ViewerModel(), Subject(Memory())
    found.image = viewer.add_image(np.zeros((60, 80), np.uint8), name="cells")
    found.show(shown_plane(found.image, viewer.dims), "key")
    return found


def test_another_plane_forgets_where_the_mouse_was(subject: Subject) -> None:
    assert subject.here == (subject.image, subject.plane)
    subject.cursor = subject.xy((30, 40))
    assert subject.cursor == (40, 30)
    assert subject.xy((30, 400)) is None
    subject.show(None, None)
    assert subject.cursor is subject.here is None
    assert subject.drafts.is_empty


def test_drafts_are_changed_in_one_place_and_told(subject: Subject) -> None:
    told: list[ObjectDraft] = []
    subject.drafts_changed.connect(lambda: told.append(subject.drafts.current))
    draft = ObjectDraft(box=(1, 2, 30, 40))
    subject.change_drafts("box", PlaneDrafts((draft,)))
    assert told == [draft]
    assert subject.last_box == draft.box
    assert subject.state.history.undo_text == "box"
    subject.show(None, None)
    subject.change_drafts("box", PlaneDrafts())  # of no plane: nothing happens
    assert len(told) == 1


class Rewriter:
    """Says of each step whether what it wrote could be taken back."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)

    def rewrite(self, step: Any, *, back: bool) -> bool:
        return self.answers.pop(0)


def test_steps_that_napari_took_back_are_passed_over(subject: Subject) -> None:
    boxes = [(0, 0, 10, 10), (5, 5, 20, 20)]
    for box in boxes:
        subject.change_drafts("box", PlaneDrafts((ObjectDraft(box=box),)))
    went: list[Plane] = []
    steps: list[int] = []
    labelling: Any = Rewriter(False, True)
    undoing = Undoing(
        subject,
        labelling,
        go_to=went.append,
        on_step=lambda: steps.append(1),
        before_step=lambda: None,
        on_journal=lambda image, number: None,
    )
    undoing.undo()
    assert subject.drafts.is_empty
    assert (len(went), len(steps)) == (1, 1)
    assert undoing.undo_text == ""
    assert undoing.redo_text == "box"
    undoing.undo()
    assert len(steps) == 1


class Shown:
    """What a search finds, and what it ends with."""

    def __init__(self) -> None:
        self.found: list[int] = []
        self.after: Any = None

    def show_found(self, image: Image, plane: Plane, shown: Any) -> None:
        self.found.append(int(whole(shown).max()))

    def forget_found(self) -> None:
        self.found.clear()

    def replace(self, image: Image, plane: Plane, after: Any, text: str) -> None:
        self.after = after


def test_a_search_needs_a_scene_and_somewhere_to_show_it(subject: Subject) -> None:
    inference, shown = SteppedInference(), Shown()
    predictor, _ = disc_predictor()
    statuses: list[Status | None] = []
    told: list[tuple[str, str]] = []
    scenes: list[EmbeddedPlane | None] = [None]
    proposals: Any = shown
    auto = AutoSegmenter(
        inference,
        subject,
        proposals,
        lambda *message: told.append(message),
        scene=lambda: scenes[-1],
        labelled=lambda plane: None,
        on_status=statuses.append,
    )
    auto.run()
    assert auto.running
    assert not auto.decoding
    assert subject.here is not None
    image, plane = subject.here
    embedding = predictor.encode(np.asarray(image.data))
    scenes.append(EmbeddedPlane(image, 0, plane, predictor, embedding))
    auto.ready()
    assert auto.decoding
    inference.run_all()
    assert not auto.running
    assert statuses[0] is not None
    assert statuses[0].kind is StatusKind.SEGMENTING
    assert statuses[-1] is None
    assert told == [("info", shown.after.advice)]  # there is nothing to find


def test_the_pixels_of_a_region(subject: Subject) -> None:
    assert subject.here is not None
    image, plane = subject.here
    whole_plane = region_of(Region.PLANE, image, plane, None)
    assert whole_plane == Look.whole(plane.shape)
    assert region_of(Region.BOX, image, plane, None) is None
    box = region_of(Region.BOX, image, plane, (10, 20, 14, 22))
    assert box == Look(20, 10, 23, 15)
    outside = region_of(Region.BOX, image, plane, (-20, -20, -10, -10))
    assert outside is not None
    assert not FreePixels(outside, None).any()
    image.corner_pixels = np.array([[0, 0], [9, 19]])
    view = region_of(Region.VIEW, image, plane, None)
    assert view is not None
    assert view.size == (10, 20)


def test_labelled_pixels_of_a_region_are_not_free() -> None:
    labelled = np.zeros((50, 60), bool)
    labelled[:30] = True
    free = FreePixels(Look(20, 10, 40, 30), labelled.__getitem__)
    assert free.any()
    assert free.met_labels
    within = free.within(Look(0, 0, 35, 60))
    assert np.argwhere(within).min(axis=0).tolist() == [30, 10]
    assert int(within.sum()) == 5 * 20
    assert not FreePixels(Look(0, 0, 30, 60), labelled.__getitem__).any()
    assert not FreePixels(Look(30, 0, 50, 60), labelled.__getitem__).met_labels
