"""Positions of values among known levels, for one batch after another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interlace.design.encode import Columns, Grouping
from interlace.design.frame import Codes, Column, Levels
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
        if high - low >= 8 * len(self.levels) + 1024:
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
            places = self._index.get_indexer(pd.Index(np.asarray(column.categories)))
            return np.asarray(places[column.codes], dtype=np.intp)
        if self._range is not None and isinstance(column, np.ndarray) and column.dtype.kind in "iu":
            low, table = self._range
            at = column.astype(np.int64) - low
            if at.min(initial=0) >= 0 and at.max(initial=0) < len(table):
                return table[at].astype(np.intp)
        return np.asarray(self._index.get_indexer(pd.Index(column)), dtype=np.intp)


@dataclass(frozen=True, eq=False)
class Recoder:
    """Positions of rows in the levels of a grouping factor."""

    group: Grouping
    lookups: tuple[Lookup, ...]

    @classmethod
    def of(cls, group: Grouping) -> Recoder:
        """The recoder of a factor."""
        lookups = tuple(Lookup(levels) for levels in group.levels)
        cells = (Lookup(group.cells),) if len(lookups) > 1 else ()
        return cls(group, lookups + cells)

    def __call__(self, columns: Columns) -> Codes:
        """Positions ``(m,)`` of the rows of plain columns.

        Raises
        ------
        InterlaceError
            A value was not there in the first pass.
        """
        parts = zip(self.group.columns, self.lookups, strict=False)
        codes = [lookup(columns[name]) for name, lookup in parts]
        numbers = codes[0]
        for part, levels in zip(codes[1:], self.group.levels[1:], strict=True):
            numbers = np.where((numbers < 0) | (part < 0), -1, numbers * len(levels) + part)
        found = numbers if len(codes) == 1 else self.lookups[-1](numbers)
        if found.min(initial=0) < 0:
            raise InterlaceError(changed(f"a level of '{':'.join(self.group.columns)}' is new"))
        return found


def changed(what: str) -> str:
    """The message for data that is not the same in every pass."""
    return (
        f"the data changed while it was read ({what} in a later pass): every pass must give the "
        "same rows; if a query draws them at random, write its result to a file first"
    )
