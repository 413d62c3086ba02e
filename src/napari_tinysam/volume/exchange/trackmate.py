"""Tracks as the XML of TrackMate, the tracking plugin of Fiji (Ershov et al., Nature Methods 2022).

Its tracks are whole families: an object, and all that descend from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np

from napari_tinysam.files.atomic import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_tinysam.volume.exchange.points import TrackPoints

#: The version whose files these are.
_VERSION = "7.11.1"

#: Features: name, short name, dimension, whether a whole number.
_SPOTS = (
    ("QUALITY", "Quality", "QUALITY", False),
    ("POSITION_X", "X", "POSITION", False),
    ("POSITION_Y", "Y", "POSITION", False),
    ("POSITION_Z", "Z", "POSITION", False),
    ("POSITION_T", "T", "TIME", False),
    ("FRAME", "Frame", "NONE", True),
    ("RADIUS", "R", "LENGTH", False),
    ("VISIBILITY", "Visibility", "NONE", True),
    ("MEAN_INTENSITY_CH1", "Mean ch1", "INTENSITY", False),
)
_EDGES = (
    ("SPOT_SOURCE_ID", "Source ID", "NONE", True),
    ("SPOT_TARGET_ID", "Target ID", "NONE", True),
)
_TRACKS = (("TRACK_ID", "ID", "NONE", True),)


def write_trackmate(
    path: Path,
    points: TrackPoints,
    shape: Sequence[int],
    *,
    scale: Sequence[float] | None = None,
    image: Path | None = None,
) -> None:
    """Write an XML file that TrackMate opens.

    Parameters
    ----------
    path : Path
        Ends in ``.xml``; an existing file is replaced.
    points : TrackPoints
    shape : sequence of int
        Of the movie: (T, H, W) or (T, Z, H, W).
    scale : sequence of float, optional
        Side of a pixel along the axes of a frame. Places and radii are written in its unit.
    image : Path, optional
        Where TrackMate finds the movie.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    axes = len(points.axes)
    sides = np.array(scale or [1.0] * axes, float)
    root = ET.Element("TrackMate", version=_VERSION)
    model = ET.SubElement(root, "Model", spatialunits="pixel", timeunits="frame")
    declared = ET.SubElement(model, "FeatureDeclarations")
    for name, features in (
        ("SpotFeatures", _SPOTS),
        ("EdgeFeatures", _EDGES),
        ("TrackFeatures", _TRACKS),
    ):
        group = ET.SubElement(declared, name)
        for feature, short, dimension, whole in features:
            ET.SubElement(
                group,
                "Feature",
                feature=feature,
                name=short,
                shortname=short,
                dimension=dimension,
                isint=str(whole).lower(),
            )
    _add_spots(model, points, sides)
    _add_tracks(model, points)
    settings = ET.SubElement(root, "Settings")
    depth = shape[1] if len(shape) == 4 else 1
    place = None if image is None else image.absolute()
    ET.SubElement(
        settings,
        "ImageData",
        filename="" if place is None else place.name,
        folder="" if place is None else f"{place.parent}/",
        width=str(shape[-1]),
        height=str(shape[-2]),
        nslices=str(depth),
        nframes=str(shape[0]),
        pixelwidth=str(sides[-1]),
        pixelheight=str(sides[-2]),
        voxeldepth=str(sides[0] if axes == 3 else 1.0),
        timeinterval="1.0",
    )
    ET.indent(root)
    with replacing(path) as file:
        ET.ElementTree(root).write(file, encoding="UTF-8", xml_declaration=True)


def _add_spots(
    model: ET.Element, points: TrackPoints, sides: npt.NDArray[np.float64]
) -> None:
    spots = ET.SubElement(model, "AllSpots", nspots=str(len(points)))
    places = points.centre * sides
    radii = _radii(points, sides)
    for frame in np.unique(points.frame).tolist():
        group = ET.SubElement(spots, "SpotsInFrame", frame=str(frame))
        for row in np.flatnonzero(points.frame == frame).tolist():
            place = dict(zip(points.axes, places[row], strict=True))
            known = {
                "ID": str(row),
                "name": f"ID{row}",
                "QUALITY": "1.0",
                "POSITION_X": repr(float(place["x"])),
                "POSITION_Y": repr(float(place["y"])),
                "POSITION_Z": repr(float(place.get("z", 0.0))),
                "POSITION_T": f"{frame}.0",
                "FRAME": str(frame),
                "RADIUS": repr(float(radii[row])),
                "VISIBILITY": "1",
            }
            if points.intensity is not None and np.isfinite(points.intensity[row]):
                known["MEAN_INTENSITY_CH1"] = repr(float(points.intensity[row]))
            ET.SubElement(group, "Spot", known)


def _add_tracks(model: ET.Element, points: TrackPoints) -> None:
    """Add families, each with its links; TrackMate has no track of a single spot."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = points.edges()
    size = len(points)
    ones = np.ones(len(edges))
    graph = coo_array((ones, (edges[:, 0], edges[:, 1])), (size, size))
    family = connected_components(graph, directed=False)[1] if size else np.zeros(0)
    tracks = ET.SubElement(model, "AllTracks")
    filtered = ET.SubElement(model, "FilteredTracks")
    of_edge = family[edges[:, 0]]
    for number in np.unique(of_edge).tolist():
        known = {"name": f"Track_{number}", "TRACK_ID": str(number)}
        group = ET.SubElement(tracks, "Track", known)
        for one, other in edges[of_edge == number].tolist():
            ends = {"SPOT_SOURCE_ID": str(one), "SPOT_TARGET_ID": str(other)}
            ET.SubElement(group, "Edge", ends)
        ET.SubElement(filtered, "TrackID", TRACK_ID=str(number))


def _radii(
    points: TrackPoints, sides: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(N,) radii of discs or balls of the objects' size."""
    if points.area is None:
        return np.full(len(points), 5.0)
    axes = len(sides)
    shape = np.pi if axes == 2 else 4 * np.pi / 3
    sizes = points.area * float(np.prod(sides))
    return np.asarray((sizes / shape) ** (1 / axes), np.float64)
