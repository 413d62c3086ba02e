"""Small models, what is exported of them, and what runs that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from napari_tinysam.dense_prompts import draw_prompts, first_guess
from napari_tinysam.model import ImageFeatures, SegmentAnything
from napari_tinysam.model.integers import (
    InputQuantization,
    LayerQuantization,
    along,
    to_integers,
    weight_axis,
)
from official_models import random_values
from tinysam_training.quantize.folding import folded
from tinysam_training.quantize.operations import operations

if TYPE_CHECKING:
    from torch import Tensor

Arrays = dict[str, npt.NDArray[Any]]

SIDE = 128


def small_model(
    *, head: bool = True, dense: bool = True, side: int = SIDE
) -> SegmentAnything:
    """Random weights."""
    torch.manual_seed(0)
    model = SegmentAnything("tiny_vit_2m", side, object_head=head, details=head)
    model.load_state_dict(random_values(model.state_dict()))
    model.dense_prompts = dense
    return model.eval()


def quantized_model(*, dense: bool = True) -> SegmentAnything:
    """The same: encoder and head compute with integers, the rest has weights of 8 bits.

    Ranges are as seen on noise.
    """
    model = folded(small_model(dense=dense))
    model.dense_prompts = dense
    largest: dict[str, float] = {}
    hooks = []
    for name, layer in operations(model):

        def note(_: Any, given: Any, name: str = name) -> None:
            largest[name] = float(given[0].abs().max())

        hooks.append(layer.register_forward_pre_hook(note))
    with torch.no_grad():
        frame = model.normalize_and_pad(255 * torch.rand(1, 3, SIDE, SIDE))
        model.object_maps(model.features(frame))
    for hook in hooks:
        hook.remove()
    model.quantization = {}
    for name, layer in operations(model):
        axis = weight_axis(layer)
        others = [d for d in range(layer.weight.ndim) if d != axis]
        scale = (layer.weight.detach().abs().amax(others) / 127).bfloat16().float()
        steps = to_integers(layer.weight, scale, axis)
        layer.weight.data = steps * along(scale, layer.weight, axis)
        most = largest.get(name)
        how = InputQuantization(most / 127) if most else None
        model.quantization[name] = LayerQuantization(scale, how)
    return model.eval()


class Exported:
    """Files that were exported, opened by what other programs open them with.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._graphs: dict[str, Any] = {}
        for name in ("encoder", "decoder"):
            file = folder / f"{name}.onnx"
            if file.exists():
                import onnxruntime

                self._graphs[name] = onnxruntime.InferenceSession(
                    file, providers=["CPUExecutionProvider"]
                )
            else:
                from napari_tinysam.inference.runtime.openvino.compiled import (
                    openvino_core,
                )

                self._graphs[name] = openvino_core().compile_model(
                    folder / f"{name}.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
                )

    def run(self, name: str, inputs: Arrays) -> Arrays:
        """Outputs by name."""
        graph = self._graphs[name]
        if hasattr(graph, "get_outputs"):
            names = [each.name for each in graph.get_outputs()]
            return dict(zip(names, graph.run(None, inputs), strict=True))
        found = graph(inputs)
        return {each.get_any_name(): found[each] for each in graph.outputs}

    def encode(self, image: npt.NDArray[np.uint8], side: int = SIDE) -> Arrays:
        frame = np.zeros((1, side, side, 3), np.uint8)
        frame[0, : image.shape[0], : image.shape[1]] = image
        size = np.array(image.shape[:2], np.int64)
        return self.run("encoder", {"image": frame, "size": size})

    def decode(self, prompts: Arrays) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        found = self.run("decoder", prompts)
        return found["masks"], found["scores"]


def picture(side: int = SIDE) -> npt.NDArray[np.uint8]:
    """Noise that leaves a part of the frame free."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (side - 40, side, 3), np.uint8)


def encoded(
    model: SegmentAnything, image: npt.NDArray[np.uint8], side: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Embedding and object maps, as torch makes them."""
    features = features_of(model, image, side)
    with torch.no_grad():
        maps = None
        if model.object_head is not None:
            maps = model.object_maps(features).sigmoid()
    return features.embedding, maps


def features_of(
    model: SegmentAnything, image: npt.NDArray[np.uint8], side: int | None = None
) -> ImageFeatures:
    """What torch makes of an image in a frame."""
    with torch.no_grad():
        rgb = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        return model.features(model.normalize_and_pad(rgb)[..., :side, :side])


def decoded(
    model: SegmentAnything,
    embedding: Tensor,
    details: tuple[Tensor, ...] = (),
    **prompts: Any,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Logits and scores of torch; `masks` are (N, h, w), `regions` (h, w)."""
    given = {
        name: None if value is None else torch.as_tensor(value)
        for name, value in prompts.items()
    }
    regions, masks = given.pop("regions", None), given.pop("masks", None)
    guess = None
    if model.dense_prompts:
        some = next(v for v in (*given.values(), masks) if v is not None)
        shape = (4 * embedding.shape[2], 4 * embedding.shape[3])
        objects = None if regions is None else regions.expand(len(some), -1, -1)
        masks = draw_prompts(torch, shape, masks=masks, objects=objects, **given)
        guess = first_guess(torch, masks)
    with torch.no_grad():
        one = None if masks is None else masks[:, None]
        logits, scores = model.decode(embedding, masks=one, details=details, **given)
    return (logits if guess is None else logits + guess).numpy(), scores.numpy()


def assert_alike(found: Any, expected: Any, share: float = 1e-4) -> None:
    """Within a share of the largest value."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert np.abs(found - expected).max() <= share * np.abs(expected).max()
