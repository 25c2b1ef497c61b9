"""Plain columns of the rows used, and what these must not hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from interlace.design import frame
from interlace.design.encode import Columns, Encoded, Floats, first_nonfinite
from interlace.design.frame import Mask, Table
from interlace.design.labels import row_name
from interlace.errors import InterlaceError

# What may be done with rows that have a missing value.
Missing = Literal["drop", "raise"]
MISSING: tuple[Missing, ...] = get_args(Missing)


@dataclass(frozen=True, eq=False)
class CompleteRows:
    """Plain columns of the rows used, and which rows of the data they are.

    ``first`` is the number of the first row, where the data comes in parts; ``index`` has the
    labels of all rows, where the data has such.
    """

    columns: Columns
    kept: Mask
    n: int
    first: int = 0
    index: pd.Index | None = None

    def name(self, row: int, title: str) -> str:
        """What messages call a row of the columns."""
        return row_name(self.index, int(np.flatnonzero(self.kept)[row]), title, self.first)


def complete_rows(
    stored: Columns, table: Table, *, refuse: bool = False, first: int = 0
) -> CompleteRows:
    """The rows without a missing value, as plain columns without an infinite one."""
    masks = [mask for column in stored.values() if (mask := frame.missing(column)) is not None]
    if not masks:
        kept = np.broadcast_to(np.True_, table.n)
        columns = {name: frame.plain(column, name) for name, column in stored.items()}
    elif refuse:
        raise InterlaceError(f"{missing_counts(stored)}; missing='drop' leaves these rows out")
    else:
        kept = ~np.logical_or.reduce(masks)
        columns = {name: frame.plain(column[kept], name) for name, column in stored.items()}
    rows = CompleteRows(columns, kept, int(np.count_nonzero(kept)), first, table.index)
    for name, column in rows.columns.items():
        if (row := frame.first_infinite(column)) is not None:
            raise InterlaceError(
                f"{_title(name)} is infinite in {rows.name(row, table.title)}: "
                "make it missing or correct it"
            )
    return rows


def missing_counts(stored: Columns) -> str:
    """Where values are missing in columns, and in how many rows, in words."""
    masks = {name: frame.missing(column) for name, column in stored.items()}
    return missing_text({name: int(m.sum()) for name, m in masks.items() if m is not None})


def missing_text(counts: Mapping[str, int]) -> str:
    """Numbers of rows with a missing value, by column, in words."""
    parts = [f"{_title(name)} ({count} rows)" for name, count in counts.items()]
    return f"values are missing in {', '.join(parts)}"


def _title(name: str) -> str:
    return f"the argument {name[:-1]}" if name.endswith("=") else f"the column '{name}'"


def refuse_nonfinite(
    encoded: Iterable[Encoded], rows: CompleteRows, title: str = "the data"
) -> None:
    """Refuse sides with an entry that is not finite."""
    for one in encoded:
        if (found := first_nonfinite(one)) is not None:
            name, row, value = found
            raise InterlaceError(
                f"'{name}' is {value} in {rows.name(row, title)}: "
                "change the expression, or make the row's value missing to leave it out"
            )


def spread(matrix: Floats, rows: CompleteRows) -> Floats:
    """Matrix of the complete rows with NaN for the others."""
    if len(rows.kept) == rows.n:
        return matrix
    full_size = np.full((len(rows.kept), matrix.shape[1]), np.nan, order="F")
    full_size[rows.kept] = matrix
    return full_size
