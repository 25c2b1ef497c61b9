"""Columns of a source as one frame, for models that need the rows of a subject together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain

import numpy as np
import pandas as pd

from interlace.design import frame
from interlace.design.frame import Column
from interlace.errors import InterlaceError
from interlace.machine.memory import memory_limit
from interlace.machine.progress import counter
from interlace.sources.source import Chunk, Source

# Bytes of a value, and how often what is made of it is held: columns, their codes, the matrix.
_BYTES, _TIMES = 8, 4

Part = tuple[dict[str, Column], ...]


def gathered(
    source: Source, columns: Sequence[str], *, progress: bool | None = None
) -> pd.DataFrame:
    """The columns of all rows, read in one pass, each part let go of once they are taken.

    Raises
    ------
    InterlaceError
        The source has no rows, or the columns would not fit in memory.
    """
    if source.check is not None:
        source.check(columns)
    _refuse_large(source, len(columns))
    with counter(source.n, progress, what="columns", unit="rows") as advance:
        parts: Part | None = source.engine.run(
            source, tuple(columns), partial(_taken, tuple(columns)), _side_by_side, advance
        )
    if not parts:
        raise InterlaceError(f"{source.title} has no rows")
    return pd.DataFrame(
        {name: _joined(source, name, [part[name] for part in parts]) for name in columns}
    )


def _refuse_large(source: Source, columns: int) -> None:
    need, room = _BYTES * _TIMES * columns * (source.n or 0), memory_limit()
    if need > room:
        raise InterlaceError(
            f"residual= needs the rows of a subject together: the {columns} columns that the model "
            f"reads of {source.n:,} rows would take {need / 2**30:.1f} GiB and {room / 2**30:.1f} "
            "are free; fit a part of the subjects, or leave columns out"
        )


def _taken(columns: Sequence[str], batch: Chunk) -> Part | None:
    """The columns of a batch."""
    return (frame.pick(batch.table, columns),) if batch.table.n else None


def _side_by_side(parts: Iterable[Part]) -> Part | None:
    """Parts in their order."""
    return tuple(chain.from_iterable(parts)) or None


def _joined(source: Source, name: str, parts: Sequence[Column]) -> pd.Series:
    """One column of all parts; categories in their declared order."""
    found = [part for part in parts if isinstance(part, pd.Categorical)]
    if len(found) < len(parts):
        return pd.concat([_plain(part) for part in parts], ignore_index=True)
    whole = pd.api.types.union_categoricals(found, ignore_order=True)
    declared = source.declared.get(name)
    if declared is not None and set(whole.categories) <= set(declared.tolist()):
        whole = whole.set_categories(declared)
    if all(p.ordered and p.categories.equals(found[0].categories) for p in found):
        whole = whole.as_ordered()
    return pd.Series(whole)


def _plain(part: Column) -> pd.Series:
    """A part of a column that is not categories in all parts."""
    return pd.Series(np.asarray(part) if isinstance(part, pd.Categorical) else part)
