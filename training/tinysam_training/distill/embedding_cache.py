"""Teacher embeddings on disk, computed once and read at random while training.

The folder holds a safetensors file for each embedding, named by a hash of everything that it
depends on. Files are written whole and then renamed, so no entry is ever partial, even if processes
are killed or several write at once. A checksum reveals entries that were damaged later; they count
as missing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from napari_tinysam.errors import DataError, sentence
from napari_tinysam.files.atomic import remove_abandoned, unfinished
from napari_tinysam.frame import CELL, EMBED_DIM, FRAME
from tinysam_training.data.turns import TURNS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from tinysam_training.data.frame_batches import EmbeddedFrame
    from tinysam_training.labelled_image import ImageStore, LabelledImage

#: Raise this with every change to how an image becomes the teacher's input.
PREPROCESSING = 1

#: Space that the embedding of one image takes: 2.1 MB for (256, 64, 64) float16.
EMBEDDING_BYTES = EMBED_DIM * (FRAME // CELL) ** 2 * 2

_NAME = re.compile(r"[0-9a-f]{40}\.safetensors")

# Writing one entry takes far less than this (seconds); a killed process left older files.
_ABANDONED_AFTER = 600.0

_HALF_LIMIT = torch.finfo(torch.float16).max


class FrameEmbedder(Protocol):
    """The part of a `Teacher` that `EmbeddingCache.precompute` needs."""

    @property
    def fingerprint(self) -> str:
        """Changes with the weights."""
        ...

    def embed(self, images: Sequence[npt.NDArray[np.uint8]], batch: int = 1) -> Tensor:
        """Embed (H, W, 3) uint8 images: (B, 256, g, g) float16 on the CPU."""
        ...


class EmbeddingCache:
    """A folder of embeddings.

    It holds only the folder's name, so copies in other processes are the same cache.

    Parameters
    ----------
    folder : str or Path
        Made if it does not exist.

    Raises
    ------
    DataError
        If the folder cannot be made or written to.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"Embeddings cannot be stored in {self.folder}"
            raise DataError(sentence(error, what)) from error

    @staticmethod
    def key(rgb: npt.NDArray[np.uint8], turn: str, teacher: str) -> str:
        """Name an embedding by everything that it depends on.

        Parameters
        ----------
        rgb : ndarray
            (H, W, 3) uint8, the image before it is turned.
        turn : str
            A key of `tinysam_training.data.turns.TURNS`.
        teacher : str
            `Teacher.fingerprint`.

        Returns
        -------
        str
            40 hexadecimal digits.
        """
        parts = (PREPROCESSING, teacher, turn, rgb.dtype.str, rgb.shape)
        digest = hashlib.sha256(repr(parts).encode())
        digest.update(np.ascontiguousarray(rgb).data)
        return digest.hexdigest()[:40]

    def __len__(self) -> int:
        """Return the number of stored embeddings, damaged ones included."""
        return len(self._names())

    @property
    def nbytes(self) -> int:
        """Bytes on disk of all embeddings."""
        return sum((self.folder / name).stat().st_size for name in self._names())

    def get(self, key: str) -> Tensor | None:
        """Read an embedding.

        Parameters
        ----------
        key : str
            From `key`.

        Returns
        -------
        Tensor or None
            (256, g, g) float16, writable; None if it is missing or damaged.
        """
        try:
            found = load(self._file(key).read_bytes())
            embedding, checksum = found["embedding"], int(found["checksum"])
        except (OSError, SafetensorError, KeyError):  # missing, cut off or changed
            return None
        return embedding if _checksum(embedding) == checksum else None

    def put(self, key: str, embedding: Tensor) -> None:
        """Store an embedding; an intact stored one is kept.

        Parameters
        ----------
        key : str
            From `key`.
        embedding : Tensor
            (256, g, g) of any float type, on any device; clipped to the range of float16.

        Raises
        ------
        DataError
            If it cannot be written, for instance because the disk is full, or has NaN or infinite
            values. Stored embeddings do not change.
        """
        clipped = embedding.detach().float().clamp(-_HALF_LIMIT, _HALF_LIMIT)
        values = clipped.half().cpu().contiguous()
        if values.ndim != 3 or not values.isfinite().all():
            raise DataError(
                "Only embeddings of shape (channels, height, width) and of finite "
                "numbers can be stored."
            )
        if self.get(key) is not None:
            return
        content = {"embedding": values, "checksum": torch.tensor(_checksum(values))}
        try:
            with unfinished(self._file(key)) as temporary:
                temporary.write_bytes(save(content))
        except OSError as error:
            reason = sentence(error, f"Embeddings cannot be stored in {self.folder}")
            raise DataError(
                f"{reason} One takes {EMBEDDING_BYTES / 1e6:.1f} MB; "
                f"the {len(self)} stored ones stay usable."
            ) from error

    def precompute(
        self,
        images: ImageStore | Sequence[LabelledImage],
        teacher: FrameEmbedder,
        turns: Sequence[str] = ("identity",),
        *,
        batch: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> CachedFrames:
        """Embed all images that are not stored yet.

        After an interruption, the same call continues where it stopped.

        Parameters
        ----------
        images : ImageStore or sequence of LabelledImage
            Read one after the other.
        teacher : Teacher
            With its encoder.
        turns : sequence of str
            Keys of `tinysam_training.data.turns.TURNS`; each image is embedded in all of them.
        batch : int
            Number of images that are encoded, and held in memory, at once.
        progress : callable, optional
            Called with the embeddings done, stored ones included, and their total. If it raises,
            the computation ends.

        Returns
        -------
        CachedFrames
            Returns the embedding of each image in each turn.

        Raises
        ------
        DataError
            If an image cannot be read, or the disk is full.
        ValueError
            If a turn is not known.
        """
        if unknown := [turn for turn in turns if turn not in TURNS]:
            raise ValueError(
                f"Images cannot be turned by {unknown[0]!r}; known are "
                f"{', '.join(TURNS)}."
            )
        total = len(images) * len(turns)
        remove_abandoned(self.folder, _ABANDONED_AFTER)
        self._check_space(total)
        keys: dict[tuple[int, str], str] = {}
        waiting: dict[str, npt.NDArray[np.uint8]] = {}
        computed = 0

        def embed_waiting() -> None:
            nonlocal computed
            found = teacher.embed(list(waiting.values()), batch)
            for key, embedding in zip(waiting, found, strict=True):
                self.put(key, embedding)
            computed += len(waiting)
            waiting.clear()

        for number in range(len(images)):
            rgb = images[number].rgb
            for turn in turns:
                key = self.key(rgb, turn, teacher.fingerprint)
                keys[number, turn] = key
                if key not in waiting and self.get(key) is None:
                    waiting[key] = np.ascontiguousarray(TURNS[turn](rgb), np.uint8)
                if len(waiting) == batch:
                    embed_waiting()
                if progress is not None:
                    progress(len(keys) - len(waiting), total)
        if waiting:
            embed_waiting()
            if progress is not None:
                progress(total, total)
        return CachedFrames(self, keys, computed)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self.folder) if _NAME.fullmatch(name)]
        except FileNotFoundError:
            return []

    def _check_space(self, total: int) -> None:
        """Refuse early if the disk is too small, instead of failing after hours."""
        needed = max(0, total - len(self)) * EMBEDDING_BYTES
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError:
            return  # writing will show it
        if needed > free:
            raise DataError(
                f"{total} embeddings need {_in_words(needed)} more in {self.folder}, "
                f"where {_in_words(free)} are free."
            )


def _checksum(embedding: Tensor) -> int:
    return zlib.crc32(embedding.numpy().data)


def _in_words(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


@dataclass(frozen=True)
class CachedFrames:
    """The stored embedding of each image in each turn: `FrameBatches` reads them from here.

    Attributes
    ----------
    cache : EmbeddingCache
        The cache that holds them.
    keys : mapping
        Key of each (number of the image, turn).
    computed : int
        Number of embeddings that were not stored before.
    """

    cache: EmbeddingCache
    keys: Mapping[tuple[int, str], str]
    computed: int

    def __call__(self, frame: EmbeddedFrame) -> Tensor:
        """Read the embedding of a frame: (256, g, g) float16.

        Raises
        ------
        DataError
            If it is missing or damaged.
        """
        embedding = self.cache.get(self.keys[frame.image, frame.turn])
        if embedding is None:
            raise DataError(
                f"A teacher's embedding in {self.cache.folder} is missing or damaged; "
                "start again to compute it anew."
            )
        return embedding
