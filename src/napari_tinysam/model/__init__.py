"""The neural network: torch modules only, no files, no network."""

from napari_tinysam.model.encoders import ENCODERS, Architecture
from napari_tinysam.model.encoders.efficientnet import (
    EFFICIENTNETS,
    EfficientNetEncoder,
)
from napari_tinysam.model.encoders.kind import EncoderKind, ImageFeatures
from napari_tinysam.model.encoders.tiny_vit import TINY_VIT_CONFIGS, TinyVitEncoder
from napari_tinysam.model.mask_decoder import (
    DetailedMaskDecoder,
    projected_details,
    refined,
    refines,
    upscaled,
)
from napari_tinysam.model.mask_refiner import MaskRefiner
from napari_tinysam.model.names import from_official, to_official
from napari_tinysam.model.object_head import (
    OBJECT_MAPS,
    DetailedObjectHead,
    FineObjectHead,
    ObjectHead,
    new_object_head,
)
from napari_tinysam.model.sam import MLP_DIM, SegmentAnything

__all__ = [
    "EFFICIENTNETS",
    "ENCODERS",
    "MLP_DIM",
    "OBJECT_MAPS",
    "TINY_VIT_CONFIGS",
    "Architecture",
    "DetailedMaskDecoder",
    "DetailedObjectHead",
    "EfficientNetEncoder",
    "EncoderKind",
    "FineObjectHead",
    "ImageFeatures",
    "MaskRefiner",
    "ObjectHead",
    "SegmentAnything",
    "TinyVitEncoder",
    "from_official",
    "new_object_head",
    "projected_details",
    "refined",
    "refines",
    "to_official",
    "upscaled",
]
