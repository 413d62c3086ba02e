"""What this computer has, found out without importing torch."""

from __future__ import annotations

import ctypes
import platform
import sys


def may_have_gpu() -> bool:
    """Whether torch might find a GPU; False only where it surely finds none.

    CUDA needs NVIDIA's driver, which says how many devices there are; Apple's GPUs are in all Macs
    with Apple's processors.
    """
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
        count = ctypes.c_int(0)
        if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
            return False
    except (OSError, AttributeError):
        return False
    return count.value > 0
