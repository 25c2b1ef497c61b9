"""Memory that this process may still use."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path

import psutil

# Share of what is free that one task may plan with.
_SHARE = 0.8
# Seconds for which a reading holds: all decisions of one fit are made from one, which takes as long
# as a fifth of a small fit.
_HOLDS = 1.0


def memory_limit() -> float:
    """Bytes that a task may plan to use: most of what is free now.

    The system says what is free, caches that can be dropped included, by one call on Linux, macOS
    and Windows.
    """
    return _limit_at(int(time.monotonic() / _HOLDS))


@lru_cache(maxsize=1)
def _limit_at(moment: int) -> float:
    """The limit, read once a moment."""
    return _SHARE * min(float(psutil.virtual_memory().available), _control_group())


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
