"""What this computer has, found out without importing torch."""

from __future__ import annotations

import contextlib
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


def cpu_name() -> str:
    """Name the CPU, as well as this system can: to notice that it is another one."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as f:
            lines = [line.partition(":") for line in f]
            facts = {key.strip(): value.strip() for key, _, value in lines}
            names = ("model name", "cpu family", "model", "stepping", "CPU part")
            found = " ".join(facts[name] for name in names if name in facts)
            if found:
                return found
    return platform.processor() or platform.machine()
