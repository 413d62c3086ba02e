"""Graphs that OpenVINO has compiled, and the core that compiles them."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

from napari_tinysam.inference.runtime.openvino.unreported import import_openvino

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

_making_core = threading.Lock()
_compiling = threading.Lock()


@functools.cache
def _made_core() -> Any:
    return import_openvino().Core()


def openvino_core() -> Any:
    """Return OpenVINO's core, the same one as long as the process lives.

    Its CPU plugin gives the thread that loads it a stack for signal handlers, and frees that memory
    when the core is destroyed. If another thread destroys it, as a garbage collector may, the first
    thread is left with a freed stack, and the next signal (of a child process that ends, for
    example) kills the process.
    """
    with _making_core:  # of two cores one would be destroyed
        return _made_core()


class Graph:
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
        self, inputs: Iterable[list[Any]], count: int
    ) -> list[list[npt.NDArray[np.float32]]]:
        """Return all outputs of each of `count` inputs, which are computed at the same time.

        An input is made while those before it are computed. The thread's next call overwrites the
        outputs.
        """
        if count == 1:  # nothing to divide
            return [self(each) for each in inputs]
        busy = []
        try:
            for given, request in zip(inputs, self._requests(count), strict=True):
                held = dict(enumerate(given))
                request.start_async(held, share_inputs=True)
                busy.append((request, held))
        finally:  # they read the inputs even if one fails to start
            for request, _ in busy:
                request.wait()
        return [self._outputs(request) for request, _ in busy]

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
