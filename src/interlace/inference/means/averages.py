"""Averages over the reference grid: linear functions of the fixed effects, one a mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from interlace.choices import MeanWeights
from interlace.design.frame import Codes, Levels, hint
from interlace.errors import InterlaceError
from interlace.inference.means.grid import Grid
from interlace.sums.terms import Floats

WEIGHTS: tuple[MeanWeights, ...] = get_args(MeanWeights)

# A function is estimable if it has no more than this of what the data cannot tell.
_ESTIMABLE = 1e-7


@dataclass(frozen=True, eq=False)
class Functions:
    """Linear functions of the fixed effects, with labels.

    Parameters
    ----------
    labels
        Per column of labels, ``(k,)`` values.
    by
        The columns that make groups: contrasts and adjustments stay within them.
    L
        ``(k, p)`` weights of the coefficients.
    excess
        ``(k, d)``, zero for functions that the data can tell.
    """

    labels: dict[str, Levels]
    by: tuple[str, ...]
    L: Floats
    excess: Floats

    @property
    def estimable(self) -> NDArray[np.bool_]:
        """Which of the functions the data can tell, ``(k,)``."""
        return estimable(self.L, self.excess)

    @property
    def inner(self) -> tuple[str, ...]:
        """Columns of labels that make no groups."""
        return tuple(name for name in self.labels if name not in self.by)

    def groups(self) -> list[Codes]:
        """Rows of every group, in order."""
        number = np.zeros(len(self.L), dtype=np.intp)
        for name in reversed(self.by):
            codes, size = _in_order(self.labels[name])
            number = number * size + codes
        return [np.flatnonzero(number == g) for g in np.unique(number)]


def estimable(L: Floats, excess: Floats) -> NDArray[np.bool_]:
    """Which rows of ``L`` the data can tell."""
    over = np.abs(excess).max(axis=1, initial=0.0)
    known = np.isfinite(L).all(axis=1) & (over <= _ESTIMABLE * (1.0 + np.abs(L).max(axis=1)))
    return np.asarray(known, dtype=np.bool_)


def _in_order(values: Levels) -> tuple[Codes, int]:
    """Codes of values by first appearance, and how many there are."""
    seen: dict[object, int] = {}
    codes = [seen.setdefault(value, len(seen)) for value in values.tolist()]
    return np.array(codes, dtype=np.intp), len(seen)


def means(grid: Grid, specs: Sequence[str], by: Sequence[str], weights: str) -> Functions:
    """Means for all combinations of some columns, the other columns averaged over.

    Parameters
    ----------
    grid
        The reference grid.
    specs, by
        Columns of the means; a factor that one of them is nested in is added after it.
    weights
        ``"equal"``: all levels of a factor count alike, within those that it is nested in.
        ``"proportional"``: combinations averaged over count as often as they are in the data,
        ``"outer"``: as often as their levels are, ``"cells"``: as often as they are with the
        values of the mean.

    Raises
    ------
    InterlaceError
        A column that the fixed effects do not read, a column twice, unknown weights.
    """
    if weights not in WEIGHTS:
        known = ", ".join(repr(w) for w in WEIGHTS)
        raise InterlaceError(f"weights must be one of {known}, not {weights!r}")
    names = _checked(grid, specs, by)
    key, first = _keys(grid, names)
    over = [name for name in grid.values if name not in names]
    amounts = _amounts(grid, over, weights)
    total = np.bincount(key, amounts, len(first))
    W = np.zeros((len(first), grid.size))
    with np.errstate(invalid="ignore", divide="ignore"):
        W[key, np.arange(grid.size)] = amounts / total[key]
    labels = {name: np.asarray(grid.columns[name])[first] for name in names}
    empty = total == 0.0
    W[empty] = 0.0
    L, excess = W @ grid.X, W @ grid.excess
    L[empty] = np.nan
    return Functions(labels, tuple(by), L, excess)


def _checked(grid: Grid, specs: Sequence[str], by: Sequence[str]) -> list[str]:
    """The columns of means: those asked for, and what they are nested in."""
    for name in (*specs, *by):
        if name not in grid.values:
            known = list(grid.values)
            raise InterlaceError(f"the fixed effects do not read '{name}'{hint(name, known)}")
        if (*specs, *by).count(name) > 1:
            raise InterlaceError(f"'{name}' is named twice: as a mean and in by, or twice in one")
    names: list[str] = []
    for name in (*specs, *by):
        names += [name] if name in specs and name not in names else []
        outer = grid.nesting.get(name, frozenset())
        names += [n for n in grid.values if n in outer and n not in (*specs, *names, *by)]
    return [*names, *by]


def _keys(grid: Grid, names: Sequence[str]) -> tuple[Codes, Codes]:
    """Which mean every row of the grid belongs to, and a row of each mean."""
    number = np.zeros(grid.size, dtype=np.intp)
    for name in reversed(names):
        number = number * len(grid.values[name]) + grid.codes(name)
    _, first, key = np.unique(number, return_index=True, return_inverse=True)
    return key, first


def _amounts(grid: Grid, over: Sequence[str], weights: str) -> Floats:
    """How much every row of the grid counts, up to a factor."""
    if not over:
        return np.ones(grid.size)
    if weights == "cells":
        return grid.counts
    if weights == "proportional":
        return _margin(grid, over)
    total = np.ones(grid.size)
    for name in over:
        outer = [n for n in grid.values if n in grid.nesting.get(name, ())]
        if weights == "equal":
            total *= _share(grid, name, outer)
        else:  # a nested factor's levels are each those of one level of the other
            total *= _margin(grid, [name, *outer]) / (_margin(grid, outer) if outer else 1.0)
    return total


def _margin(grid: Grid, names: Sequence[str]) -> Floats:
    """Rows of the data with a grid row's values of some columns."""
    key, first = _keys(grid, names)
    return np.asarray(np.bincount(key, grid.counts, len(first))[key], dtype=np.float64)


