"""The hardware of this computer, without importing torch."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import sys


def may_have_gpu() -> bool:
    """Whether torch might find a GPU; False only if it certainly finds none.

    CUDA needs NVIDIA's driver, which knows the number of devices. All Macs with Apple's processors
    have a GPU.
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
    """Return the name of the CPU as this system gives it, to notice when it is another one."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as f:
            lines = [line.partition(":") for line in f]
            facts = {key.strip(): value.strip() for key, _, value in lines}
            names = ("model name", "cpu family", "model", "stepping", "CPU part")
            found = " ".join(facts[name] for name in names if name in facts)
            if found:
                return found
    return platform.processor() or platform.machine()
