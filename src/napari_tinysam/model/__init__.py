"""The neural network: torch modules only, no files, no network."""

from napari_tinysam.model.names import from_official, is_tiny_vit, to_official
from napari_tinysam.model.sam import Architecture, SegmentAnything
from napari_tinysam.model.tiny_vit import TinyVitEncoder

__all__ = [
    "Architecture",
    "SegmentAnything",
    "TinyVitEncoder",
    "from_official",
    "is_tiny_vit",
    "to_official",
]
