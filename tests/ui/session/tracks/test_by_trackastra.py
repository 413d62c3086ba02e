"""Tracks by trackastra, where it is installed: a package of that name stands for it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import pytest

from napari_tinysam.volume import learned
from ui.session.tracks.small_movie import at, disc, opened

if TYPE_CHECKING:
    from desk import Desk


class Trackastra:
    """Links what has the same number in the next frame, as nobody else would."""

    fails = False
    runs = 0

    @classmethod
    def from_folder(cls, folder: Path, device: str) -> Trackastra:
        return cls()

    def track(
        self, images: np.ndarray, labels: np.ndarray, **options: Any
    ) -> tuple[nx.DiGraph, None]:
        type(self).runs += 1
        if self.fails:
            raise RuntimeError("no kernel image")
        assert images.shape == labels.shape == (4, 40, 80)
        graph = nx.DiGraph()
        for t, frame in enumerate(labels):
            for label in np.unique(frame)[1:].tolist():
                graph.add_node((t, label), time=t, label=label)
                if (t - 1, label) in graph:
                    graph.add_edge((t - 1, label), (t, label))
        return graph, None


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package, model = ModuleType("trackastra"), ModuleType("trackastra.model")
    model.Trackastra = Trackastra  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackastra", package)
    monkeypatch.setitem(sys.modules, "trackastra.model", model)
    monkeypatch.setattr(learned, "find_spec", lambda name: package)
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: str(tmp_path))
    monkeypatch.setattr(Trackastra, "runs", 0)
    (tmp_path / "models" / "general_2d").mkdir(parents=True)
    (tmp_path / "models" / "general_2d" / "model.pt").touch()


def two() -> Desk:
    """Open two cells that stay where they are; their numbers change from frame to frame."""
    frames = np.zeros((4, 40, 80), np.uint32)
    for t, frame in enumerate(frames):
        disc(frame, 1 + t % 2, 20, 20, 8)
        disc(frame, 2 - t % 2, 20, 55, 8)
    return opened(frames)


def test_its_links_are_taken_and_it_runs_once() -> None:
    desk = two()
    desk.session.track_objects()
    assert len(set(at(desk, 20, 20))) == 1
    desk.session.tracking.set_settings(way="trackastra")
    left, right = at(desk, 20, 20), at(desk, 20, 55)
    assert left[0] == right[1] == left[2] == right[3] != left[1]
    desk.session.tracking.set_settings(least_frames=2)
    desk.viewer.dims.set_point(0, 2)
    desk.session.hover_at(desk.world(20, 20))
    desk.session.cut_track()
    assert at(desk, 20, 20)[2] == at(desk, 20, 55)[3] != left[0]
    assert Trackastra.runs == 1
    desk.session.tracking.set_settings(way="overlap")
    assert len(set(at(desk, 20, 55))) == 1


def test_a_failure_is_a_sentence_and_nothing_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Trackastra, "fails", True)
    desk = two()
    desk.session.track_objects()
    before = desk.session.target.data.copy()
    desk.session.tracking.set_settings(way="trackastra")
    level, said = desk.told[-1]
    assert level == "error"
    assert "trackastra cannot track this movie" in said
    assert np.array_equal(desk.session.target.data, before)
    assert desk.session.tracking.settings.way == "auto"
    desk.session.tracking.set_settings(gap=0)
    assert desk.told[-1] == (level, said)


def test_stacks_are_refused() -> None:
    frames = np.zeros((3, 2, 40, 80), np.uint32)
    frames[:, :, 10:20, 10:20] = 1
    desk = opened(frames, axes=("t", "z", "y", "x"))
    desk.session.track_objects()
    desk.session.tracking.set_settings(way="trackastra")
    assert "not of stacks" in desk.told[-1][1]
