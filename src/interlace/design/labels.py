"""Labels of rows: what messages and tables call a row, and values brought into the rows' order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interlace.errors import InterlaceError


def shown(values: Any, at: int) -> str:
    """A value of an array or an index as messages write it."""
    value = pd.Index(values[at : at + 1])[0]
    return repr(value.item() if isinstance(value, np.generic) else value)


def are_positions(index: pd.Index | None) -> bool:
    """Whether rows are called by their positions."""
    if index is None or (isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1):
        return True
    return bool(index.equals(pd.RangeIndex(len(index))))


def row_name(index: pd.Index | None, at: int, title: str = "", first: int = 0) -> str:
    """What messages call a row: its label, or its position where there is no other.

    ``first`` is the number of the first row, where the data comes in parts.
    """
    whose = f" of {title}" if title else ""
    if index is None or are_positions(index):
        return f"row {first + at}{whose} (counted from 0)"
    return f"row {shown(index, at)}{whose} (a label of its index)"


def labels_of(index: pd.Index | None, kept: NDArray[np.bool_]) -> pd.Index:
    """Labels of the rows kept."""
    if index is None:
        index = pd.RangeIndex(len(kept))
    return index if kept.all() else index[np.asarray(kept)]


def as_series(values: Any) -> pd.Series | None:
    """Values that carry an index of rows; ``None`` for those that do not."""
    if isinstance(values, pd.Series):
        return values
    own = getattr(values, "index", None)
    if own is None or callable(own) or isinstance(values, pd.DataFrame):
        return None
    return pd.Series(np.asarray(values), index=pd.Index(np.asarray(own)))


def aligned(values: pd.Series, name: str, index: pd.Index | None, title: str) -> pd.Series:
    """Values in the order of the rows of data with an index.

    Raises
    ------
    InterlaceError
        A label is missing or comes twice, or only the values have labels.
    """
    by_position = f"pass {name}.to_numpy() to take the values in the order of the rows"
    own = values.index
    if index is None:
        if are_positions(own):
            return values
        raise InterlaceError(f"{name} has an index, but {title} has none: {by_position}")
    if own.equals(index):
        return values
    for what, labels in ((f"the index of {name}", own), (f"the index of {title}", index)):
        if labels.has_duplicates:
            twice = shown(labels[labels.duplicated()], 0)
            raise InterlaceError(
                f"{name} cannot be aligned with {title}: {what} has the label {twice} more than "
                f"once; {by_position}"
            )
    places = own.get_indexer(index)
    if (lost := np.flatnonzero(places < 0)).size:
        raise InterlaceError(
            f"{name} has no value for row {shown(index, int(lost[0]))} of {title} "
            f"({len(lost)} of {len(index)} labels of its index are not among those of {name}); "
            f"{by_position}"
        )
    return values.iloc[places]
