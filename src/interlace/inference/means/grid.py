"""The reference grid: all combinations of the factors' levels, numbers at their means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interlace.design import frame
from interlace.design.frame import Codes, Column, Levels, hint
from interlace.errors import InterlaceError
from interlace.inference.means.rows import Seen
from interlace.inference.means.variables import combinations
from interlace.sums.terms import Floats

# Numbers that a grid may hold, rows times columns.
_MOST = 20_000_000
# A column is one of zeros and ones if its variance is that of such a column to this accuracy.
_BINARY = 1e-9

At = Mapping[str, object]


@dataclass(frozen=True, eq=False)
class Grid:
    """Combinations of values, and what the fixed effects make of them.

    Parameters
    ----------
    seen
        The rows behind the fit.
    values
        Per column read, its values in the grid.
    nesting
        Nested factors, each with those that it is nested in.
    columns
        The ``m`` rows: combinations of values that occur.
    number
        Number of each row's combination, in the order of :func:`combinations`.
    X
        ``(m, p)`` kept columns.
    excess
        ``(m, d)`` what the redundant columns have beside their share of the kept ones: a function
        of the rows is estimable if its excess is zero.
    """

    seen: Seen
    values: Mapping[str, Levels]
    nesting: Mapping[str, frozenset[str]]
    columns: Mapping[str, Column]
    number: Codes
    X: Floats
    excess: Floats

    @property
    def size(self) -> int:
        """Rows."""
        return len(self.X)

    def codes(self, name: str) -> Codes:
        """Positions of the rows in the values of a column, ``(m,)``."""
        names = list(self.values)
        sizes = [len(v) for v in self.values.values()]
        stride = int(np.prod(sizes[: names.index(name)], initial=1))
        return self.number // stride % len(self.values[name])

    @cached_property
    def counts(self) -> Floats:
        """Rows of the data in every combination, ``(m,)``.

        Numbers with values of the user's choice are not counted by.

        Raises
        ------
        InterlaceError
            The rows are not held, and the sums do not tell.
        """
        names = [n for n in self.values if n in self.seen.variables.factors or self._kept(n)]
        found = self.seen.counts({name: self.values[name] for name in names})
        if found is None:
            raise InterlaceError(
                "weights by the frequencies of the factors need the rows of the model, and this "
                "fit does not hold them: use weights='equal'"
            )
        at, stride = np.zeros(self.size, dtype=np.intp), 1
        for name in names:
            at += stride * self.codes(name)
            stride *= len(self.values[name])
        return found[at]

    def _kept(self, name: str) -> bool:
        """Whether a number is in the grid with all of the few values that it has."""
        few = few_values(self.seen, name)
        return few is not None and len(few) > 1

    def shifted(self, name: str, by: float) -> Floats:
        """All columns of ``X`` with a number moved."""
        moved = dict(self.columns) | {name: np.asarray(self.columns[name], np.float64) + by}
        return self.seen.variables.encode(moved)


def reference_grid(
    seen: Seen, *, at: At | None = None, spread: Mapping[str, float] | None = None
) -> Grid:
    """The grid of a model.

    Parameters
    ----------
    seen
        The rows behind the fit.
    at
        Values of some columns, in place of all levels or the mean.
    spread
        Numbers that have two values, this far to both sides of their mean.

    Raises
    ------
    InterlaceError
        ``at`` names no column of the fixed effects or no level; the mean of a number cannot be
        told; the grid is too large.
    """
    values = {name: _values(seen, name, dict(at or {})) for name in seen.variables.names}
    for name in at or {}:
        if name not in values:
            raise InterlaceError(
                f"at has '{name}', which the fixed effects do not read{hint(name, list(values))}"
            )
    for name, reach in (spread or {}).items():
        middle = float(np.asarray(values[name], dtype=np.float64).mean())
        values[name] = np.array([middle - reach, middle + reach])
    rows = int(np.prod([float(len(v)) for v in values.values()], initial=1.0))
    width = len(seen.variables.encoding.fixed.names)
    if rows * width > _MOST:
        raise InterlaceError(
            f"the reference grid has {rows:,} combinations of {width} columns: give fewer values "
            f"of some factors with at={{...}}"
        )
    nesting = nested(seen)
    number = np.flatnonzero(_occurring(seen, values, nesting, rows))
    columns = {name: column[number] for name, column in combinations(values).items()}
    X = seen.variables.encode(columns)
    kept, excess = split(seen, X)
    return Grid(seen, values, nesting, columns, number, kept, excess)


def split(seen: Seen, X: Floats) -> tuple[Floats, Floats]:
    """The kept columns of rows, and what the redundant ones have beyond them."""
    kept, rest = X[:, seen.kept], X[:, ~seen.kept]
    if not rest.shape[1]:
        return kept, np.zeros((len(X), 0))
    found = seen.dependence
    if found is None:  # sums of an older file do not say how redundant columns depend on others
        return kept, np.full((len(X), 1), np.nan)
    shares, scale = found
    return kept, np.asarray((rest - kept @ shares) / scale, dtype=np.float64)


def nested(seen: Seen) -> dict[str, frozenset[str]]:
    """Factors that are nested in others, and in which.

    ``a`` is nested in ``b``, which has a main effect, if every level of ``a`` occurs with one level
    of ``b`` alone, or if ``a`` has no main effect and all terms with it have ``b`` too.
    """
    terms, factors = seen.variables.terms, seen.variables.factors
    mains = {next(iter(t)) for t in terms if len(t) == 1}
    found: dict[str, set[str]] = {}
    for a in factors:
        own = [t for t in terms if a in t]
        for b in factors:
            if a == b or b not in mains:
                continue
            together = a not in mains and all(b in t for t in own)
            if together or ((any(b in t for t in own) or a in mains) and _within(seen, a, b)):
                found.setdefault(a, set()).add(b)
    return {a: frozenset(b for b in bs if a not in found.get(b, ())) for a, bs in found.items()}


def _within(seen: Seen, a: str, b: str) -> bool:
    """Whether every level of ``a`` occurs with one level of ``b``, and ``b`` with several of it."""
    levels = {name: seen.variables.factors[name] for name in (a, b)}
    if not len(levels[a]) > len(levels[b]) > 1:
        return False
    counts = seen.counts(levels)
    if counts is None:
        return False
    table = counts.reshape(len(levels[b]), len(levels[a])) > 1e-6 * counts.max()
    return bool((table.sum(axis=0) == 1).all())


def _occurring(
    seen: Seen,
    values: Mapping[str, Levels],
    nesting: Mapping[str, frozenset[str]],
    rows: int,
) -> NDArray[np.bool_]:
    """Which combinations of values a nested factor has: those that occur in the data."""
    live = np.ones(rows, dtype=bool)
    names, sizes = list(values), [len(v) for v in values.values()]
    number = np.arange(rows)
    for inner, outers in nesting.items():
        group = [name for name in names if name == inner or name in outers]
        counts = seen.counts({name: values[name] for name in group})
        if counts is None:
            continue
        at, stride = np.zeros(rows, dtype=np.intp), 1
        for name in group:
            i = names.index(name)
            at += stride * (number // int(np.prod(sizes[:i], initial=1)) % sizes[i])
            stride *= sizes[i]
        live &= counts[at] > 1e-6 * counts.max()
    return live


# Values -------------------------------------------------------------------------------------------


def _values(seen: Seen, name: str, at: dict[str, object]) -> Levels:
    """Values of one column in the grid."""
    levels = seen.variables.factors.get(name)
    if name in at:
        return _chosen(name, at[name], levels)
    if levels is not None:
        return levels
    few = few_values(seen, name)
    if few is not None:
        return few
    found = seen.column(name)
    if found is not None and not frame.is_numeric(found):
        return frame.factorize(found)[1]
    known = seen.moments(name)
    if known is None:
        raise InterlaceError(
            f"the mean of '{name}' cannot be told, as the fit no longer has its column: give the "
            f"value wanted, at={{'{name}': ...}}"
        )
    return np.array([known[0]])


def few_values(seen: Seen, name: str) -> Levels | None:
    """All values of a number that has at most two, such as 0 and 1; ``None`` for others."""
    found = seen.column(name)
    if found is not None and isinstance(found, np.ndarray) and found.dtype == bool:
        return np.array([False, True])
    if found is not None and not frame.is_numeric(found):
        return None
    values = seen.values(name)
    if values is not None:
        scale = _BINARY * np.abs(values).max(initial=0.0)
        low, high = float(values.min()), float(values.max())
        if (np.minimum(values - low, high - values) <= scale).all():
            return np.array([low] if high - low <= scale else [low, high]).round(12) + 0.0
        return None
    known = None if seen.held else seen.moments(name)
    if known is None or abs(known[1] ** 2 - known[0] * (1.0 - known[0])) > _BINARY:
        return None
    return np.array([0.0, 1.0]) if known[1] > _BINARY else None


def _chosen(name: str, wanted: object, levels: Levels | None) -> Levels:
    """Values that the user gave."""
    several = isinstance(wanted, Sequence | np.ndarray | pd.Series) and not isinstance(wanted, str)
    values = np.atleast_1d(np.asarray(wanted if several else [wanted]))
    if not len(values):
        raise InterlaceError(f"at has no value for '{name}'")
    if levels is None:
        try:
            numbers = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InterlaceError(f"at must give numbers for '{name}', not {wanted!r}") from error
        if not np.isfinite(numbers).all():
            raise InterlaceError(f"at must give finite numbers for '{name}', not {wanted!r}")
        return values if values.dtype == bool else numbers
    known = {str(level): level for level in levels.tolist()}
    for value in values.tolist():
        if str(value) not in known:
            raise InterlaceError(
                f"at has the level {value!r} of '{name}', which the fit does not know"
                f"{hint(str(value), list(known))}"
            )
    chosen = [known[str(value)] for value in values.tolist()]
    return np.asarray(chosen, dtype=levels.dtype)


def moved(grid: Grid, name: str, by: float) -> Grid:
    """The grid of differences: slopes along a number, from steps to both sides."""
    slope = (grid.shifted(name, by) - grid.shifted(name, -by)) / (2.0 * by)
    kept, excess = split(grid.seen, slope)
    return replace(grid, X=kept, excess=excess)
