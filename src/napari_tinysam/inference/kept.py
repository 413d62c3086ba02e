"""Embeddings on disk: a plane that was encoded once, in whichever session, is ready at once.

An entry is found by what the model sees, the 8-bit pixels of its frame, and by the model. So it is
found under any file name, and plane, tile, level and contrast are part of it. An entry holds what
the model has computed, and nothing of the image itself.

Each entry is a safetensors file of compressed arrays, 13 MB (19 where rounding would change masks)
instead of the 25 in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import zlib
from collections import OrderedDict
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_tinysam.background import ending, start_thread
from napari_tinysam.files.limited_folder import LimitedFolder
from napari_tinysam.inference.runtime.protocol import in_float16

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from napari_tinysam.inference.runtime import KeepsFeatures

    Arrays = Mapping[str, npt.NDArray[Any]]

#: Names another folder for all caches.
ENVIRONMENT_VARIABLE = "NAPARI_TINYSAM_CACHE"

#: Bytes on disk.
DEFAULT_LIMIT = 2_000_000_000

#: Changes with the entries, and with what runtimes keep in them.
_FORMAT = 2

#: Embeddings that wait to be written; each takes 24 MB until then.
_WAITING = 4

#: Seconds between an encoded image and writing its entry: the first answers come first.
_DELAY = 1.0

#: Of the writer, so that a click at that moment gets most of the processor. Not more: whoever waits
#: for a lock of the writer, Python's own among them, waits for the writer's turn.
_NICENESS = 5

_ABOUT, _CHECK = "about", "check"
_FEATURES = "features "


def default_folder() -> Path:
    """Return the folder of kept embeddings; it need not exist yet."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        return Path(chosen).expanduser() / "embeddings"
    from platformdirs import user_cache_path

    return user_cache_path("napari-tinysam", appauthor=False) / "embeddings"


def key_of(seen: npt.NDArray[np.uint8], model_id: str) -> str:
    """Return the name of an embedding.

    Parameters
    ----------
    seen : numpy.ndarray
        (h, w, 1) or (h, w, 3) uint8, what the model sees.
    model_id : str
        Tells weights, runtime and precision apart.
    """
    about = json.dumps([_FORMAT, model_id, seen.shape])
    content = blake2b(about.encode(), digest_size=20)
    content.update(np.ascontiguousarray(seen).data)
    return content.hexdigest()


class Seen(NamedTuple):
    """What a model computes of an image, whatever its size was: see `Embedding`."""

    features: Any
    maps: npt.NDArray[np.float32] | None
    regions: npt.NDArray[np.int32] | None


def arrays_of(seen: Seen, runtime: KeepsFeatures) -> dict[str, npt.NDArray[Any]]:
    """Return all arrays of what a runtime's model has computed, by name."""
    arrays = {
        f"{_FEATURES}{name}": array
        for name, array in runtime.arrays_of(seen.features).items()
    }
    if seen.maps is not None:
        arrays["maps"] = in_float16(seen.maps)
    if seen.regions is not None:
        arrays["regions"] = seen.regions
    return arrays


def restored(arrays: Arrays, runtime: KeepsFeatures) -> Seen:
    """Make of arrays what they were; the reverse of `arrays_of`.

    Raises
    ------
    ValueError
        If they are of another runtime.
    """
    features = {
        name.removeprefix(_FEATURES): array
        for name, array in arrays.items()
        if name.startswith(_FEATURES)
    }
    maps = arrays.get("maps")
    if maps is not None:
        maps = np.asarray(maps, np.float32)
    return Seen(runtime.features_of(features), maps, arrays.get("regions"))


