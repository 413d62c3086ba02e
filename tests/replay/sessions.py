"""Ten sessions as users have them, each on an image of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image, Labels

from desk import Desk, open_desk
from fake_inference import QueuedInference
from napari_tinysam.everything import LabelSettings, Proposals
from napari_tinysam.everything.proposals import Proposal
from napari_tinysam.journal.provenance import Provenance, collect
from napari_tinysam.journal.sparse import SparseLabels
from napari_tinysam.labels import Overlap
from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui.session.journals.provenances import shared_axes
from napari_tinysam.ui.state.coloring import choose_colors
from napari_tinysam.ui.state.proposed import Proposed
from pixel_runtime import pixel_predictor


@dataclass
class Session:
    """A session and its image."""

    desk: Desk
    pixels: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        target = self.desk.session.target
        assert target is not None
        return np.array(target.data)

    def do(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Do one thing, and let the window answer."""
        call(*arguments, **options)
        self.desk.inference.turn()

    def click(self, x: float, y: float, label: int | None = None) -> None:
        self.do(self.desk.click, x, y, label)

    def box(self, *box: float) -> None:
        self.do(self.desk.box, *box)

    def commit(self, x: float | None = None, y: float = 0.0) -> None:
        if x is not None:
            self.click(x, y)
        self.do(self.desk.session.commit)

    def edit(self, x: float, y: float) -> None:
        self.desk.session.set_edit_mode(True)
        self.click(x, y)
        self.desk.session.set_edit_mode(False)

    def show(self, *place: int) -> None:
        for axis, at in enumerate(place):
            self.do(self.desk.viewer.dims.set_current_step, axis, at)

    def told(self) -> Provenance:
        """Return the provenance of the labels."""
        target = self.desk.session.target
        assert target is not None
        journal = self.desk.session._parts.subject.memory.journals[target]
        assert journal.flush()
        data = np.asarray(target.data)
        labels = SparseLabels.of(data, data.shape, data.dtype)
        shared = shared_axes(target.data, target.ndim)
        return collect(journal.folder, labels, journal.last, shared_axes=shared)


def open_session(pixels: np.ndarray, *layers: Any, **options: Any) -> Session:
    image = Image(pixels, name="cells", **options)
    desk = open_desk(
        image,
        *layers,
        inference=QueuedInference(),
        load_predictor=lambda *_: pixel_predictor(),
    )
    desk.inference.turn()
    return Session(desk, pixels)


