"""How much memory the levels of grouping factors may take."""

from __future__ import annotations

import os
import sys

from interlace.formula import MixedFormula, model_terms

# Share of the free memory that levels may take: the fit needs more than their number says.
_SHARE = 0.5
# Bytes of a level: its value and its place in a table, and per column left of the bar what the
# solvers hold for it.
_PER_LEVEL, _PER_EFFECT = 64, 24


def available() -> float:
    """Bytes of memory that can be had without swapping; infinite where that is not known."""
    if sys.platform == "linux":
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return 1024.0 * int(line.split()[1])
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    return float("inf")


def room_for_levels(formula: MixedFormula) -> tuple[float, dict[str, int]]:
    """Bytes that levels may take, and those of one level by grouping factor."""
    columns = len(model_terms(formula.fixed)) + 1
    bytes_: dict[str, int] = {}
    for term in formula.random:
        k = len(model_terms(term.expr))
        for size in range(1, len(term.group) + 1):
            bytes_.setdefault(":".join(term.group[:size]), _PER_LEVEL)
        bytes_[term.key] += _PER_EFFECT * k * (columns + k)
    return _SHARE * available(), bytes_
