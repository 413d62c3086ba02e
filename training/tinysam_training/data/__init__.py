"""Labelled images for training: their sources, checks, and windows of them."""

from napari_tinysam.errors import DataError
from tinysam_training.data.checks import check_data
from tinysam_training.data.findings import Finding, FoundEntries
from tinysam_training.data.report import DataReport
from tinysam_training.data.sources.arrays import from_arrays
from tinysam_training.data.sources.coco import find_coco
from tinysam_training.data.sources.folders import find_pairs
from tinysam_training.data.sources.sa1b import find_sa1b
from tinysam_training.labelled_image import ImageEntry, ImageStore, LabelledImage

__all__ = [
    "DataError",
    "DataReport",
    "Finding",
    "FoundEntries",
    "ImageEntry",
    "ImageStore",
    "LabelledImage",
    "check_data",
    "find_coco",
    "find_pairs",
    "find_sa1b",
    "from_arrays",
]
