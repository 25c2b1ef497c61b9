"""The order of random terms, and so of theta: lme4's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from interlace.design.formula import RandomTerm


def listed_by_lme4(
    random: Sequence[RandomTerm], levels: Sequence[int], columns: Sequence[int]
) -> tuple[list[int], bool]:
    """Positions of random terms in lme4's order, and whether it had to sort them.

    ``levels`` and ``columns`` are those of every term.  lme4 writes a nesting ``a/b`` from the
    inside out and ``||`` as a term for each column.  If the terms then stand by decreasing number
    of levels, they stay; if not they are sorted, those with equally many from the last to the
    first.
    """
    order: list[int] = []
    sizes: list[int] = []
    for run in _nestings(random):
        order += reversed(run)
        copies = 1 if random[run[0]].correlated else columns[run[0]]
        sizes += [levels[i] for i in reversed(run)] * copies
    if all(a >= b for a, b in pairwise(sizes)):
        return order, False
    return sorted(reversed(order), key=lambda i: -levels[i]), True


def _nestings(random: Sequence[RandomTerm]) -> list[list[int]]:
    """Positions of terms, those together of which each is nested in the one before it."""
    runs: list[list[int]] = []
    for i, term in enumerate(random):
        outer = random[i - 1] if i else None
        inside = outer is not None and term.group[:-1] == outer.group
        if inside and replace(term, group=term.group[:-1]) == outer:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs
