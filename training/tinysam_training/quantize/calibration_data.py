"""Calibration data for quantization: a few images, and prompts on their objects.

They are processed like any other image: contrast, resizing, prompts drawn. The network's inputs
are recorded, so that it can run on them again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_tinysam.errors import DataError
from napari_tinysam.everything.instances import instances_of
from napari_tinysam.everything.lattice import centred_lattice
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.inference.runtime.torch_runtime import TorchRuntime
from napari_tinysam.prompts import Prompts
from tinysam_training.data.spacing import evenly_spaced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from napari_tinysam.inference.runtime.protocol import DecodedPrompts
    from napari_tinysam.model import SegmentAnything
    from tinysam_training.labelled_image import ImageEntry

#: Objects of an image that are prompted with a click and with a box.
OBJECTS = 4

_PROMPTS = ("points", "labels", "boxes", "masks")


@dataclass(eq=False)
class Seen:
    """An image, and the prompts that were decoded on it.

    Attributes
    ----------
    rgb : numpy.ndarray
        (h, w, 3) uint8, the longer side that of the model's frame.
    prompts : list of dict
        Arguments of `Runtime.decode`.
    """

    rgb: npt.NDArray[np.uint8]
    prompts: list[dict[str, Any]] = field(default_factory=list)


def see(
    model: SegmentAnything,
    entries: Sequence[ImageEntry],
    progress: Callable[[int, int], None] | None = None,
) -> list[Seen]:
    """Show images to a model.

    Parameters
    ----------
    model : SegmentAnything
        On the CPU.
    entries : sequence of ImageEntry
        Labelled objects are prompted with clicks and boxes; images without labels with a few
        points of a lattice.
    progress : callable, optional
        Called with images seen and their number.

    Raises
    ------
    DataError
        If there are no images, or one cannot be read or has one colour only.
    """
    if not entries:
        raise DataError("There is no image to calibrate with.")
    runtime = _Recording(model)
    # The inputs are for the whole model, which reads whole frames.
    predictor = Predictor(
        runtime, name="calibrated", model_id="calibrated", windows=False
    )
    for number, entry in enumerate(entries, start=1):
        image = entry.read()
        if image.rgb.min() == image.rgb.max():
            raise DataError(
                f"{image.name} has one colour only; a model cannot be calibrated with it."
            )
        embedding = predictor.encode(image.rgb)
        for prompts in _prompts(image.labels[0]):
            predictor.predict(embedding, prompts)
        if progress is not None:
            progress(number, len(entries))
    return runtime.seen


def _prompts(labels: npt.NDArray[np.int32]) -> list[Prompts]:
    chosen = evenly_spaced(np.unique(labels[labels > 0]).tolist(), OBJECTS)
    objects = instances_of(np.where(np.isin(labels, chosen), labels, 0))
    if not objects:
        size = (int(labels.shape[0]), int(labels.shape[1]))
        lattice = centred_lattice(size, points_per_side=2).all
        return [Prompts(points=lattice.astype(np.float32)[:, np.newaxis])]
    points = np.array([each.point for each in objects], np.float32)
    boxes = np.array([each.mask.box for each in objects], np.float32)
    return [Prompts(points=points[:, np.newaxis]), Prompts(boxes=boxes)]


class _Recording(TorchRuntime):
    """Record the inputs."""

    def __init__(self, model: SegmentAnything) -> None:
        super().__init__(model, torch.device("cpu"))
        self.seen: list[Seen] = []

    def encode(self, rgb: npt.NDArray[np.uint8]) -> Any:
        seen = Seen(rgb)
        self.seen.append(seen)
        return seen, super().encode(rgb)

    def decode(self, features: Any, **given: Any) -> DecodedPrompts:
        seen, features = features
        prompts: dict[str, Any] = {name: given[name] for name in _PROMPTS}
        seen.prompts.append({k: v for k, v in prompts.items() if v is not None})
        return super().decode(features, **given)

    def object_maps(self, features: Any) -> npt.NDArray[np.float32] | None:
        return super().object_maps(features[1])


def as_tensor(rgb: npt.NDArray[np.uint8]) -> torch.Tensor:
    """(h, w, 3) uint8 to (1, 3, h, w) float32."""
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None].float()


def as_tensors(
    prompts: Mapping[str, npt.NDArray[Any] | None],
) -> dict[str, torch.Tensor]:
    """Prompts of `Runtime.decode` to those of `SegmentAnything.decode`."""
    found = {}
    for name, array in prompts.items():
        if array is not None:
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            found[name] = tensor[:, None] if name == "masks" else tensor
    return found