class KeptEmbeddings:
    """What the model has computed of images, on disk.

    Parameters
    ----------
    limit : int
        Bytes on disk; 0 keeps nothing.
    folder : Path, optional
        `default_folder` if not given.
    delay : float
        Seconds that `keep_later` waits.
    """

    def __init__(
        self,
        limit: int = DEFAULT_LIMIT,
        folder: Path | None = None,
        *,
        delay: float = _DELAY,
    ) -> None:
        place = default_folder() if folder is None else folder
        self.files = LimitedFolder(place, ".safetensors", limit)
        self._delay = delay
        self._waiting: OrderedDict[str, Callable[[], Arrays]] = OrderedDict()
        self._changed = threading.Lock()
        self._writer: threading.Thread | None = None

    def find(self, key: str) -> dict[str, npt.NDArray[Any]] | None:
        """Read an entry; one that is damaged is removed.

        Returns
        -------
        dict of str to numpy.ndarray, or None
            The arrays as they were kept; None where there is no whole entry.
        """
        content = self.files.read(key)
        if content is None:
            return None
        try:
            return _unpacked(content, key)
        except Exception:  # noqa: BLE001 - whatever a damaged file makes libraries raise
            self.files.remove(key)
            return None

    def keep(self, key: str, arrays: Arrays) -> bool:
        """Write an entry now; returns whether it was written."""
        if self.files.limit <= 0:
            return False
        return self.files.write(key, _packed(arrays, key))

    def keep_later(self, key: str, arrays: Callable[[], Arrays]) -> None:
        """Write an entry in the background, after a moment.

        Parameters
        ----------
        key : str
            From `key_of`.
        arrays : callable
            Returns the arrays; called in another thread.
        """
        if self.files.limit <= 0:
            return
        with self._changed:
            self._waiting[key] = arrays
            if len(self._waiting) > _WAITING:  # rather none than too much memory
                self._waiting.popitem(last=False)
            if self._writer is None:
                self._writer = start_thread(self._write, "tinysam-keeping")

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything is written, or for so many seconds."""
        writer = self._writer
        if writer is not None:
            writer.join(timeout)

    def _write(self) -> None:
        """Write what waits, then end."""
        _give_way()
        while True:
            over = ending.wait(self._delay)
            with self._changed:
                if over or not self._waiting:
                    self._writer = None
                    return
                key, arrays = self._waiting.popitem(last=False)
            try:
                self.keep(key, arrays())
            except Exception as error:  # noqa: BLE001 - no memory, a lost GPU: not kept then
                self.files.complain(error)
            del arrays  # 24 MB


def _give_way() -> None:
    """Let other threads go first, where the system knows priorities of threads."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _packed(arrays: Arrays, key: str) -> bytes:
    """Make the content of an entry's file."""
    import imagecodecs
    from safetensors.numpy import save

    about: dict[str, Any] = {}
    parts: dict[str, npt.NDArray[Any]] = {}
    for name, array in arrays.items():
        array = np.ascontiguousarray(array)
        packed = imagecodecs.blosc_encode(
            array.tobytes(),
            level=1,
            compressor="lz4",
            shuffle="bitshuffle",
            typesize=array.itemsize,
            numthreads=1,
        )
        about[name] = {
            "shape": array.shape,
            "dtype": array.dtype.str,
            "check": zlib.crc32(packed),
        }
        parts[f"array {name}"] = np.frombuffer(packed, np.uint8)
    text = json.dumps({"key": key, "arrays": about}).encode()
    parts[_ABOUT] = np.frombuffer(text, np.uint8)
    parts[_CHECK] = np.array([zlib.crc32(text)], np.uint32)
    return bytes(save(parts))


def _unpacked(content: bytes, key: str) -> dict[str, npt.NDArray[Any]]:
    """Read the content of an entry's file.

    Raises
    ------
    Exception
        Whatever libraries raise, or a ValueError, if it is not whole or not this entry's.
    """
    import imagecodecs
    from safetensors.numpy import load

    parts = load(content)
    text = parts[_ABOUT].tobytes()
    if parts[_CHECK].tolist() != [zlib.crc32(text)]:
        raise ValueError("The description is damaged.")
    about = json.loads(text)
    if about["key"] != key:
        raise ValueError("It is the entry of another image.")
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, of_array in about["arrays"].items():
        packed = parts[f"array {name}"].tobytes()
        if zlib.crc32(packed) != of_array["check"]:
            raise ValueError(f"The array {name} is damaged.")
        unpacked = imagecodecs.blosc_decode(packed, numthreads=1)
        # A copy, which may be written to, as torch wants it.
        array = np.frombuffer(bytearray(unpacked), of_array["dtype"])
        arrays[name] = array.reshape(of_array["shape"])
    return arrays
