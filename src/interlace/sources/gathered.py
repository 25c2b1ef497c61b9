"""Columns of a source as one frame, for models that need their rows at every step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial, reduce
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from interlace.design import frame
from interlace.design.frame import Column, Levels
from interlace.errors import InterlaceError
from interlace.machine.memory import memory_limit
from interlace.machine.progress import counter
from interlace.sources.plan import in_order
from interlace.sources.scan import declared_order, join_orders
from interlace.sources.source import Chunk, Source

# Bytes of a value, and how often what is made of it is held: columns, their codes, the matrix.
_BYTES, _TIMES = 8, 4

Part = tuple[dict[str, Column], ...]


def gathered(
    source: Source, columns: Sequence[str], *, why: str, progress: bool | None = None
) -> pd.DataFrame:
    """The columns of all rows, read in one pass, each part let go of once they are taken.

    Text is held as codes and its categories; ``why`` says in messages what the rows are for.

    Raises
    ------
    InterlaceError
        The source has no rows, or the columns would not fit in memory.
    """
    if source.check is not None:
        source.check(columns)
    _refuse_large(source, len(columns), why)
    with counter(source.n, progress, what="columns", unit="rows") as advance:
        parts: Part | None = source.engine.run(
            source, tuple(columns), partial(_taken, tuple(columns)), _side_by_side, advance
        )
    if not parts:
        raise InterlaceError(f"{source.title} has no rows")
    return pd.DataFrame(
        {name: _joined(source, name, [part[name] for part in parts]) for name in columns}
    )


def _refuse_large(source: Source, columns: int, why: str) -> None:
    need, room = _BYTES * _TIMES * columns * (source.n or 0), memory_limit()
    if need > room:
        raise InterlaceError(
            f"{why}: the {columns} columns that the model "
            f"reads of {source.n:,} rows would take {need / 2**30:.1f} GiB and {room / 2**30:.1f} "
            "are free; fit a part of the rows, or leave columns out"
        )


def _taken(columns: Sequence[str], batch: Chunk) -> Part | None:
    """The columns of a batch."""
    return (frame.pick(batch.table, columns),) if batch.table.n else None


def _side_by_side(parts: Iterable[Part]) -> Part | None:
    """Parts in their order."""
    return tuple(chain.from_iterable(parts)) or None


def _joined(source: Source, name: str, parts: Sequence[Column]) -> pd.Series:
    """One column of all parts; categories in their declared order, text sorted."""
    found = [part for part in parts if isinstance(part, pd.Categorical)]
    if len(found) < len(parts):
        return pd.concat([_plain(part) for part in parts], ignore_index=True)
    whole = pd.api.types.union_categoricals(found, ignore_order=True)
    whole = whole.set_categories(
        in_order(np.asarray(whole.categories), _order(source, name, found))
    )
    if all(p.ordered and p.categories.equals(found[0].categories) for p in found):
        whole = whole.as_ordered()
    return pd.Series(whole)


def _order(source: Source, name: str, parts: Sequence[pd.Categorical[Any]]) -> Levels | None:
    """The order in which categories are declared, by the source or by their parts."""
    if name in source.declared:
        return source.declared[name]
    orders = [order for part in parts if (order := declared_order(part)) is not None]
    return reduce(join_orders, orders) if orders else None


def _plain(part: Column) -> pd.Series:
    """A part of a column that is not categories in all parts."""
    return pd.Series(np.asarray(part) if isinstance(part, pd.Categorical) else part)
