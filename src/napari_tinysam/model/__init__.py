"""The neural network: torch modules only, no files, no network."""

from napari_tinysam.model.encoders.efficientnet import (
    DETAIL_CHANNELS,
    EFFICIENTNET_CONFIGS,
    EfficientNetConfig,
    EfficientNetEncoder,
)
from napari_tinysam.model.encoders.tiny_vit import (
    TINY_VIT_CONFIGS,
    TinyVitConfig,
    TinyVitEncoder,
)
from napari_tinysam.model.mask_decoder import (
    DetailedMaskDecoder,
    projected_details,
    refined,
    refines,
    upscaled,
)
from napari_tinysam.model.mask_refiner import MaskRefiner
from napari_tinysam.model.names import from_official, is_tiny_vit, to_official
from napari_tinysam.model.object_head import (
    OBJECT_MAPS,
    DetailedObjectHead,
    FineObjectHead,
    ImageFeatures,
    ObjectHead,
)
from napari_tinysam.model.sam import Architecture, SegmentAnything

__all__ = [
    "DETAIL_CHANNELS",
    "EFFICIENTNET_CONFIGS",
    "OBJECT_MAPS",
    "TINY_VIT_CONFIGS",
    "Architecture",
    "DetailedMaskDecoder",
    "DetailedObjectHead",
    "EfficientNetConfig",
    "EfficientNetEncoder",
    "FineObjectHead",
    "ImageFeatures",
    "MaskRefiner",
    "ObjectHead",
    "SegmentAnything",
    "TinyVitConfig",
    "TinyVitEncoder",
    "from_official",
    "is_tiny_vit",
    "projected_details",
    "refined",
    "refines",
    "to_official",
    "upscaled",
]
