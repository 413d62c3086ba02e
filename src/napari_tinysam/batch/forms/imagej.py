"""ImageJ's regions of interest, one for each object, in a ZIP file for the ROI Manager."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.outlines import polygons

if TYPE_CHECKING:
    from napari_tinysam.batch.forms.found import FoundObjects
    from napari_tinysam.masks import BoxedMask

#: Segments of a path in a shape of several outlines, as of java.awt.geom.PathIterator.
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0

#: Dates in ZIP files begin here; the same objects give the same file.
_DATE = (1980, 1, 1, 0, 0, 0)


def imagej_rois(found: FoundObjects) -> bytes:
    """Write the objects as regions along the edges of their pixels, holes and pieces included."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for number, plane in enumerate(found.planes):
            place = dict(zip(found.axes, plane.index, strict=True))
            named = "".join(
                f"{name}{index}-"
                for name, index in zip(found.names, plane.index, strict=True)
            )
            for each in plane:
                roi = _roi(each.mask)
                roi.name = f"{named}{each.label:04}"
                if set(found.axes) & set("ZT"):
                    # ImageJ counts from 1; 0 is every slice or frame.
                    roi.z_position = place.get("Z", -1) + 1
                    roi.t_position = place.get("T", -1) + 1
                elif found.axes:
                    roi.position = number + 1
                info = zipfile.ZipInfo(f"{roi.name}.roi", _DATE)
                file.writestr(info, roi.tobytes())
    return content.getvalue()


def _roi(mask: BoxedMask) -> Any:
    """Return a polygon; for holes and several pieces a shape of several outlines."""
    from roifile import ROI_TYPE, ImagejRoi

    corner = (mask.x0, mask.y0)
    rings = [ring + corner for piece in polygons(mask.mask) for ring in piece]
    if len(rings) == 1:
        return ImagejRoi.frompoints(rings[0])
    path: list[float] = []
    for ring in rings:
        for number, (x, y) in enumerate(ring.tolist()):
            path += [_LINE if number else _MOVE, x, y]
        path.append(_CLOSE)
    roi = ImagejRoi()
    roi.roitype = ROI_TYPE.RECT
    roi.left, roi.top = mask.x0, mask.y0
    roi.right, roi.bottom = mask.x0 + mask.mask.shape[1], mask.y0 + mask.mask.shape[0]
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    return roi
