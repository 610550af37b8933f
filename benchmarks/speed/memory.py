"""Memory of a process: its peak, what is left for it, and a bound."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import torch

MIB = 1024.0**2
RESET_PEAK = "5"
"""What Linux wants to read in ``clear_refs``."""


def reset_peak(device: str) -> None:
    """Forget the peak so far, where the system can: a GPU, Linux."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return
    switch = Path("/proc/self/clear_refs")
    if switch.exists():
        switch.write_text(RESET_PEAK, encoding="utf-8")


def peak_memory(device: str) -> float:
    """Return the most memory held since :func:`reset_peak`, MiB.

    Of a GPU, what torch allocated; else all of the process, Python and torch included.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / MIB
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss would include what the process that started this one held.
        return _kib(status, "VmHWM") * 1024.0 / MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MIB if sys.platform == "darwin" else 1024.0)


def available_memory(device: str) -> float:
    """Return the bytes that a process can still have."""
    if device.startswith("cuda"):
        return float(torch.cuda.mem_get_info()[0])
    info = Path("/proc/meminfo")
    if info.exists():
        return _kib(info, "MemAvailable") * 1024.0
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def bound_memory(device: str) -> None:
    """Let an allocation beyond what is left fail: an error, no killed process."""
    if device.startswith("cuda") or sys.platform != "linux":
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(available_memory(device)), hard))


def _kib(path: Path, name: str) -> float:
    """Return a number of a file of names and KiB."""
    lines = path.read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith(name))
    return float(line.split()[1])
