"""Rows that share levels and columns, added up: the likelihood depends on their sums alone.

Of a binomial response successes and trials add, of Poisson counts with a log link counts and
exposure; of others the weights of rows with one response.  What is asked of single rows is computed
from the rows themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from interlace.sums.cells import Codes
from interlace.sums.terms import Floats

# Rows below which patterns are not sought, and the share of rows that they must stay below.
_FEW, _SHARE = 2000, 0.5
# Rows that are looked at before a column is, the equal pairs among them that say that values recur,
# and distinct values up to which each is looked up in a table.
_SAMPLE, _RECURRING, _TABLE = 2000, 5, 64


@dataclass(frozen=True, eq=False)
class Patterns:
    """The pattern of every row, ``index`` (n,), and one row of each, ``first`` (m,)."""

    index: Codes
    first: Codes

    @property
    def m(self) -> int:
        """Number of patterns."""
        return len(self.first)

    def sums(self, v: Floats | None) -> Floats:
        """Sums of values over the rows of every pattern, ``(m,)``; counts without any."""
        found = np.bincount(self.index, weights=v, minlength=self.m)
        return found.astype(np.float64, copy=False)


def found_patterns(codes: Sequence[Codes], columns: Iterable[Floats]) -> Patterns | None:
    """Patterns of levels and columns, ``None`` unless they are much fewer than the rows."""
    n = len(codes[0])
    if n < _FEW:
        return None
    found: Patterns | None = _numbered(np.zeros(n, dtype=np.int64))
    for own in dict.fromkeys(map(id, codes)):
        part = next(c for c in codes if id(c) == own)
        found = None if found is None else _split(found, part, int(part.max()) + 1)
    return None if found is None else refined(found, columns)


def refined(patterns: Patterns, columns: Iterable[Floats]) -> Patterns | None:
    """Patterns in which further columns are constant too; ``None`` if these are too many."""
    found: Patterns | None = patterns
    for column in columns:
        if found is None or (column == column[found.first][found.index]).all():
            continue
        numbered = _values(column)
        found = None if numbered is None else _split(found, *numbered)
    return found


def _values(column: Floats) -> tuple[Codes, int] | None:
    """Position of every value among the distinct ones; ``None`` if values hardly recur."""
    sample = column[:: max(1, len(column) // _SAMPLE)]
    values = np.unique(sample)
    if len(sample) - len(values) < _RECURRING:
        return None
    if len(values) <= _TABLE:
        codes = np.minimum(np.searchsorted(values, column), len(values) - 1)
        if (values[codes] == column).all():
            return codes, len(values)
    values, codes = np.unique(column, return_inverse=True)
    return codes, len(values)


def _split(patterns: Patterns, codes: Codes, size: int) -> Patterns | None:
    """Patterns split by codes below ``size``."""
    found = _numbered(patterns.index.astype(np.int64) * size + codes)
    return found if found.m <= _SHARE * len(codes) else None


def _numbered(keys: Codes) -> Patterns:
    """Rows with equal keys as patterns."""
    size = int(keys.max()) + 1
    if size > 4 * len(keys):
        _, first, index = np.unique(keys, return_index=True, return_inverse=True)
        return Patterns(index, first)
    row = np.full(size, -1)
    row[keys] = np.arange(len(keys))
    occurs = row >= 0
    return Patterns((np.cumsum(occurs) - 1)[keys], row[occurs])
