"""Compact letter displays: means that share a letter do not differ significantly.

Insertion and absorption as in Piepho (2004, Journal of Computational and Graphical Statistics 13,
456-466).
"""

from __future__ import annotations

from string import ascii_letters

import numpy as np
from numpy.typing import NDArray

from interlace.sums.terms import Floats


def letters(estimate: Floats, differs: NDArray[np.bool_]) -> list[str]:
    """Letters of ``k`` means: ``a`` goes to the first, as in R's ``cld`` that does not sort.

    Parameters
    ----------
    estimate
        ``(k,)``; nan gets no letter.
    differs
        ``(k, k)``, symmetric: whether two means differ.
    """
    order = np.flatnonzero(np.isfinite(estimate))
    sets = [frozenset(range(len(order)))] if len(order) else []
    for i in range(len(order)):
        for j in range(i + 1, len(order)):
            if differs[order[i], order[j]]:
                sets = _parted(sets, i, j)
    found = [""] * len(estimate)
    for n, members in enumerate(sorted(sets, key=sorted)):
        for i in sorted(members):
            found[order[i]] += _letter(n)
    return found


def _parted(sets: list[frozenset[int]], i: int, j: int) -> list[frozenset[int]]:
    """Sets of which none holds both of two that differ, and none is within another."""
    kept = [s for s in sets if not {i, j} <= s]
    for s in sets:
        if {i, j} <= s:
            for part in (s - {j}, s - {i}):
                if not any(part <= other for other in kept):
                    kept = [other for other in kept if not other <= part] + [part]
    return kept


def _letter(n: int) -> str:
    """``a`` to ``Z``, then with a number."""
    extra, n = divmod(n, len(ascii_letters))
    return ascii_letters[n] + (str(extra) if extra else "")
