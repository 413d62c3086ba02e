"""Loading torch into a window without crashing it.

Mesa's OpenGL drivers (software rendering, AMD) bring LLVM into the process. So does triton, which
torch imports where it is installed (Linux, for `torch.compile`), and loading it after Mesa's kills
the process: seen with libLLVM 15 and triton of torch 2.15. Nothing here is compiled by triton.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MAPPED_FILES = Path("/proc/self/maps")


@contextmanager
def triton_kept_out() -> Iterator[None]:
    """Make ``import triton`` fail inside, which torch takes for "not installed".

    Only where it would crash: a process that has triton already, or no foreign LLVM, is left alone.
    """
    if "triton" in sys.modules or not _has_llvm():
        yield
        return
    sys.modules["triton"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if sys.modules.get("triton", sys) is None:
            del sys.modules["triton"]


def _has_llvm() -> bool:
    """Whether a shared LLVM library is loaded; only Linux tells, and only there it happens."""
    try:
        return "libLLVM" in _MAPPED_FILES.read_text(errors="replace")
    except OSError:
        return False
