"""From a model and a few images to the saved quantized model."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_tinysam.model.quantized import with_integers
from tinysam_training.quantize.quantizing import (
    collected,
    searched,
    with_eight_bits,
)
from tinysam_training.quantize.sensitivity import (
    Sensitivity,
    sensitivities,
    task_loss,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_tinysam.model import SegmentAnything
    from tinysam_training.labelled_image import ImageEntry
    from tinysam_training.quantize.search import ScaleSearch

#: Parts of the model that are computed with integers. The decoder stays in floats: a prompt's time
#: goes into many small steps and products of activations, and its softmaxes over 4,096 places have
#: no integer kernel; drawing masks with integers took longer than in bfloat16.
COMPUTED = ("image_encoder.", "object_head.")

#: A layer of these stays in floats if its expected cost exceeds this share of the total.
DEAR = 0.1


@dataclass(frozen=True, eq=False)
class Quantized:
    """A quantized model and its costs.

    Attributes
    ----------
    model : SegmentAnything
        With `quantization`.
    sensitivities : list of Sensitivity
        Of all layers, the most expensive first.
    floats : list of str
        Layers of `COMPUTED` parts that are computed with floats because they cost too much.
    loss : float
        KL of masks, predicted IoUs and object maps, mean per calibration image.
    images : int
    seconds : float
    """

    model: SegmentAnything
    sensitivities: list[Sensitivity]
    floats: list[str]
    loss: float
    images: int
    seconds: float


def quantize(
    model: SegmentAnything,
    entries: Sequence[ImageEntry],
    settings: ScaleSearch | None = None,
    *,
    seed: int = 0,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Quantized:
    """Quantize a model for kernels of 8-bit integers.

    Parameters
    ----------
    model : SegmentAnything
        On the CPU, with a TinyViT or EfficientNet encoder; it is not changed.
    entries : sequence of ImageEntry
        Calibration images; eight are enough.
    settings : ScaleSearch, optional
    seed : int
    report : callable
        Called with the name of the step, the units done, and their total.

    Returns
    -------
    Quantized

    Raises
    ------
    tinysam_training.labelled_image.DataError
        If the images cannot be used.
    ValueError
        If the model has another encoder.
    """
    begun = time.monotonic()
    found = collected(model, entries, seed=seed, report=report)
    scales = searched(found, settings, report=report)
    costs = sensitivities(found, scales)
    of_computed = [each for each in costs if each.name.startswith(COMPUTED)]
    whole = sum(each.after for each in of_computed)
    floats = [each.name for each in of_computed if each.after > DEAR * whole]
    made = with_eight_bits(
        found, scales, lambda name: name.startswith(COMPUTED) and name not in floats
    )
    report("Check", 0, 1)
    loss = task_loss(with_integers(made), found.model, found.seen)
    report("Check", 1, 1)
    seconds = time.monotonic() - begun
    return Quantized(made, costs, floats, loss, found.images, seconds)
