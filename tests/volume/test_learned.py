"""Links by trackastra, where it is installed: a package of that name stands for it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import networkx as nx
import numpy as np
import pytest

from napari_tinysam.errors import TinySAMError
from napari_tinysam.volume import learned
from napari_tinysam.volume.learned import chained_by_trackastra, weights_folder
from napari_tinysam.volume.measuring import MeasuredFrames
from napari_tinysam.volume.tracking import TrackSettings, track

#: A cell at the left that divides, and one at the right that jumps to where neither way follows.
LABELS = np.zeros((4, 40, 120), np.uint16)
LABELS[:2, 10:30, 10:30] = 5
LABELS[2:, 10:30, 10:19] = 3
LABELS[2:, 10:30, 21:30] = 8
for _t, _x in enumerate((100, 50, 100, 50)):
    LABELS[_t, 15:20, _x : _x + 5] = 6
EDGES = [
    *([(0, 5), (1, 5)], [(1, 5), (2, 3)], [(1, 5), (2, 8)]),
    *([(2, 3), (3, 3)], [(2, 8), (3, 8)]),
    *([(0, 6), (1, 6)], [(1, 6), (2, 6)], [(2, 6), (3, 6)]),
]


class Trackastra:
    """Finds the links above; says so by numbers of nodes."""

    @classmethod
    def from_folder(cls, folder: Path, device: str) -> Trackastra:
        assert (folder / "model.pt").is_file()
        assert device == "automatic"
        return cls()

    def track(
        self, images: np.ndarray, labels: np.ndarray, mode: str, progbar_class: Any
    ) -> tuple[nx.DiGraph, None]:
        assert mode == "greedy"
        assert images.shape == labels.shape
        assert list(progbar_class(range(2))) == [0, 1]
        graph = nx.DiGraph()
        names = sorted({node for edge in EDGES for node in edge})
        for number, (time, label) in enumerate(names):
            graph.add_node(number, time=time, label=label)
        graph.add_edges_from((names.index(a), names.index(b)) for a, b in EDGES)
        return graph, None


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package, model = ModuleType("trackastra"), ModuleType("trackastra.model")
    model.Trackastra = Trackastra  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackastra", package)
    monkeypatch.setitem(sys.modules, "trackastra.model", model)
    monkeypatch.setattr(learned, "find_spec", lambda name: package)
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: str(tmp_path))
    (tmp_path / "models" / "general_2d").mkdir(parents=True)
    (tmp_path / "models" / "general_2d" / "model.pt").touch()


@pytest.mark.usefixtures("installed")
def test_its_links_are_taken_and_divisions_judged() -> None:
    measured = MeasuredFrames.of(LABELS)
    chains = chained_by_trackastra(LABELS * 10, LABELS, measured)
    found = track(measured, TrackSettings(), chains=chains)
    assert found.way == "given"
    assert [each.frames for each in found.tracks] == [
        *((0, 1), (0, 1, 2, 3), (2, 3), (2, 3)),
    ]
    assert [each.parent for each in found.tracks] == [0, 0, 1, 1]
    (one,) = found.divisions
    rejected = track(measured, decisions={one.key: False}, chains=chains)
    assert [each.parent for each in rejected.tracks] == [0, 0, 0, 0]


@pytest.mark.usefixtures("installed")
def test_what_it_cannot_track() -> None:
    empty = LABELS * 0
    assert chained_by_trackastra(empty, empty, MeasuredFrames.of(empty)) == []
    deep = np.stack([LABELS, LABELS], axis=1)
    with pytest.raises(TinySAMError, match="not volumes"):
        chained_by_trackastra(deep, deep, MeasuredFrames.of(deep))


def test_without_it_or_its_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: str(tmp_path))
    for spec in (None, ModuleType("trackastra")):
        monkeypatch.setattr(learned, "find_spec", lambda name, spec=spec: spec)
        assert weights_folder() is None
        with pytest.raises(TinySAMError, match="not installed with its weights"):
            chained_by_trackastra(LABELS, LABELS, MeasuredFrames.of(LABELS))
