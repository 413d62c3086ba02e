"""OpenVINO without its telemetry.

To import `openvino` is enough for it to write an identifier into the home directory and to tell a
web service, from a process of its own, that it was used. Nobody who clicks on cells agreed to that,
and napari would be forked for it.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

_REPORTER = "openvino_telemetry"

_importing = threading.Lock()


def import_openvino() -> Any:
    """Import OpenVINO so that it reports nothing.

    It looks for the package that reports when it is imported the first time, and does without where
    there is none. If something else imported it before, that is how it stays.

    Returns
    -------
    module
        `openvino`.

    Raises
    ------
    ImportError
        It is not installed.
    """
    with _importing:
        hidden = "openvino" not in sys.modules and _REPORTER not in sys.modules
        if hidden:
            sys.modules[_REPORTER] = None  # type: ignore[assignment]
        try:
            import openvino
        finally:
            if hidden:
                del sys.modules[_REPORTER]
    return openvino
