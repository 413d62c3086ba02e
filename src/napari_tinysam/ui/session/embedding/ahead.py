"""Encoding ahead: the planes beside the shown one and the images beside the shown image.

Only while nothing else is asked.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.inference.looks import Look, is_large
from napari_tinysam.ui.session.worker import Inference, Lane
from napari_tinysam.ui.state.images import seen_plane
from napari_tinysam.ui.state.planes import full_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from napari.layers import Image

    from napari_tinysam.inference.cache import RecentEmbeddings
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.ui.session.embedding.embedder import Embedder
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.seeing import SeenPlane
    from napari_tinysam.ui.state.subject import Subject

#: A click may come the moment after a job has begun, and would wait that long; in seconds. Where a
#: plane takes longer, none is encoded ahead.
LONGEST = 1.0

#: The shown plane, the one before, and those encoded ahead must fit into the memory.
_TOGETHER = 4


class Ahead:
    """Encodes the next and the previous plane of a stack, then those of the images beside it.

    Of another image, hidden or not, that is the plane that the viewer shows when it is chosen.

    Planes are encoded ahead only if reading them is cheap: from memory, a memory-mapped file or a
    zarr array on this machine's disk. Dask arrays and stores elsewhere are left alone: how long
    the shown plane took says nothing of them, as napari caches what it shows. Planes that are seen
    in tiles are left to `LooksAhead`, which asks `beside` for them.

    Parameters
    ----------
    subject : Subject
        Says what is shown.
    inference : Inference
        Runs the jobs when it was left alone for a moment (`Lane.AHEAD`).
    embedder : Embedder
        Has the model and the embedding of the shown plane.
    cache : RecentEmbeddings
        Where the embedder looks for planes first.
    *beside : callable
        Return images that may be shown next, and their planes: of a list of images, of the layers
        before and after the shown one.

    Attributes
    ----------
    enabled : bool
        Whether the user wants it. False until the dock has read the settings.
    """

    def __init__(
        self,
        subject: Subject,
        inference: Inference,
        embedder: Embedder,
        cache: RecentEmbeddings,
        *beside: Callable[[], list[tuple[Image, Plane]]],
    ) -> None:
        self._subject = subject
        self._inference = inference
        self._embedder = embedder
        self._cache = cache
        self._beside = beside
        self._shown: Plane | None = None
        self._axis: int | None = None
        self._step = 1
        self._slow: set[Hashable] = set()  # models, with the image
        self.enabled = False

    def moved(self) -> None:
        """Note which plane is shown now, or that none is; forget the job that waits."""
        if self._subject.plane == self._shown:
            return
        self._inference.drop(Lane.AHEAD)
        before, self._shown = self._shown, self._subject.plane
        if before is None or self._shown is None:
            return
        changed = _differing(before, self._shown)
        if len(changed) == 1 and changed[0] != self._shown.channel_axis:
            self._axis = changed[0]
            here, there = self._shown.index[self._axis], before.index[self._axis]
            self._step = 1 if (here or 0) > (there or 0) else -1

    def go_on(self) -> None:
        """Encode the next neighbour that is missing, when nothing else is asked."""
        self.moved()  # where the embedding was at hand, this comes first
        here, predictor = self._subject.here, self._embedder.predictor
        shown = self._embedder.embedding
        if not self.enabled or here is None or predictor is None or shown is None:
            return
        image, plane = here
        if _TOGETHER * shown.nbytes > self._cache.capacity or is_large(plane.shape):
            return
        planes = [(image, each) for each in self._neighbours(image, plane)]
        for find in self._beside:
            planes += find()
        for other, neighbour in planes:
            version = self._subject.memory.state_of(other).version
            which = (version, predictor.model_id)
            if which in self._slow or is_large(neighbour.shape) or not is_cheap(other):
                continue
            seen = seen_plane(other, neighbour, self._subject.memory, self._cache)
            if not seen.has(predictor, Look.whole(neighbour.shape)):
                self._submit(predictor, seen, which)
                return

    def beside(self) -> list[SeenPlane]:
        """Return the planes beside a shown one that is large, if parts may be encoded ahead."""
        here = self._subject.here
        if not self.enabled or here is None or not is_cheap(here[0]):
            return []
        image, plane = here
        memory = self._subject.memory
        return [
            seen_plane(image, each, memory, self._cache)
            for each in self._neighbours(image, plane)
        ]

    def _submit(
        self,
        predictor: Predictor,
        seen: SeenPlane,
        which: Hashable,
    ) -> None:
        def job() -> float:
            begun = time.perf_counter()
            seen.embedding(predictor, Look.whole(seen.pyramid.shape))
            # The shown plane was used later than this one.
            self._cache.get((self._subject.key, predictor.model_id))
            return time.perf_counter() - begun

        def done(seconds: float) -> None:
            if seconds > LONGEST:
                self._slow.add(which)
            self.go_on()

        def failed(error: Exception) -> None:
            """Keep silent: a plane that cannot be read says so when it is shown."""
            self._slow.add(which)
            self.go_on()

        self._inference.submit(Lane.AHEAD, job, done, failed)

    def _neighbours(self, image: Image, plane: Plane) -> list[Plane]:
        """Planes beside a plane, first in the direction in which the user went last."""
        shape = full_shape(image)
        axis = self._axis
        if axis is None or axis >= len(shape) or plane.index[axis] is None:
            axis = _stack_axis(plane, shape)
        if axis is None:
            return []
        found = []
        for step in (self._step, -self._step):
            index = list(plane.index)
            at = (index[axis] or 0) + step
            if 0 <= at < shape[axis]:
                index[axis] = at
                found.append(replace(plane, index=tuple(index)))
        return found


def is_cheap(image: Image) -> bool:
    """Whether planes of an image can be read without a network or a computation."""
    levels: list[Any] = list(image.data) if image.multiscale else [image.data]
    return all(isinstance(data, np.ndarray) or _is_local_zarr(data) for data in levels)


def _is_local_zarr(data: Any) -> bool:
    if type(data).__module__.partition(".")[0] != "zarr":
        return False
    store = type(getattr(data, "store", None)).__name__
    return store in ("LocalStore", "MemoryStore")


def _differing(one: Plane, other: Plane) -> list[int]:
    """Axes on which two planes differ; all of them if they are of different images or views."""
    if one.axes != other.axes or len(one.index) != len(other.index):
        return list(range(len(other.index)))
    both = zip(one.index, other.index, strict=True)
    return [axis for axis, (a, b) in enumerate(both) if a != b]


def _stack_axis(plane: Plane, shape: tuple[int, ...]) -> int | None:
    """Axis that the user probably goes along: the last one with several planes."""
    axes = [
        axis
        for axis, at in enumerate(plane.index)
        if at is not None and axis != plane.channel_axis and shape[axis] > 1
    ]
    return axes[-1] if axes else None
