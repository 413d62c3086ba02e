"""The teacher of a distillation: a frozen model that embeds whole images and answers prompts.

Its image encoder runs once per image before training (`tinysam_training.distill.embedding_cache`);
its prompt encoder and mask decoder run in every step (paper, section "Full-stage knowledge
distillation": embeddings are stored, decoding is done online).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from napari_tinysam import checkpoints
from napari_tinysam.errors import CheckpointError, DataError, sentence
from napari_tinysam.inference.resize import resize_longest_side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_tinysam.model import SegmentAnything

_HALF_LIMIT = torch.finfo(torch.float16).max


class Teacher:
    """A model that is never trained.

    Parameters
    ----------
    model : SegmentAnything
        Modified: moved to the device, in eval mode, without gradients.
    name : str
        For messages and records.
    device : torch.device or str
        Where it runs.

    Attributes
    ----------
    model : SegmentAnything
        For decoding: `prompt_encoder`, `mask_decoder`. Do not make it part of a module that is
        trained or saved.
    name : str
        As above.
    fingerprint : str
        `weights_fingerprint` of the given model.
    """

    def __init__(
        self,
        model: SegmentAnything,
        name: str = "teacher",
        device: torch.device | str = "cpu",
    ) -> None:
        self.name = name
        self.fingerprint = weights_fingerprint(model)
        self.model = model.to(device).eval().requires_grad_(False)

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        device: torch.device | str = "cpu",
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Teacher:
        """Load a teacher, and download it first if needed.

        Parameters
        ----------
        name_or_path : str or Path
            A name of `napari_tinysam.checkpoints.REGISTRY`, or a file of weights.
        device : torch.device or str
            Where it runs.
        progress : callable, optional
            Called with the bytes downloaded so far and in total.

        Raises
        ------
        DataError
            If the file cannot be loaded or is not a file of weights.
        """
        try:
            loaded = checkpoints.load(name_or_path, progress=progress)
        except CheckpointError as error:
            raise DataError(sentence(error, "The teacher cannot be loaded")) from error
        return cls(loaded.model, loaded.name, device)

    def __repr__(self) -> str:
        """Return name, architecture and fingerprint."""
        return f"<Teacher {self.name!r}, {self.model.architecture}, {self.fingerprint}>"

    @torch.no_grad()
    def embed(self, images: Sequence[npt.NDArray[np.uint8]], batch: int = 1) -> Tensor:
        """Embed whole images as inference does.

        Parameters
        ----------
        images : sequence of ndarray
            (H, W, 3) uint8 RGB each, of any sizes. The longer side is resized to the model's input,
            and the rest of that is padded.
        batch : int
            Number of images encoded at once. More than 1 helps only on a GPU.

        Returns
        -------
        Tensor
            (B, 256, g, g) float16 on the CPU, where g is 64 for an input of 1024 pixels. Values
            beyond the range of float16 are clipped to it.

        Raises
        ------
        DataError
            If the embedding is not finite.
        RuntimeError
            If the encoder was dropped.
        """
        parts = [
            self._embed(images[start : start + batch])
            for start in range(0, len(images), batch)
        ]
        return torch.cat(parts)

    def drop_encoder(self) -> None:
        """Free the image encoder's memory, once all embeddings are stored.

        The encoder is nine tenths of a large teacher. Decoding still works.
        """
        device = self.model.device
        self.model.image_encoder = _DroppedEncoder()
        if device.type == "cuda":
            torch.cuda.empty_cache()

    def _embed(self, images: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
        model = self.model
        frames = []
        for image in images:
            resized = np.array(resize_longest_side(image, model.image_size))
            # (h, w, 3) → (1, 3, h, w) → (1, 3, S, S)
            rgb = torch.from_numpy(resized).permute(2, 0, 1)[None].to(model.device)
            frames.append(model.normalize_and_pad(rgb.float()))
        embedding: Tensor = model.image_encoder(torch.cat(frames)).float()
        if not bool(embedding.isfinite().all()):
            raise DataError(
                f"The teacher {self.name} predicts values that are not finite."
            )
        return embedding.clamp(-_HALF_LIMIT, _HALF_LIMIT).half().cpu()


class _DroppedEncoder(nn.Module):
    """Replaces a teacher's dropped image encoder."""

    def forward(self, image: Tensor) -> Tensor:
        raise RuntimeError("The teacher's image encoder was dropped from memory.")


def weights_fingerprint(model: SegmentAnything) -> str:
    """Hash everything that a model's answers depend on.

    Parameters
    ----------
    model : SegmentAnything
        On any device.

    Returns
    -------
    str
        16 hexadecimal digits, the same for the same architecture, input size and values, whatever
        the kind of file.
    """
    digest = hashlib.sha256(f"{model.architecture} {model.image_size}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # Bytes, since numpy does not know bfloat16.
        values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(values.numpy().data)
    return digest.hexdigest()[:16]
