"""The neural network: torch modules only, no files, no network."""

from napari_tinysam.model.names import from_official, is_tiny_vit, to_official
from napari_tinysam.model.object_head import (
    OBJECT_MAPS,
    DetailedObjectHead,
    ImageFeatures,
    ObjectHead,
)
from napari_tinysam.model.sam import Architecture, SegmentAnything
from napari_tinysam.model.tiny_vit import (
    TINY_VIT_CONFIGS,
    TinyVitConfig,
    TinyVitEncoder,
)

__all__ = [
    "OBJECT_MAPS",
    "TINY_VIT_CONFIGS",
    "Architecture",
    "DetailedObjectHead",
    "ImageFeatures",
    "ObjectHead",
    "SegmentAnything",
    "TinyVitConfig",
    "TinyVitEncoder",
    "from_official",
    "is_tiny_vit",
    "to_official",
]
