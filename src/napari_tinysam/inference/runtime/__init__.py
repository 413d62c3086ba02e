"""What runs the network: one protocol, one implementation a runtime."""

from napari_tinysam.inference.runtime.protocol import DecodedPrompts, Runtime

__all__ = ["DecodedPrompts", "Runtime"]
