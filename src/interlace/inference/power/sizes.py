"""Designs of other sizes: levels of a grouping factor left out, or repeated under new names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interlace.design.frame import Column, factorize, hint
from interlace.errors import InterlaceError

Sizes = Mapping[str, int | Sequence[int]]
Rows = NDArray[np.intp]


def combinations(sizes: Sizes | None, factors: Sequence[str]) -> Iterator[dict[str, int]]:
    """Every combination of sizes, by grouping column.

    Raises
    ------
    InterlaceError
        A name is no grouping column, or a size no whole number from 2 on.
    """
    given = {
        name: [n] if isinstance(n, int | np.integer) else list(n)
        for name, n in (sizes or {}).items()
    }
    for name, numbers in given.items():
        if name not in factors:
            raise InterlaceError(
                f"sizes: '{name}' is no grouping column of the model{hint(str(name), factors)}"
            )
        for n in numbers:
            if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 2:
                raise InterlaceError(f"sizes: '{name}' must be whole numbers from 2 on, not {n!r}")
        if not numbers:
            raise InterlaceError(f"sizes: '{name}' has no size")
    for combination in product(*given.values()):
        yield dict(zip(given, map(int, combination), strict=True))


def resized(
    columns: Mapping[str, Column], factors: Sequence[str], sizes: Mapping[str, int]
) -> tuple[dict[str, Column], Rows]:
    """Columns with as many levels as asked for, and which rows they were made from.

    Levels are taken in their order; after the last one the first is repeated with all its rows,
    under a new name, and so on.  Grouping columns that are nested in it get new names too.
    """
    found, which = dict(columns), np.arange(len(next(iter(columns.values()))))
    for name, n in sizes.items():
        codes, levels = factorize(found[name])
        by_level = np.split(
            np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes, minlength=len(levels)))
        )[:-1]
        rows = np.concatenate([by_level[j % len(levels)] for j in range(n)])
        copies = np.concatenate(
            [np.full(len(by_level[j % len(levels)]), j // len(levels)) for j in range(n)]
        )
        inside = [other for other in factors if other == name or _nested(found[other], codes)]
        taken = {key: column[rows] for key, column in found.items()}
        found = taken | {key: _renamed(found[key], rows, copies) for key in inside}
        which = which[rows]
    return found, which


def _nested(column: Column, codes: NDArray[np.integer]) -> bool:
    """Whether every level of a column occurs with one code alone, and there are more of them."""
    own, levels = factorize(column)
    pairs = len(np.unique(own.astype(np.int64) * (int(codes.max()) + 1) + codes))
    return pairs == len(levels) and len(levels) > len(np.unique(codes))


def _renamed(column: Column, rows: Rows, copies: Rows) -> Column:
    """Labels of a column, those of each copy new ones."""
    codes, levels = factorize(column)
    if not copies.any():
        return column[rows]
    if np.asarray(levels).dtype.kind in "iu":
        step = int(levels.max()) - int(levels.min()) + 1
        numbers: NDArray[np.int64] = np.asarray(levels).astype(np.int64)[codes[rows]]
        return numbers + step * copies
    names = [str(level) for level in levels.tolist()]
    joint = "." if not any("." in name for name in names) else " copy "
    labels = [
        names[c] if copy == 0 else f"{names[c]}{joint}{copy + 1}"
        for c, copy in zip(codes[rows].tolist(), copies.tolist(), strict=True)
    ]
    return np.asarray(pd.array(labels, dtype=object))