def _share(grid: Grid, name: str, outer: Sequence[str]) -> Floats:
    """One over the number of levels of a factor, within those that it is nested in."""
    _, first = _keys(grid, [name, *outer])
    group, groups = _keys(grid, outer) if outer else (np.zeros(grid.size, np.intp), np.zeros(1))
    sizes = np.bincount(group[first], minlength=len(groups))
    return 1.0 / sizes[group]


def collapsed(
    functions: Functions, keep: Sequence[str], nesting: Mapping[str, frozenset[str]]
) -> Functions:
    """Means of means: over the columns not kept, their levels counting alike, within groups."""
    names = [n for n in keep if n in functions.labels] + list(functions.by)
    codes = {n: _in_order(values)[0] for n, values in functions.labels.items()}
    key, first = _cells_of([codes[n] for n in names], len(functions.L))
    amounts = np.ones(len(functions.L))
    for name in functions.inner:
        if name not in names:
            outer = [codes[n] for n in functions.labels if n in nesting.get(name, ())]
            outer += [codes[n] for n in functions.by]
            group, groups = _cells_of(outer, len(functions.L))
            _, one = _cells_of([codes[name], *outer], len(functions.L))
            amounts /= np.bincount(group[one], minlength=len(groups))[group]
    W = np.zeros((len(first), len(functions.L)))
    W[key, np.arange(len(functions.L))] = amounts / np.bincount(key, amounts)[key]
    lost = np.isnan(functions.L).any(axis=1)
    L = W @ np.nan_to_num(functions.L)
    L[(W[:, lost] > 0.0).any(axis=1)] = np.nan
    labels = {name: functions.labels[name][first] for name in names}
    return Functions(labels, functions.by, L, W @ functions.excess)


def _cells_of(columns: Sequence[Codes], n: int) -> tuple[Codes, Codes]:
    """Which combination of codes each of ``n`` rows has, the first column fastest, and one row."""
    number = np.zeros(n, dtype=np.intp)
    for codes in reversed(columns):
        number = number * (int(codes.max(initial=0)) + 1) + codes
    _, first, key = np.unique(number, return_index=True, return_inverse=True)
    return key, first
