"""GeoJSON (RFC 7946) as QuPath reads it: each object a detection with measurements."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from napari_tinysam.outlines import polygons

if TYPE_CHECKING:
    from napari_tinysam.batch.forms.found import FoundObject, FoundObjects
    from napari_tinysam.masks import BoxedMask

#: Columns of the table that are no measurements: the geometry tells them, or they are words.
_NO_MEASUREMENTS = ("label", "x0", "y0", "x1", "y1", "found_by")

#: So that the same object of the same image has the same number in each run.
_NAMESPACE = uuid.UUID("5b0c7f0e-5f0d-4a51-9f8e-0a3c6c0f9d1a")


def geojson(found: FoundObjects) -> bytes:
    """Write the objects as a collection of features, in pixels of the image.

    Notes
    -----
    https://qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html: an object's
    type is in ``objectType``, its plane in the geometry's ``plane``.
    """
    features = []
    for plane in found.planes:
        place = dict(zip(found.axes, plane.index, strict=True))
        where = {"c": -1, "z": place.get("Z", 0), "t": place.get("T", 0)}
        named = dict(zip(found.names, plane.index, strict=True))
        for each in plane:
            geometry = _geometry(each.mask)
            if found.axes:
                geometry["plane"] = where
            known = f"{found.image} {plane.index} {each.label}"
            features.append(
                {
                    "type": "Feature",
                    "id": str(uuid.uuid5(_NAMESPACE, known)),
                    "geometry": geometry,
                    "properties": _properties(each, named),
                }
            )
    content = {"type": "FeatureCollection", "features": features}
    return json.dumps(content, separators=(",", ":")).encode()


def _geometry(mask: BoxedMask) -> dict[str, Any]:
    """Return a polygon, or several, along the edges of the pixels."""
    corner = (mask.x0, mask.y0)
    pieces = [
        # A ring ends where it begins.
        [[*(ring + corner).tolist(), (ring[0] + corner).tolist()] for ring in piece]
        for piece in polygons(mask.mask)
    ]
    if len(pieces) == 1:
        return {"type": "Polygon", "coordinates": pieces[0]}
    return {"type": "MultiPolygon", "coordinates": pieces}


def _properties(found: FoundObject, place: dict[str, int]) -> dict[str, Any]:
    row = {name: value for name, value in found.row.items() if name not in place}
    measured = {
        name: value
        for name, value in sorted(row.items())
        if name not in _NO_MEASUREMENTS and value != ""
    }
    return {
        "objectType": "detection",
        "name": str(found.label),
        "measurements": measured,
        **place,
    }
