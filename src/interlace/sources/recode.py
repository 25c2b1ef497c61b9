"""Positions of values among known levels, for one batch after another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interlace.design import frame, keys
from interlace.design.encode import Columns
from interlace.design.frame import Codes, Column, Levels
from interlace.design.groups import Grouping, paired
from interlace.errors import InterlaceError


@dataclass(frozen=True, eq=False)
class Lookup:
    """Positions in ``levels``, whose table is made once and kept; -1 for what is not there."""

    levels: Levels

    @cached_property
    def _range(self) -> tuple[int, NDArray[np.int32]] | None:
        """Smallest level, and the position of every integer from there on, if these are few."""
        if self.levels.dtype.kind not in "iu" or not len(self.levels):
            return None
        low, high = int(self.levels.min()), int(self.levels.max())
        if high - low >= 8 * len(self.levels) + 1024 or high >= 2**63:
            return None
        table = np.full(high - low + 1, -1, dtype=np.int32)
        table[self.levels.astype(np.int64) - low] = np.arange(len(self.levels), dtype=np.int32)
        return low, table

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.levels)

    def __getstate__(self) -> dict[str, object]:
        """The levels alone: tables are made where they are used."""
        return {"levels": self.levels}

    def __call__(self, column: Column) -> Codes:
        """Positions of the values of a plain column."""
        if isinstance(column, pd.Categorical):
            places = keys.positions(np.asarray(column.categories), self.levels)
            return np.asarray(places[column.codes], dtype=np.intp)
        integers = isinstance(column, np.ndarray) and column.dtype.kind in "iu"
        if self._range is not None and integers and column.dtype != np.uint64:
            low, table = self._range
            at = np.asarray(column, dtype=np.int64) - low
            if at.min(initial=0) >= 0 and at.max(initial=0) < len(table):
                return table[at].astype(np.intp)
        if column.dtype == self.levels.dtype and column.dtype.kind != "O":
            return np.asarray(self._index.get_indexer(pd.Index(column)), dtype=np.intp)
        codes, values = frame.factorize(column)
        return keys.positions(values, self.levels)[codes]


@dataclass(frozen=True, eq=False)
class Recoder:
    """Positions of rows in the levels of a grouping factor."""

    group: Grouping
    lookups: tuple[Lookup, ...]
    steps: tuple[Lookup, ...]

    @classmethod
    def of(cls, group: Grouping) -> Recoder:
        """The recoder of a factor."""
        return cls(group, tuple(map(Lookup, group.levels)), tuple(map(Lookup, group.steps)))

    def __call__(self, columns: Columns) -> Codes:
        """Positions ``(m,)`` of the rows of plain columns.

        Raises
        ------
        InterlaceError
            A value was not there in the first pass.
        """
        pairs = zip(self.group.columns, self.lookups, strict=True)
        found, *others = [lookup(columns[name]) for name, lookup in pairs]
        for step, part, levels in zip(self.steps, others, self.group.levels[1:], strict=True):
            found = step(paired(found, part, len(levels)))
        if found.min(initial=0) < 0:
            raise InterlaceError(changed(f"a level of '{':'.join(self.group.columns)}' is new"))
        return found


def changed(what: str) -> str:
    """The message for data that is not the same in every pass."""
    return (
        f"the data changed while it was read ({what} in a later pass): every pass must give the "
        "same rows; if a query draws them at random, write its result to a file first"
    )
