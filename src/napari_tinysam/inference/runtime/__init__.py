"""What runs the network: one protocol, and an implementation for each runtime."""

from napari_tinysam.inference.runtime.protocol import (
    DecodedPrompts,
    KeepsFeatures,
    Runtime,
    ShowsFeatures,
)

__all__ = ["DecodedPrompts", "KeepsFeatures", "Runtime", "ShowsFeatures"]
