"""Memory that this process may still use."""

from __future__ import annotations

import os
from pathlib import Path

# Assumed where the system does not say.
_UNKNOWN = 8 * 2**30
# Share of what is free that one task may plan with.
_SHARE = 0.8


def memory_limit() -> float:
    """Bytes that a task may plan to use: most of what is free now."""
    return _SHARE * min(_free_memory(), _control_group())


def _free_memory() -> float:
    """Free memory of the machine, counting caches that can be dropped."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return _physical() / 2
    found = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return float(found["MemAvailable"].split()[0]) * 1024


def _physical() -> float:
    """Memory of a machine that does not tell what is free."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return 2.0 * _UNKNOWN


def _control_group() -> float:
    """What the control group (a container, a cluster's job) leaves; infinite without a limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = (folder / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return float("inf")
    return float("inf") if limit == "max" else max(0.0, float(limit) - float(used))


def in_gb(size: float) -> str:
    """Bytes in words."""
    return f"{size / 1e9:.3g} GB"
