"""OpenVINO without its telemetry.

Importing `openvino` writes an identifier into the home directory and reports the use to a web
service, from a forked process. Users of this plugin have not agreed to that.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

_REPORTER = "openvino_telemetry"

_importing = threading.Lock()


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry.

    At its first import OpenVINO looks for the telemetry package, and works without it. If something
    else has imported OpenVINO before, nothing changes.

    Returns
    -------
    module
        `openvino`.

    Raises
    ------
    ImportError
        If it is not installed.
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
