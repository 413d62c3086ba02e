"""The reference runtime: torch on a CPU, CUDA or Apple GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from napari_tinysam.inference.runtime.cutting import (
    cut_columns,
    cut_details,
    cut_shared,
)
from napari_tinysam.inference.runtime.protocol import (
    DecodedPrompts,
    drawn_planes,
    in_float16,
    rows_to_draw,
)
from napari_tinysam.model.fast.decoder import ImageSide, RestructuredDecoder

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.model import ImageFeatures, SegmentAnything

#: Prompt sets decoded at once. Larger batches are slower per prompt on a CPU, faster on a GPU.
_CPU_BATCH = 2
_GPU_BATCH = 64


class TorchFeatures(NamedTuple):
    """An image, encoded by this runtime.

    Attributes
    ----------
    embedding : torch.Tensor
        (1, 256, g, g) float32; g is 64 for the whole frame.
    side : ImageSide
        What all prompts share, computed once. What details add is float16: in float32 it is 20 MB
        for each image, and rounding it only changes pixels on the borders of masks.
    maps : torch.Tensor or None
        (3, m, m) float32, of the object head; m is 4 g or 8 g.
    """

    embedding: torch.Tensor
    side: ImageSide
    maps: torch.Tensor | None

    @property
    def nbytes(self) -> int:
        """Bytes in memory, of the CPU or the GPU, without the maps."""
        # The side's embedding is a view of the other one.
        return sum(each.nbytes for each in self.side if each is not None)


def choose_device(device: str = "auto") -> torch.device:
    """Turn a user's choice of device into a torch device that exists here.

    Parameters
    ----------
    device : str
        "auto" (CUDA, then Apple's MPS, then the CPU) or a torch device name.

    Raises
    ------
    ValueError
        If the device is not known or not available on this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"The device {device!r} is not available on this machine. "
            'Use "auto" or "cpu".'
        ) from error
    return chosen


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16, which make it faster than float32.

    Parameters
    ----------
    device : torch.device
    """
    if device.type == "cuda":
        # Ampere and later; torch emulates it on older ones.
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":  # four times slower without them
        return "avx512_bf16" in _cpu_capabilities()
    return False


def _cpu_capabilities() -> frozenset[str]:
    """Names of the CPU's instructions, as far as torch reports them."""
    found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return frozenset(name for name, has in found.items() if has is True)


