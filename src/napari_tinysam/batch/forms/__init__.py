"""Forms in which objects are written for other programs, beside labels and table.

A new one is a module in this folder and a line in `FORMS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from napari_tinysam.batch.forms.coco import coco
from napari_tinysam.batch.forms.found import FoundObjects
from napari_tinysam.batch.forms.geojson import geojson
from napari_tinysam.batch.forms.imagej import imagej_rois


class Form(NamedTuple):
    """A form of objects.

    Attributes
    ----------
    ending : str
        What the file's name ends in, after the name of the image.
    encode : callable
        Turns objects into the contents of the file.
    """

    ending: str
    encode: Callable[[FoundObjects], bytes]


#: By the word for it on the command line.
FORMS = {
    "coco": Form("_coco.json", coco),
    "roi": Form("_rois.zip", imagej_rois),
    "geojson": Form("_objects.geojson", geojson),
}

__all__ = ["FORMS", "Form", "FoundObjects"]
