"""Tracks go out to other programs and come back, or one sentence says why not."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_tinysam.errors import DataError, FileError, TinySAMError
from napari_tinysam.volume.exchange.geff_store import read_geff, write_geff
from napari_tinysam.volume.exchange.points import TrackPoints, points_of_graph
from napari_tinysam.volume.exchange.tables import csv_text, read_csv, write_csv
from napari_tinysam.volume.exchange.trackmate import write_trackmate

#: One mother and two daughters, and an object that is away for a frame.
FRAMES = [
    np.array([[7, 7, 0, 9], [7, 7, 0, 9]]),
    np.array([[7, 0, 0, 9], [7, 0, 0, 9]]),
    np.array([[3, 0, 4, 0], [3, 0, 4, 0]]),
    np.array([[3, 0, 4, 9], [3, 0, 4, 9]]),
]
PARENTS = {3: 7, 4: 7}
IMAGES = [np.full((2, 4), float(n)) for n in range(4)]


def points(images: list[np.ndarray] | None = None) -> TrackPoints:
    return TrackPoints.of(FRAMES, PARENTS, images)


def stack() -> TrackPoints:
    return TrackPoints.of([np.stack([f, f]) for f in FRAMES], PARENTS)


def same(one: TrackPoints, other: TrackPoints) -> None:
    """The same places and families, whatever the tracks are called."""
    names: dict[int, int] = {}
    rows = {
        (int(frame), *map(float, np.round(centre, 4))): int(track)
        for track, frame, centre in zip(
            other.track, other.frame, other.centre, strict=True
        )
    }
    assert len(rows) == len(one)
    for track, frame, centre in zip(one.track, one.frame, one.centre, strict=True):
        partner = rows[int(frame), *map(float, np.round(centre, 4))]
        assert names.setdefault(int(track), partner) == partner
    assert len(set(names.values())) == len(names)
    assert {names[c]: names[p] for c, p in one.parents.items()} == other.parents


def test_points_are_measured() -> None:
    found = points(IMAGES)
    assert found.track.tolist() == [3, 3, 4, 4, 7, 7, 9, 9, 9]
    assert found.frame.tolist() == [2, 3, 2, 3, 0, 1, 0, 1, 3]
    assert found.centre[4].tolist() == [0.5, 0.5]
    assert found.area is not None
    assert found.area[4] == 4
    assert found.intensity is not None
    assert found.intensity.tolist() == found.frame.tolist()
    assert stack().axes == "zyx"
    assert stack().centre[4].tolist() == [0.5, 0.5, 0.5]


def test_images_with_channels_and_without_numbers() -> None:
    blank = np.stack([IMAGES[1], np.full((2, 4), np.nan)], axis=2)
    found = points([blank, *IMAGES[1:]])
    assert found.intensity is not None
    assert np.isnan(found.intensity[found.frame == 0]).all()
    assert csv_text(found).splitlines()[5] == "7,0,0,,0.5,0.5,4,"
    with pytest.raises(DataError, match="Frame 0"):
        points([np.zeros((3, 3))] * 4)


def test_napari_takes_them() -> None:
    data, graph = points().for_napari()
    assert data[0].tolist() == [3, 2, 0.5, 0]
    assert graph == {3: [7], 4: [7]}
    pytest.importorskip("napari")
    from napari.layers import Tracks

    layer = Tracks(data, graph=graph)
    np.testing.assert_array_equal(layer.data, data)


def test_csv_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "tracks.csv"
    write_csv(path, points(IMAGES))
    lines = path.read_text().splitlines()
    assert lines[0] == "track,parent,t,z,y,x,area,intensity"
    assert lines[1] == "3,7,2,,0.5,0,2,2"
    same(points(), read_csv(path))
    write_csv(path, stack())
    assert path.read_text().splitlines()[1] == "3,7,2,0.5,0.5,0,4,"
    same(stack(), read_csv(path))


@pytest.mark.parametrize(
    "text",
    [
        "1,0,4,5\n1,1,4,6\n2,0,9,9\n",
        "1.0e+00 0.0e+00 4 5\n1 1 4 6\n2 0 9 9\n",
        "track_id,t,y,x\n1,0,4,5\n1,1,4,6\n\n2,0,9,9\n",
        "ID;T;Z;Y;X\n1;0;;4;5\n1;1;;4;6\n2;0;;9;9\n",
        "# Label\tFrame\tx\ty\n1\t0\t5\t4\n1\t1\t6\t4\n2\t0\t9\t9\n",
        "t,y,x,id,parent_id,track_id\n0,4,5,17,-1,1\n1,4,6,23,17,1\n0,9,9,18,,2\n",
    ],
)
def test_tables_of_napari_and_its_plugins(tmp_path: Path, text: str) -> None:
    path = tmp_path / "some.csv"
    path.write_text(text)
    found = read_csv(path)
    wanted = TrackPoints.sorted([1, 1, 2], [0, 1, 0], [[4, 5], [4, 6], [9, 9]], {})
    same(wanted, found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "no column track"),
        ("1,2,3\n", "3 columns and no header"),
        ("track,t,y,x\n1,0,3,3\n1,1,x,3\n", "line 3"),
        ("track,t,y,x\n1,0,3\n", "line 2"),
        ("track,t,y,x\n1,0.5,3,3\n", "line 2"),
        ("track,t,y,x\n1,0,3,3\n1,0,4,4\n", "two places in frame 0"),
        ("track,t,y,x\n0,0,3,3\n", "above 0"),
        ("track,t,y,x\n1,-1,3,3\n", "count from 0"),
        ("track,t,y,x\n1,0,nan,3\n", "no place in frame 0"),
        ("track,t,y,x,parent\n1,0,3,3,8\n", "in no frame"),
        ("t,y,x,id,parent_id\n0,1,1,5,\n0,2,2,5,\n", "same id"),
        ("t,y,x,id,parent_id\n0,1,1,5,77\n", "not in the table"),
        ("t,y,x,id,parent_id\n1,1,1,5,6\n0,1,1,6,5\n", "goes from frame"),
        ("\ufffe\x00", "no column"),
    ],
)
def test_tables_that_are_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "some.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(FileError, match=said) as error:
        read_csv(path)
    assert str(path) in str(error.value)
    with pytest.raises(FileError, match="cannot be read"):
        read_csv(tmp_path / "none.csv")


def test_points_of_another_movie() -> None:
    points().check_inside((4, 2, 4))
    for shape in ((3, 2, 4), (4, 2, 3)):
        with pytest.raises(DataError, match="outside the movie"):
            points().check_inside(shape)
    with pytest.raises(DataError, match="3 axes in space, the movie has 2"):
        stack().check_inside((4, 2, 4))


def test_merging_objects_are_refused() -> None:
    with pytest.raises(DataError, match="become one in frame 1"):
        points_of_graph([0, 0, 1], np.zeros((3, 2)), [[0, 2], [1, 2]])


graphs = st.integers(0, 2**32).map(
    lambda seed: np.random.default_rng(seed).integers(0, 5, (6, 3, 8))
)


@given(frames=graphs)
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_csv_keeps_any_tracks(tmp_path: Path, frames: np.ndarray) -> None:
    ours = TrackPoints.of(frames, {})
    write_csv(tmp_path / "tracks.csv", ours)
    found = read_csv(tmp_path / "tracks.csv")
    assert found.tracks() == ours.tracks()
    np.testing.assert_allclose(found.centre, ours.centre, atol=1e-4)


def test_nothing_is_exchanged_well(tmp_path: Path) -> None:
    """No track at all is a movie, too."""
    nothing = TrackPoints.of([np.zeros((3, 3), int)] * 2, {})
    write_csv(tmp_path / "none.csv", nothing)
    assert len(read_csv(tmp_path / "none.csv")) == 0
    write_trackmate(tmp_path / "none.xml", nothing, (2, 3, 3))
    pytest.importorskip("geff")
    write_geff(tmp_path / "none.geff", nothing)
    assert len(read_geff(tmp_path / "none.geff")) == 0


@pytest.mark.parametrize("make", [points, stack])
def test_geff_there_and_back(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("geff")
    import geff

    path = tmp_path / "tracks.geff"
    ours = make()
    write_geff(path, ours, (2.0, 0.5, 0.5)[-len(ours.axes) :])
    same(ours, read_geff(path))
    graph, metadata = geff.read(path)
    assert graph.number_of_nodes() == 9
    assert [axis.name for axis in metadata.axes] == ["t", *ours.axes]
    assert metadata.axes[-1].scale == 0.5
    before = sorted(path.rglob("*"))
    write_geff(path, ours)  # again, in its place
    assert sorted(path.rglob("*")) == before
    assert [each.name for each in tmp_path.iterdir()] == ["tracks.geff"]


def test_geff_says_what_a_tracklet_is(tmp_path: Path) -> None:
    """Tracks are declared as such only where they are what the specification means."""
    pytest.importorskip("geff")
    from geff import validate_structure
    from geff.core_io import read_to_memory
    from geff.validate.tracks import validate_tracklets

    for parents, wanted in (
        ({3: 7, 4: 7}, {"tracklet": "track"}),
        ({3: 7}, None),
        ({}, {"tracklet": "track"}),
    ):
        path = tmp_path / f"{len(parents)}.geff"
        write_geff(path, TrackPoints.of(FRAMES, parents))
        validate_structure(path)
        graph = read_to_memory(path)
        assert graph["metadata"].track_node_props == wanted
        tracks = graph["node_props"]["track"]["values"]
        valid, errors = validate_tracklets(graph["node_ids"], graph["edge_ids"], tracks)
        assert valid == (wanted is not None), errors


def test_geff_of_another_program(tmp_path: Path) -> None:
    """Ids with gaps, in any order; links without directions; other names."""
    geff = pytest.importorskip("geff")
    import networkx as nx

    graph = nx.Graph()
    graph.add_node(90, time=1, row=1.0, column=2.0)
    graph.add_node(4, time=0, row=1.0, column=1.0)
    graph.add_node(7, time=1, row=5.0, column=1.0)
    graph.add_edges_from([(90, 4), (7, 4)])
    path = tmp_path / "other.geff"
    geff.write(
        graph,
        path,
        axis_names=["time", "row", "column"],
        axis_types=["time", "space", "space"],
    )
    found = read_geff(path)
    assert found.frame.tolist() == [0, 1, 1]
    assert found.parents == {2: 1, 3: 1}
    assert sorted(found.centre.tolist()) == [[1, 1], [1, 2], [5, 1]]


def test_geff_that_is_wrong(tmp_path: Path) -> None:
    geff = pytest.importorskip("geff")
    import networkx as nx

    with pytest.raises(FileError, match="no GEFF folder"):
        read_geff(tmp_path)
    own = tmp_path / "own"
    own.mkdir()
    (own / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match="left alone"):
        write_geff(own, points())
    assert (own / "notes.txt").read_text() == "mine"

    def written(name: str, *nodes: tuple[int, dict[str, float]]) -> Path:
        graph = nx.DiGraph()
        graph.add_nodes_from(nodes)
        if len(nodes) == 3:
            graph.add_edges_from([(0, 2), (1, 2)])
        geff.write(graph, tmp_path / name)
        return tmp_path / name

    bare = written("bare.geff", (0, {"t": 0}))
    with pytest.raises(FileError, match="nodes have no y"):
        read_geff(bare)
    half = written("half.geff", (0, {"t": 0.5, "y": 1.0, "x": 1.0}))
    with pytest.raises(FileError, match="no numbers of frames"):
        read_geff(half)
    merging = written(
        "merging.geff", *((n, {"t": n // 2, "y": 1.0, "x": float(n)}) for n in range(3))
    )
    with pytest.raises(FileError, match="become one in frame 1"):
        read_geff(merging)
    for part in (merging / "nodes" / "ids").rglob("*"):
        if part.is_file():
            part.write_bytes(b"{")
    with pytest.raises(FileError, match="cannot be read"):
        read_geff(merging)


def test_without_the_package_geff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "geff", None)
    with pytest.raises(TinySAMError, match=r"pip install 'napari-tinysam\[tracks\]'"):
        write_geff(tmp_path / "a.geff", points())
    with pytest.raises(TinySAMError, match="GEFF needs"):
        read_geff(tmp_path / "a.geff")
    assert not list(tmp_path.iterdir())


def test_trackmate(tmp_path: Path) -> None:
    path = tmp_path / "movie.xml"
    movie = tmp_path / "movie.tif"
    write_trackmate(path, stack(), (4, 2, 2, 4), scale=(3.0, 0.5, 0.5), image=movie)
    root = ET.parse(path).getroot()
    spots = {spot.get("ID"): spot for spot in root.iter("Spot")}
    assert len(spots) == 9
    assert spots["4"].get("POSITION_Z") == "1.5"
    assert spots["4"].get("POSITION_X") == "0.25"
    assert spots["4"].get("FRAME") == "0"
    radius = float(spots["4"].get("RADIUS") or 0)
    assert radius**3 * 4 * np.pi / 3 == pytest.approx(8 * 3 * 0.25)
    tracks = list(root.iter("Track"))
    assert len(tracks) == 2  # the family, and the object that was away
    ends = [
        (int(e.get("SPOT_SOURCE_ID") or 0), int(e.get("SPOT_TARGET_ID") or 0))
        for e in root.iter("Edge")
    ]
    assert sorted(ends) == [(0, 1), (2, 3), (4, 5), (5, 0), (5, 2), (6, 7), (7, 8)]
    data = next(root.iter("ImageData")).attrib
    assert (data["filename"], data["nslices"], data["nframes"]) == (
        "movie.tif",
        "2",
        "4",
    )
    assert data["voxeldepth"] == "3.0"


@pytest.mark.filterwarnings("ignore")
def test_trackmate_as_another_program_reads_it(tmp_path: Path) -> None:
    convert = pytest.importorskip("geff.convert")
    path = tmp_path / "movie.xml"
    write_trackmate(path, points(IMAGES), (4, 2, 4), image=tmp_path / "movie.tif")
    convert.from_trackmate_xml_to_geff(path, tmp_path / "movie.geff")
    same(
        points(),
        TrackPoints.sorted(
            (found := read_geff(tmp_path / "movie.geff")).track.tolist(),
            found.frame.tolist(),
            found.centre[:, 1:],
            found.parents,
        ),
    )
