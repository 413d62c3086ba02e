"""The runtime for computers without a GPU: OpenVINO on a CPU, with graphs converted before.

It imports no torch. The graphs are those of `napari_tinysam.model.fast.graphs`.
"""

from __future__ import annotations

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
from napari_tinysam.inference.runtime.openvino.compiled import Graph, openvino_core
from napari_tinysam.inference.runtime.openvino.store import discard
from napari_tinysam.inference.runtime.prompt_tokens import PromptTokens
from napari_tinysam.inference.runtime.protocol import (
    DecodedPrompts,
    drawn_planes,
    in_float16,
    rows_to_draw,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
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
        core = openvino_core()
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

        def graph(name: str, *, hint: str = "LATENCY", exact: bool = True) -> Graph:
            exact = exact and name.startswith("decoder") and not integers
            hints = {
                "PERFORMANCE_HINT": hint,
                "INFERENCE_PRECISION_HINT": "f32" if exact else precision,
            }
            return Graph(core, folder / f"{name}.xml", options | hints)

        needed = ["encoder", "decoder_masked", "upscaler"]
        if not self.dense_prompts:  # otherwise prompts are always drawn
            needed.append("decoder")
        graphs = {name: graph(name) for name in needed}
        self._folder = folder
        self._encoder = graphs["encoder"]
        self._masked, self._upscaler = graphs["decoder_masked"], graphs["upscaler"]
        self._plain = graphs.get("decoder")
        # Read when needed; by name and whether it is exact.
        self._later: dict[tuple[str, bool], Graph] = {}
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
        graph, upscaler = self._graphs_of(count, masks is not None, exact)
        several = graph.at_once if upscaler is not self._upscaler else 1
        # Equally many parts for each thread, as small as possible.
        rounds = max(1, -(-count // (most * several)))
        size = max(1, -(-count // (rounds * several)))
        parts = [slice(start, start + size) for start in range(0, count, size)]

        def asked(part: slice) -> list[Any]:
            """Cut out what the decoder reads, while other parts are computed."""
            shared, placed = features.shared, self._placed
            if corners is not None:
                cut = whole, corners[part], cells
                shared = tuple(cut_shared(np, shared, *cut))
                placed = cut_columns(np, placed, *cut)
            drawn = [] if masks is None else [masks[part, np.newaxis]]
            return [*shared, placed, tokens[part], *map(np.ascontiguousarray, drawn)]

        def to_draw(rows: npt.NDArray[np.intp], image: Any, kernels: Any) -> list[Any]:
            """Cut out what the upscaler reads."""
            image = image.reshape(-1, cells, cells, image.shape[-1])
            details: list[Any] = [*features.details]
            if corners is not None:
                details = cut_details(np, details, whole, corners[rows], cells)
            given = [image, kernels, *details[:2]]
            if self._refines and masks is not None:
                given += drawn_planes(masks, boxes, rows, corners)
                given += details[2:]
            return given

        for begin in range(0, len(parts), several):
            group = parts[begin : begin + several]
            pictures = []
            answers = graph.each(map(asked, group), len(group))
            for part, (found, kernels, image) in zip(group, answers, strict=True):
                scores[part] = found
                wanted = rows_to_draw(scores[part], least_scores, part)
                if len(wanted) < len(kernels):
                    image, kernels = image[wanted], kernels[wanted]
                    logits[part] = -np.inf
                if len(wanted):
                    pictures.append((part.start + wanted, image, kernels))
            drawn = upscaler.each((to_draw(*each) for each in pictures), len(pictures))
            for (rows, *_), (planes,) in zip(pictures, drawn, strict=True):
                logits[rows] = planes
        return DecodedPrompts(logits, scores)

    def _graphs_of(self, count: int, masked: bool, exact: bool) -> tuple[Graph, Graph]:
        """Return the decoder and the upscaler for this many prompts.

        For one or a few, all threads work on one part; for many, each on a part of its own.

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
            return one, self._upscaler
        name = "decoder_masked" if masked else "decoder"
        return (
            self._when_needed(name, hint="THROUGHPUT", exact=exact),
            self._when_needed("upscaler", hint="THROUGHPUT", exact=exact),
        )

    def _when_needed(self, name: str, *, hint: str, exact: bool) -> Graph:
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

    def feature_maps(
        self, features: OpenVinoFeatures
    ) -> list[npt.NDArray[np.floating]]:
        """Describe each place of the frame; see `ShowsFeatures.feature_maps`."""
        cells = self.image_size // CELL
        embedding = features.shared[0].reshape(cells, cells, -1)
        return [embedding.transpose(2, 0, 1), *(x[0] for x in features.details[2:])]

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