class TorchRuntime:
    """Runs a `SegmentAnything` module.

    Parameters
    ----------
    model : SegmentAnything
        Taken over: moved to the device and put in eval mode.
    device : torch.device
        Where to run.
    fast : bool
        Whether sums may be computed in another order where that is faster: images and weights of
        convolutions are channels-last then, which saves a fifth of the time on a CPU and suits
        half precision on GPUs. Without it answers are as close as possible to the official code.
    bfloat16 : bool
        Whether images are encoded in bfloat16, where the operations allow it. Prompts are decoded
        in float32 except for searches (``exact`` of `decode`).
    """

    def __init__(
        self,
        model: SegmentAnything,
        device: torch.device,
        *,
        fast: bool = False,
        bfloat16: bool = False,
    ) -> None:
        # Other layouts are not tested on MPS.
        last = fast and device.type != "mps"
        self._layout = torch.channels_last if last else torch.contiguous_format
        self._model = model.to(device).to(memory_format=self._layout).eval()
        self._bfloat16 = bfloat16
        self._decoder = RestructuredDecoder(self._model).eval()
        self._device = device
        self._batch = _CPU_BATCH if device.type == "cpu" else _GPU_BATCH
        self.name = f"torch on {device}{', bf16' if bfloat16 else ''}"
        self.image_size = model.image_size
        self.has_object_head = model.object_head is not None
        self.dense_prompts = model.dense_prompts
        self._placed: dict[tuple[int, int], torch.Tensor] = {}  # by shape

    def encode(self, rgb: npt.NDArray[np.uint8]) -> TorchFeatures:
        """Embed a resized image, (h, w, 3) uint8; see `Runtime.encode`."""
        with torch.inference_mode():
            # The maps now: the details that they need are larger than everything that is kept.
            features, maps = self._features(rgb, self.image_size)
            embedding = features.embedding.float()
            details = [level.float() for level in features.details]
            side = self._decoder.prepare(embedding, details).halved()
            return TorchFeatures(embedding, side, maps)

    def maps_of_half(
        self, rgb: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.float32] | None:
        """Predict where objects are in a smaller image; see `Runtime.maps_of_half`."""
        if not self._model.sees_halves:
            return None
        with torch.inference_mode():
            maps = self._features(rgb, self.image_size // 2)[1]
        assert maps is not None
        return np.asarray(maps.cpu().numpy(), np.float32)

    def _features(
        self, rgb: npt.NDArray[np.uint8], side: int
    ) -> tuple[ImageFeatures, torch.Tensor | None]:
        """Encode an image in a frame of a side, and predict (3, m, m) object maps."""
        model = self._model
        # (h, w, 3) → (1, 3, h, w)
        image = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None]
        frame = model.normalize_and_pad(image.to(self._device).float())
        frame = frame[..., :side, :side].contiguous(memory_format=self._layout)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            features = model.features(frame)
            if not self.has_object_head:
                return features, None
            return features, model.object_maps(features)[0].float().sigmoid()

    def decode(
        self,
        features: TorchFeatures,
        *,
        points: npt.NDArray[np.float32] | None,
        labels: npt.NDArray[np.int32] | None,
        boxes: npt.NDArray[np.float32] | None,
        masks: npt.NDArray[np.float32] | None,
        least_scores: npt.NDArray[np.float32] | None = None,
        exact: bool = True,
        corners: npt.NDArray[np.intp] | None = None,
    ) -> DecodedPrompts:
        """Decode N objects; see `Runtime.decode`."""
        count = next(len(p) for p in (points, boxes, masks) if p is not None)
        whole = (features.embedding.shape[2], features.embedding.shape[3])
        shape, batch = whole, self._batch
        if corners is not None:
            assert masks is not None, "windows have the size of the masks"
            shape = (masks.shape[1] // 4, masks.shape[2] // 4)
            batch *= (whole[0] * whole[1]) // (shape[0] * shape[1])
        logits = np.full((count, 3, 4 * shape[0], 4 * shape[1]), -np.inf, np.float32)
        scores = np.empty((count, 3), np.float32)
        rounded = torch.autocast(
            self._device.type, torch.bfloat16, enabled=self._bfloat16 and not exact
        )
        with torch.inference_mode():
            if whole not in self._placed:  # not rounded: exact answers read it too
                self._placed[whole] = self._decoder.placed(whole)
        side, placed = features.side, self._placed[whole]
        with torch.inference_mode(), rounded:
            for start in range(0, count, batch):
                part = slice(start, start + batch)
                if corners is not None:
                    cut = whole[0], corners[part], shape[0]
                    # Autocast refuses to join tensors of 16 bits on a processor.
                    with torch.autocast(self._device.type, enabled=False):
                        side = ImageSide(
                            *cut_shared(torch, features.side[:4], *cut),
                            *cut_details(torch, features.side[4:], *cut),
                        )
                        placed = cut_columns(torch, self._placed[whole], *cut)
                found = self._decoder.answer(
                    side,
                    points=self._tensor(points, part),
                    labels=self._tensor(labels, part),
                    boxes=self._tensor(boxes, part),
                    masks=None
                    if masks is None
                    else self._tensor(masks[:, np.newaxis], part),
                    placed=placed,
                )
                scores[part] = found.scores.float().cpu().numpy()
                wanted = rows_to_draw(scores[part], least_scores, part)
                image, kernels = found.image, found.kernels
                details, fine = _whole(side.details), _whole(side.fine)
                if len(wanted) < len(kernels):
                    rows = torch.from_numpy(wanted).to(self._device)
                    image, kernels = image[rows], kernels[rows]
                    if corners is not None:
                        details, fine = _rows(details, rows), _rows(fine, rows)
                if len(wanted):
                    answer = self._decoder.upscale(image, kernels, shape, details)
                    if fine is not None and masks is not None:
                        planes = drawn_planes(masks, boxes, start + wanted, corners)
                        drawn, sides = (
                            torch.from_numpy(plane).to(self._device) for plane in planes
                        )
                        answer = self._decoder.refine(answer, drawn, sides, fine)
                    logits[start + wanted] = answer.float().cpu().numpy()
        return DecodedPrompts(logits, scores)

    def arrays_of(self, features: TorchFeatures) -> dict[str, npt.NDArray[Any]]:
        """Return features as arrays; see `KeepsFeatures.arrays_of`."""
        return {
            name: in_float16(each.cpu().numpy())
            for name, each in features.side._asdict().items()
            if each is not None
        }

    def feature_maps(self, features: TorchFeatures) -> list[npt.NDArray[np.floating]]:
        """Describe each place of the frame; see `ShowsFeatures.feature_maps`."""
        side = features.side
        maps = (features.embedding, side.fine_half, side.fine_whole)
        return [each[0].cpu().numpy() for each in maps if each is not None]

    def features_of(self, arrays: Mapping[str, npt.NDArray[Any]]) -> TorchFeatures:
        """Make features of arrays; see `KeepsFeatures.features_of`."""
        try:
            with torch.inference_mode():
                tensors = {
                    name: torch.from_numpy(array).to(self._device)
                    for name, array in arrays.items()
                }
                for name in ("embedding", "keys", "values", "queries"):
                    tensors[name] = tensors[name].float()
                side = ImageSide(**tensors)
                cells = math.isqrt(side.embedding.shape[1])
                # (1, P, 256) → (1, 256, g, g), without a copy
                embedding = side.embedding.transpose(1, 2)
                embedding = embedding.reshape(1, -1, cells, cells)
        except (KeyError, TypeError, RuntimeError) as error:  # other names, or a shape
            raise ValueError("These are not the features of an image.") from error
        return TorchFeatures(embedding, side, None)

    def object_maps(self, features: TorchFeatures) -> npt.NDArray[np.float32] | None:
        """Predict where objects are; see `Runtime.object_maps`."""
        if features.maps is None:
            return None
        return np.asarray(features.maps.cpu().numpy(), np.float32)

    def _tensor(
        self, array: npt.NDArray[np.float32] | npt.NDArray[np.int32] | None, part: slice
    ) -> torch.Tensor | None:
        if array is None:
            return None
        return torch.from_numpy(np.ascontiguousarray(array[part])).to(self._device)


def _whole(pair: tuple[torch.Tensor, torch.Tensor] | None) -> Any:
    """Bring what was kept in float16 back to float32."""
    return None if pair is None else (pair[0].float(), pair[1].float())


def _rows(pair: tuple[torch.Tensor, torch.Tensor] | None, rows: torch.Tensor) -> Any:
    return None if pair is None else (pair[0][rows], pair[1][rows])
