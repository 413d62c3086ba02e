"""TinySAM in napari: clicks to masks, on a laptop.

The names below are the public Python interface. Importing this package loads none of them: torch
comes with the first use.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_tinysam.everything import segment_everything
    from napari_tinysam.inference.load import load_model
    from napari_tinysam.inference.predictions import Embedding, Masks
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.prompts import Prompts

try:
    __version__ = version("napari-tinysam")
except PackageNotFoundError:  # used from a source tree that is not installed
    __version__ = "0+unknown"

_HOME = {
    "Embedding": "inference.predictions",
    "Masks": "inference.predictions",
    "Predictor": "inference.predictor",
    "Prompts": "prompts",
    "load_model": "inference.load",
    "segment_everything": "everything",
}

__all__ = [
    "Embedding",
    "Masks",
    "Predictor",
    "Prompts",
    "load_model",
    "segment_everything",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
