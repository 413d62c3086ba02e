"""Importing torch into a process with a window without a crash.

Mesa's OpenGL drivers (software rendering, AMD) bring LLVM into the process. So does triton, which
torch imports where it is installed (Linux, for `torch.compile`). Loading it after Mesa's LLVM
crashes the process (seen with libLLVM 15 and the triton of torch 2.15). We do not use triton.
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

    Does nothing in a process that has imported triton already, or has no other LLVM.
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
    """Whether a shared LLVM library is loaded. Only Linux can tell, and only Linux needs it."""
    try:
        return "libLLVM" in _MAPPED_FILES.read_text(errors="replace")
    except OSError:
        return False
