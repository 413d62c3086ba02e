"""What runs the network: one protocol, and an implementation for each runtime."""

from napari_tinysam.inference.runtime.protocol import DecodedPrompts, Runtime

__all__ = ["DecodedPrompts", "Runtime"]
