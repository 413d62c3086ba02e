"""The runtime for computers without a GPU: OpenVINO on a CPU, with graphs converted before.

It imports no torch. The graphs are those of `napari_tinysam.model.fast.graphs`.
"""

from __future__ import annotations

import functools
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import DamagedModelError
from napari_tinysam.frame import CELL
from napari_tinysam.inference.runtime.cutting import (
    cut_columns,
    cut_details,
    cut_shared,
)
from napari_tinysam.inference.runtime.openvino.store import discard
from napari_tinysam.inference.runtime.openvino.unreported import import_openvino
from napari_tinysam.inference.runtime.prompt_tokens import PromptTokens
from napari_tinysam.inference.runtime.protocol import (
    DecodedPrompts,
    drawn_planes,
    in_float16,
    rows_to_draw,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_tinysam.inference.runtime.protocol import Precision

#: Prompts decoded at once, by all threads or by each. The image's tokens of more prompts do not fit
#: into the CPU's cache.
_BATCH = 4

#: Windows of so few cells along a side are small: more of them are decoded at once.
_SMALL, _SMALL_BATCH = 16, 8

#: From this many prompts, each thread decodes its own. Threads that share a prompt wait for each
#: other at each of the decoder's 160 steps.
_MANY = 8


@dataclass(frozen=True, eq=False)
class OpenVinoFeatures:
    """An image, encoded by this runtime.

    Attributes
    ----------
    shared : tuple of numpy.ndarray
        (1, P, 256), and three of (1, 128, P), float32: `napari_tinysam.model.fast.decoder.
        ImageSide`.
    details : tuple of numpy.ndarray
        (1, 4 P, 64), (1, 16 P, 32), (1, 48, 2 g, 2 g) and (1, 24, 4 g, 4 g) float16, the rest of
        `ImageSide`: the last two only if masks are refined, none if the decoder reads no details.
    maps : numpy.ndarray or None
        (3, m, m) float32, from the object head.
    """

    shared: tuple[npt.NDArray[np.float32], ...]
    details: tuple[npt.NDArray[np.float16], ...]
    maps: npt.NDArray[np.float32] | None

    @property
    def nbytes(self) -> int:
        """Bytes in memory, without the maps."""
        return sum(x.nbytes for x in self.shared) + sum(x.nbytes for x in self.details)


class OpenVinoRuntime:
    """Runs the graphs of a folder.

    Parameters
    ----------
    folder : Path
        From `conversion.convert`.
    precision : {"auto", "f32", "bf16"}
        In bfloat16 the encoder and the upscaling of masks take half the time if the CPU has
        instructions for it, which "auto" finds out. The decoder's attention stays in float32
        except for searches (``exact`` of `decode`): in bfloat16 some clicks select another object.
        In graphs with integers this applies to the rest, including the decoder, where rounding
        changes little compared to the 8-bit encoder.
    threads : int
        0 lets OpenVINO choose.

    Raises
    ------
    Exception
        If the folder is incomplete or damaged: whatever NumPy and OpenVINO raise.
    """

    def __init__(
        self, folder: Path, *, precision: Precision = "f32", threads: int = 0
    ) -> None:
        about = json.loads((folder / "about.json").read_text("utf-8"))
        self.image_size = int(about["image_size"])
        self.has_object_head = bool(about["object_head"])
        self.dense_prompts = bool(about["dense_prompts"])
        self._sees_halves = bool(about["halves"])
        # Numbers of the encoder's outputs that decoder and upscaler read.
        of_details = 2 * bool(about["details"]) + 2 * bool(about["refines"])
        self._parts = (4, 4 + of_details)
        self._refines = bool(about["refines"])
        integers = bool(about.get("integers"))
        with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        self._tokens = PromptTokens(
            found["frequencies"], found["kinds"], self.image_size
        )
        self._placed = found["placed"]
        core = _core()
        if precision == "auto":
            able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            precision = "bf16" if "BF16" in able else "f32"
        self.precision: Precision = "int8" if integers else precision
        self.name = f"OpenVINO {self.precision} on the CPU"
        options: dict[str, Any] = {"CACHE_DIR": str(folder / "compiled")}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
            # Several processes, each with some threads, would be tied to the same first cores.
            options["ENABLE_CPU_PINNING"] = False

        def graph(name: str, *, hint: str = "LATENCY", exact: bool = True) -> _Graph:
            exact = exact and name.startswith("decoder") and not integers
            hints = {
                "PERFORMANCE_HINT": hint,
                "INFERENCE_PRECISION_HINT": "f32" if exact else precision,
            }
            return _Graph(core, folder / f"{name}.xml", options | hints)

        needed = ["encoder", "decoder_masked", "upscaler"]
        if not self.dense_prompts:  # otherwise prompts are always drawn
            needed.append("decoder")
        graphs = {name: graph(name) for name in needed}
        self._folder = folder
        self._encoder = graphs["encoder"]
        self._masked, self._upscaler = graphs["decoder_masked"], graphs["upscaler"]
        self._plain = graphs.get("decoder")
        # Read when needed; by name and whether it is exact.
        self._later: dict[tuple[str, bool], _Graph] = {}
        # Whether decoders that need not be exact are other graphs.
        self._rounds = precision == "bf16" and not integers
        self._reading = threading.Lock()
        self._graph = graph

    def encode(self, rgb: npt.NDArray[np.uint8]) -> OpenVinoFeatures:
        """Embed a resized image; see `Runtime.encode`."""
        found = self._encoder(_padded(rgb, self.image_size))
        arrays: list[Any] = [np.array(each) for each in found]
        of_decoder, of_both = self._parts
        return OpenVinoFeatures(
            shared=tuple(arrays[:of_decoder]),
            details=tuple(arrays[of_decoder:of_both]),
            maps=arrays[of_both] if self.has_object_head else None,
        )

    def maps_of_half(
        self, rgb: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.float32] | None:
        """Predict where objects are in a smaller image; see `Runtime.maps_of_half`.

        Raises
        ------
        DamagedModelError
            If the graph cannot be read.
        """
        if not self._sees_halves:
            return None
        graph = self._when_needed("maps", hint="LATENCY", exact=False)
        (maps,) = graph(_padded(rgb, self.image_size // 2))
        return np.array(maps)

    def decode(
        self,
        features: OpenVinoFeatures,
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
        tokens = self._tokens.tokens(count, points, labels, boxes)
        whole = self.image_size // CELL
        cells, most = whole, _BATCH
        if corners is not None:
            assert masks is not None, "windows have the size of the masks"
            cells = masks.shape[1] // 4
            most = _BATCH if cells > _SMALL else _SMALL_BATCH
        side = 4 * cells
        logits = np.empty((count, 3, side, side), np.float32)
        scores = np.empty((count, 3), np.float32)
        graph, several = self._decoder_of(count, masks is not None, exact)
        # Equally many parts for each thread, as small as possible.
        rounds = max(1, -(-count // (most * several)))
        size = max(1, -(-count // (rounds * several)))
        parts = [slice(start, start + size) for start in range(0, count, size)]
        asked: list[list[Any]] = []
        for part in parts:
            shared, placed = features.shared, self._placed
            if corners is not None:
                cut = whole, corners[part], cells
                shared = tuple(cut_shared(np, shared, *cut))
                placed = cut_columns(np, placed, *cut)
            asked.append([*shared, placed, tokens[part]])
            if masks is not None:
                asked[-1].append(np.ascontiguousarray(masks[part, np.newaxis]))
        answers = graph.each(asked)
        for part, (found, kernels, image) in zip(parts, answers, strict=True):
            scores[part] = found
            wanted = rows_to_draw(scores[part], least_scores, part)
            if len(wanted) < len(kernels):
                image, kernels = image[wanted], kernels[wanted]
                logits[part] = -np.inf
            if len(wanted):
                rows = part.start + wanted
                image = image.reshape(-1, cells, cells, image.shape[-1])
                details: list[Any] = [*features.details]
                if corners is not None:
                    details = cut_details(np, details, whole, corners[rows], cells)
                given = [image, kernels, *details[:2]]
                if self._refines and masks is not None:
                    given += drawn_planes(masks, boxes, rows, corners)
                    given += details[2:]
                (drawn,) = self._upscaler(given)
                logits[rows] = drawn
        return DecodedPrompts(logits, scores)

    def _decoder_of(self, count: int, masked: bool, exact: bool) -> tuple[_Graph, int]:
        """Return the graph for this many prompts, and how many parts it runs at once.

        If answers need not be exact the graph does not depend on the count, so that a search finds
        the same objects however it divides its points.

        Raises
        ------
        DamagedModelError
            If the graph cannot be read.
        """
        one = self._masked if masked else self._plain
        assert one is not None, "prompts of this model are drawn"
        exact = exact or not self._rounds
        if count < _MANY and exact:
            return one, 1
        name = "decoder_masked" if masked else "decoder"
        graph = self._when_needed(name, hint="THROUGHPUT", exact=exact)
        return graph, graph.at_once

    def _when_needed(self, name: str, *, hint: str, exact: bool) -> _Graph:
        """Return a graph that is read at its first use."""
        with self._reading:
            if (name, exact) not in self._later:
                try:
                    graph = self._graph(name, hint=hint, exact=exact)
                except Exception as error:  # OpenVINO may raise anything
                    discard(self._folder)
                    raise DamagedModelError(
                        "The converted model is damaged; load the model again."
                    ) from error
                self._later[name, exact] = graph
            return self._later[name, exact]

    def arrays_of(self, features: OpenVinoFeatures) -> dict[str, npt.NDArray[Any]]:
        """Return features as arrays; see `KeepsFeatures.arrays_of`."""
        shared: list[npt.NDArray[Any]] = list(features.shared)
        if self.precision != "int8":
            shared = [in_float16(each) for each in shared]
        # A decoder beside integers rounds to bfloat16 at every step, which makes much of little:
        # the IoU of single masks would be 0.92.
        return dict(zip(self._names, (*shared, *features.details), strict=True))

    def features_of(self, arrays: Mapping[str, npt.NDArray[Any]]) -> OpenVinoFeatures:
        """Make features of arrays; see `KeepsFeatures.features_of`."""
        if set(arrays) != set(self._names):
            raise ValueError("These are not the features of an image.")
        both = [arrays[name] for name in self._names]
        of_decoder, _ = self._parts
        return OpenVinoFeatures(
            shared=tuple(np.asarray(each, np.float32) for each in both[:of_decoder]),
            details=tuple(both[of_decoder:]),
            maps=None,
        )

    @property
    def _names(self) -> list[str]:
        """Names of the encoder's outputs that are features."""
        return [f"output {number}" for number in range(self._parts[1])]

    def object_maps(self, features: OpenVinoFeatures) -> npt.NDArray[np.float32] | None:
        """Predict where objects are; see `Runtime.object_maps`."""
        return features.maps


def _padded(rgb: npt.NDArray[np.uint8], side: int) -> list[Any]:
    """Return what graphs read of an image: (1, side, side, 3) uint8, and its size in it."""
    height, width = rgb.shape[:2]
    padded = np.zeros((1, side, side, 3), np.uint8)
    padded[0, :height, :width] = rgb
    return [padded, np.array([height, width], np.int64)]


_making_core = threading.Lock()
_compiling = threading.Lock()


@functools.cache
def _made_core() -> Any:
    return import_openvino().Core()


def _core() -> Any:
    """Return OpenVINO's core, the same one as long as the process lives.

    Its CPU plugin gives the thread that loads it a stack for signal handlers, and frees that memory
    when the core is destroyed. If another thread destroys it, as a garbage collector may, the first
    thread is left with a freed stack, and the next signal (of a child process that ends, for
    example) kills the process.
    """
    with _making_core:  # of two cores one would be destroyed
        return _made_core()


class _Graph:
    """A compiled graph that any thread may call.

    Compiled immediately, so that a damaged file is noticed before anything depends on it; one at a
    time, because OpenVINO sets the locale of the process to "C" meanwhile. Of two at once, one may
    put back the other's "C": then Python reads and writes text files as ASCII from there on.
    """

    def __init__(self, core: Any, path: Path, options: dict[str, Any]) -> None:
        with _compiling:
            self._compiled = core.compile_model(str(path), "CPU", options)
        self._mine = threading.local()  # a request has buffers: one for each thread

    def __call__(self, inputs: list[Any]) -> list[npt.NDArray[np.float32]]:
        """Return all outputs, which the thread's next call overwrites."""
        (request,) = self._requests(1)
        # Not copied: what all prompts share is 16 MB.
        request.infer(dict(enumerate(inputs)), share_inputs=True)
        return self._outputs(request)

    @property
    def at_once(self) -> int:
        """How many inputs it computes at the same time."""
        return int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))

    def each(
        self, inputs: Sequence[list[Any]]
    ) -> Iterator[list[npt.NDArray[np.float32]]]:
        """Yield all outputs of each input, in order, computing `at_once` at a time.

        Nothing is computed while the caller uses outputs, so it has all threads. The outputs are
        overwritten when the caller takes the next ones.
        """
        if len(inputs) == 1:  # nothing to divide
            yield self(inputs[0])
            return
        requests = self._requests(min(self.at_once, len(inputs)))
        for begin in range(0, len(inputs), self.at_once):
            busy = []
            try:
                for number, request in enumerate(requests[: len(inputs) - begin]):
                    given = dict(enumerate(inputs[begin + number]))
                    request.start_async(given, share_inputs=True)
                    busy.append(request)
            finally:  # they read the inputs even if one fails to start
                for request in busy:
                    request.wait()
            for request in busy:
                yield self._outputs(request)

    def _outputs(self, request: Any) -> list[npt.NDArray[np.float32]]:
        count = len(self._compiled.outputs)
        return [request.get_output_tensor(i).data for i in range(count)]

    def _requests(self, count: int) -> list[Any]:
        """Return requests that no other thread uses."""
        mine: list[Any] = self._mine.__dict__.setdefault("requests", [])
        mine += [
            self._compiled.create_infer_request() for _ in range(count - len(mine))
        ]
        return mine[:count]