def noise(*shape: int, dtype: Any = np.uint16, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def clicks() -> Session:
    one = open_session(noise(150, 200))
    one.commit(40, 30)
    one.click(90.5, 60)
    one.click(95, 60)
    one.click(100, 60, 0)
    one.commit()
    one.commit(50, 40)  # partly over the first
    return one


def boxes() -> Session:
    one = open_session(noise(150, 200, 3, dtype=np.uint8), rgb=True)
    one.box(10, 10, 50, 40)
    one.do(one.desk.session.next_object)
    one.box(60, 20, 120.5, 90)
    one.click(80, 50, 0)
    one.do(one.desk.session.next_object)
    one.box(40, 30, 70, 60)
    one.commit()
    return one


def candidates() -> Session:
    one = open_session(noise(150, 200, dtype=np.float32))
    for number, x in enumerate((30, 80, 140)):
        one.click(x, 70)
        one.do(one.desk.session.set_candidate, number)
        one.commit()
    one.do(one.desk.session.set_overlap, Overlap.REPLACE)
    one.click(85, 75)
    one.do(one.desk.session.set_candidate, 2)
    one.commit()
    return one


def edits() -> Session:
    one = open_session(noise(150, 200))
    one.commit(40, 40)
    one.commit(100, 100)
    one.edit(40, 40)
    one.click(55, 40)
    one.click(30, 40, 0)
    one.commit()
    one.edit(100, 100)
    one.box(90, 90, 130, 130)
    one.commit()
    return one


def merges_and_deletes() -> Session:
    one = open_session(noise(150, 200))
    for x in (30, 70, 110, 150):
        one.commit(x, 60)
    one.edit(30, 60)
    one.do(one.desk.session.merge_objects)
    one.click(70, 60)
    one.do(one.desk.session.clear)
    one.edit(110, 60)
    one.do(one.desk.session.delete_object)
    one.edit(30, 60)
    one.click(50, 60)
    one.commit()
    return one


def splits() -> Session:
    one = open_session(noise(150, 200))
    one.click(60, 60)
    one.click(75, 60)
    one.do(one.desk.session.set_candidate, 2)
    one.commit()
    one.edit(60, 60)
    one.click(56, 60)
    one.click(82, 60)
    one.do(one.desk.session.split_object)
    one.edit(56, 60)
    one.click(48, 66)
    one.commit()
    return one


def accepts() -> Session:
    """Objects that were found without prompts are accepted, one is rejected."""
    one = open_session(noise(150, 200))
    one.commit(40, 40)
    session = one.desk.session
    shape = (150, 200)
    proposals = Proposals(
        [
            Proposal(
                BoxedMask(np.ones((30, 24), bool), 35, x, shape), score, (x + 12, 50)
            )
            for x, score in ((30, 0.8), (90, 0.9), (150, 0.7))
        ],
        shape,
    )
    colors = choose_colors(proposals)
    version = session._parts.subject.state.version
    found = Proposed(proposals, LabelSettings(), colors, version=version)
    here = session._parts.subject.here
    assert here is not None
    one.do(session.proposals.replace, *here, found, "auto-segment")
    one.do(session.proposals.click_at, (160, 50), None)
    one.do(session.proposals.click_at, (100, 50), 0)
    one.do(session.proposals.accept_all)
    one.edit(160, 50)
    one.click(172, 70)
    one.commit()
    return one


def undo_and_redo() -> Session:
    one = open_session(noise(150, 200))
    session = one.desk.session
    one.commit(40, 40)
    one.commit(90, 40)
    one.do(session.undo)
    one.do(session.redo)
    one.edit(40, 40)
    one.do(session.merge_objects)
    one.click(90, 40)
    one.do(session.undo)
    one.do(session.clear)
    one.edit(90, 40)
    one.do(session.delete_object)
    one.do(session.undo)
    one.do(session.undo)
    one.do(session.clear)
    one.commit(140, 90)
    one.commit(20, 100)
    one.do(session.undo)
    return one


def painting() -> Session:
    one = open_session(noise(150, 200))
    one.commit(40, 40)
    target = one.desk.session.target
    assert target is not None
    one.do(target.paint, (100, 100), 7)
    one.do(target.paint, (42, 44), 0)
    one.do(target.fill, (140, 190), 9)
    one.do(target.undo)
    one.edit(40, 40)
    one.click(48, 40)
    one.commit()
    one.edit(100, 100)
    one.click(110, 100)
    one.commit()
    one.do(one.desk.session.undo)
    return one


def following() -> Session:
    one = open_session(noise(5, 120, 160), axis_labels=("z", "y", "x"))
    session = one.desk.session
    one.show(2)
    one.commit(40, 40)
    one.do(session.hover_at, one.desk.world(40, 40))
    one.do(session.follow_object)
    one.commit(110, 70)
    one.show(3)
    one.do(session.hover_at, one.desk.world(40, 40))
    one.do(session.split_here)
    one.show(1)
    one.commit(100, 70)
    one.edit(100, 70)
    one.do(session.delete_object)
    one.do(session.undo)
    return one


def channels() -> Session:
    """Channels on the second axis: objects belong to all; the plane lies on its side, too."""
    one = open_session(noise(3, 2, 100, 130), axis_labels=("t", "c", "y", "x"))
    one.show(1, 1)
    one.commit(40, 40)
    one.commit(90, 70)
    one.edit(90, 70)
    one.do(one.desk.session.delete_object)
    one.do(one.desk.session.undo)
    one.do(setattr, one.desk.viewer.dims, "order", (0, 1, 3, 2))
    one.commit(20, 100)
    return one


def large_plane() -> Session:
    one = open_session(noise(1700, 2000))
    one.commit(300, 300)
    one.box(900, 900, 990, 960)
    one.commit()
    one.edit(300, 300)
    one.click(330, 300)
    one.commit()
    return one


def labels_that_were_there() -> Session:
    there = np.zeros((150, 200), np.uint16)
    there[20:60, 20:60] = 5
    there[100:120, 20:60] = 6
    one = open_session(noise(150, 200), Labels(there, name="nuclei"))
    one.do(one.desk.session.set_target, one.desk.viewer.layers["nuclei"])
    one.commit(120, 50)
    one.edit(40, 40)
    one.click(70, 40)
    one.commit()
    one.edit(30, 110)
    one.do(one.desk.session.delete_object)
    return one


SESSIONS: dict[str, Callable[[], Session]] = {
    each.__name__: each
    for each in (
        *(clicks, boxes, candidates, edits, merges_and_deletes, splits, accepts),
        *(undo_and_redo, painting, following, channels, large_plane),
        labels_that_were_there,
    )
}
