"""Frames in, plain columns out.

A column is a numpy array or a pandas extension array, without an index.  ``plain`` reduces the many
ways to store one to three kinds: numpy numbers, ``pandas.Categorical`` (text included), dates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeAlias, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray

from interlace.design import keys
from interlace.design.foreign import Column as Column
from interlace.design.foreign import Foreign as Foreign
from interlace.design.foreign import Mask as Mask
from interlace.design.foreign import column_of, opened, series_of, zoned
from interlace.design.labels import aligned, as_series
from interlace.errors import InterlaceError

Codes: TypeAlias = NDArray[np.integer]
Levels: TypeAlias = NDArray[np.generic]


@dataclass(frozen=True)
class Table:
    """The caller's frame, opened: its column names, its number of rows, and how to read a column.

    Parameters
    ----------
    names
        Column names in the order of the frame.
    n
        Number of rows.
    read
        Name -> column; call it through :func:`pick`, which checks the name.
    title
        What messages call the frame.
    index
        Labels of the rows, where the frame has such.
    """

    names: tuple[str, ...]
    n: int
    read: Callable[[str], Column]
    title: str = "the data"
    index: pd.Index | None = None


def open_table(data: Foreign, *, title: str = "the data") -> Table:
    """Open a pandas, Polars or PyArrow table, a dict of columns, or what narwhals takes.

    Raises
    ------
    InterlaceError
        ``data`` is none of these, is lazy, or is a dict with columns of different lengths.
    """
    if isinstance(data, pd.DataFrame):
        read = partial(_pandas_column, data)
        return Table(tuple(data.columns), len(data), read, title, data.index)
    if isinstance(data, Mapping):
        return _open_mapping(data, title)
    frame = opened(data, title)
    return Table(tuple(frame.columns), len(frame), lambda name: column_of(frame[name]), title)


def pick(table: Table, names: Iterable[str]) -> dict[str, Column]:
    """Columns of a table by name, each as stored.

    Raises
    ------
    InterlaceError
        A name is not a column (the nearest is suggested), or is the name of several.
    """
    present = Counter(table.names)
    for name in (wanted := list(dict.fromkeys(names))):
        if name not in present:
            raise InterlaceError(f"{table.title} has no column '{name}'{hint(name, table.names)}")
        if present[name] > 1:
            raise InterlaceError(
                f"{table.title} has {present[name]} columns named '{name}': rename all but one"
            )
    return {name: table.read(name) for name in wanted}


def as_column(values: Foreign, name: str) -> Column:
    """Values given as an array, a list or a series, by position."""
    if isinstance(values, np.ndarray | ExtensionArray):
        column: Column = values
    elif isinstance(values, pd.Series | pd.Index):
        column = _stored(values)
    elif isinstance(values, Sequence) and not isinstance(values, str):
        column = _of_one_type(values)
    else:
        column = column_of(series_of(values, name))
    if column.ndim != 1:
        raise InterlaceError(f"{name} must have one dimension, not shape {column.shape}")
    return column


def _of_one_type(values: Sequence[Foreign]) -> Column:
    """A list as pandas would store it; of floats, or of text, without its search for a type."""
    types = set(map(type, values)) if isinstance(values, list | tuple) else set()
    if types == {float} or types == {str}:
        return np.array(values, dtype=np.float64 if types == {float} else object)
    return _stored(pd.Series(values))


def hint(name: str, names: Sequence[object]) -> str:
    """The nearest name, or all of them if they are few."""
    texts = [str(n) for n in names]
    near = get_close_matches(name, texts, n=1, cutoff=0.6) or [
        text for text in texts if text.lower() == name.lower()
    ]
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; it has {', '.join(repr(t) for t in texts)}" if 0 < len(texts) <= 12 else ""


# Missing and infinite values ----------------------------------------------------------------------


def missing(column: Column) -> Mask | None:
    """Where a column is ``None``, NaN, NaT or ``pd.NA``: a mask, or ``None`` for nowhere."""
    if isinstance(column, pd.Categorical):
        mask = np.asarray(column.codes < 0)
    elif not isinstance(column, np.ndarray):
        mask = np.asarray(column.isna())
        if column.dtype.kind == "f":  # a Float64 or an Arrow column can hold NaN beside NA
            mask = mask | np.isnan(column.to_numpy(dtype=np.float64, na_value=np.nan))
    elif column.dtype.kind in "iub" or (
        column.dtype.kind == "f" and np.isfinite(cast("NDArray[np.float64]", column)).all()
    ):
        return None
    else:
        mask = np.asarray(pd.isna(column))
    return mask if mask.any() else None


def first_infinite(column: Column) -> int | None:
    """Row of the first infinite value of a plain column, ``None`` without one."""
    if not isinstance(column, np.ndarray) or column.dtype.kind != "f":
        return None
    finite = np.isfinite(cast("NDArray[np.float64]", column))
    return None if finite.all() else int(np.argmin(finite))


# Plain columns ------------------------------------------------------------------------------------


def plain(column: Column, name: str) -> Column:
    """Column without missing values, as numpy numbers, a ``Categorical`` in use, or dates.

    Text becomes a ``Categorical`` with sorted categories; categories that do not occur are dropped;
    numbers and booleans in extension types or objects become numpy's.

    Raises
    ------
    InterlaceError
        Values of different types in one column, such as ``1`` and ``"1"``.
    """
    if not isinstance(column, np.ndarray | pd.Categorical):
        column = _without_extension(column)
    if isinstance(column, pd.Categorical):
        return _with_distinct_categories(_used_categories(column), name)
    if isinstance(column, np.ndarray) and column.dtype.kind in "OUST":
        column = _from_objects(column, name)
    if column.dtype.kind == "c":
        raise InterlaceError(
            f"the column '{name}' holds complex numbers, which a model cannot: take their real "
            "part or their absolute value"
        )
    return column


def is_numeric(column: Column) -> bool:
    """Whether a plain column holds numbers or booleans."""
    return isinstance(column, np.ndarray) and column.dtype.kind in "fiub"


def kind(column: Column) -> str:
    """What a plain column holds, in words."""
    if isinstance(column, pd.Categorical):
        return "text or categories"
    return "numbers" if is_numeric(column) else f"{column.dtype} values"


def numeric(column: Column, name: str) -> NDArray[np.float64]:
    """Plain column as floats.

    Raises
    ------
    InterlaceError
        The column holds text, categories or dates.
    """
    if is_numeric(column):
        return np.asarray(column, dtype=np.float64)
    raise InterlaceError(f"{name} must be numeric, but holds {kind(column)}")


def factorize(column: Column) -> tuple[Codes, Levels]:
    """Codes and levels of a plain column: categories in their order, all else sorted.

    Returns
    -------
    codes
        ``(n,)`` positions in ``levels``.
    levels
        ``(l,)`` distinct values, of the type they have in Python.
    """
    if isinstance(column, pd.Categorical):
        return coded(_used_categories(column))
    if isinstance(column, np.ndarray) and column.dtype.kind in "iub" and len(column):
        low, high = int(column.min()), int(column.max())
        if high - low < 4 * len(column) + 1024:
            return _factorize_range(cast("NDArray[np.integer]", column), low, high)
    codes, levels = pd.factorize(pd.Index(column), sort=True)
    return codes.astype(np.intp, copy=False), np.asarray(levels)


def coded(column: Column) -> tuple[Codes, Levels]:
    """:func:`factorize` for a column of which all categories are known to occur."""
    if isinstance(column, pd.Categorical):
        return column.codes.astype(np.intp), np.asarray(column.categories)
    return factorize(column)


def recode(column: Column, levels: Levels | keys.Known) -> Codes:
    """Codes of a column on known levels, ``-1`` where a value is missing or is none of them.

    Values are compared by what they mean (:mod:`interlace.design.keys`), or by their text where one
    side is text and the other not (``"308"`` is ``308``).

    Raises
    ------
    InterlaceError
        Values that cannot be compared, such as lists.
    """
    known = levels if isinstance(levels, keys.Known) else keys.Known(levels)
    codes = np.full(len(column), -1, dtype=np.intp)
    gaps = missing(column)
    rows = slice(None) if gaps is None else ~gaps
    found = column[rows]
    if not (isinstance(found, pd.Categorical | np.ndarray) or _is_text(found)):
        found = _without_extension(found)
    if len(found):
        try:
            part, values = _distinct(found)
            codes[rows] = known.positions(values)[part]
        except TypeError as error:
            held = type(found[0]).__name__
            raise InterlaceError(
                f"values of the type {held} cannot be compared with levels such as "
                f"{known.levels.tolist()[0]!r}"
            ) from error
    return codes


def _distinct(column: Column) -> tuple[Codes, Levels]:
    """As ``factorize``, in any order, and for objects of mixed types too."""
    if len(column) == 1:
        return np.zeros(1, dtype=np.intp), _held(column)
    if isinstance(column, np.ndarray) and column.dtype.kind in "OUST":
        column = column.astype(object)
    elif not _is_text(column):
        return factorize(column)
    codes, values = pd.factorize(cast("NDArray[np.generic]", column))
    return codes.astype(np.intp, copy=False), _held(values)


def _held(column: Column) -> Levels:
    """Values of a column in an array; text as objects."""
    if isinstance(column, pd.Categorical):
        return np.asarray(column.categories[column.codes])
    text = _is_text(column) or column.dtype.kind in "UST"
    return np.asarray(column, dtype=object if text else None)


def _is_text(column: Column) -> bool:
    """Whether a column is an extension array of text."""
    arrow = ("string[pyarrow]", "large_string[pyarrow]")
    return isinstance(column.dtype, pd.StringDtype) or (
        not isinstance(column, np.ndarray) and str(column.dtype) in arrow
    )


def _factorize_range(
    column: NDArray[np.integer] | NDArray[np.bool_], low: int, high: int
) -> tuple[Codes, Levels]:
    """Integers in a short range: a table of those present replaces hashing and sorting."""
    wide = np.uint64 if high >= 2**63 else np.int64
    shifted = column.astype(wide)
    if low:
        shifted -= wide(low)
    at = shifted.astype(np.intp, copy=False)
    present = np.zeros(high - low + 1, dtype=bool)
    present[at] = True
    values = (np.flatnonzero(present).astype(wide) + wide(low)).astype(column.dtype)
    if present.all():
        return at, values
    return (np.cumsum(present) - 1)[at], values


def _used_categories(column: pd.Categorical[Any]) -> pd.Categorical[Any]:
    codes = column.codes
    counts = np.bincount(codes + 1, minlength=len(column.categories) + 1)  # the first: missing
    used = counts[1:] > 0
    if used.all():
        return column
    renumbered = np.append(np.cumsum(used) - 1, -1)  # the last entry serves the code -1
    return pd.Categorical.from_codes(
        renumbered[codes], categories=column.categories[used], ordered=column.ordered
    )


def _with_distinct_categories(column: pd.Categorical[Any], name: str) -> pd.Categorical[Any]:
    """Refuse categories such as a date and the midnight it begins with, which mean one level."""
    if isinstance(column.categories.dtype, pd.StringDtype):
        return column  # texts that differ mean different levels
    if (pair := keys.repeated(np.asarray(column.categories))) is not None:
        raise InterlaceError(
            f"the column '{name}' has the categories {pair[0]!r} and {pair[1]!r}, which mean the "
            "same: give them one type"
        )
    return column


def _without_extension(column: ExtensionArray) -> Column:
    """Numpy values of an extension array without missing values; text as a ``Categorical``."""
    dtype = column.dtype
    if _is_text(column):
        return pd.Categorical(column)
    if isinstance(dtype, pd.ArrowDtype) and str(dtype).startswith("dictionary"):
        return pd.Categorical(cast(Foreign, column).__arrow_array__().to_pandas())
    target = getattr(dtype, "numpy_dtype", None)
    if target is None and dtype.kind in "fiub":
        target = getattr(dtype, "subtype", None)
    if target is None:
        return column
    zone = getattr(getattr(dtype, "pyarrow_dtype", None), "tz", None)
    values = column.to_numpy(dtype=target)
    return values if zone is None else zoned(values, zone)


def _from_objects(column: NDArray[np.generic], name: str) -> Column:
    held = "string" if column.dtype.kind != "O" else pd.api.types.infer_dtype(column, skipna=False)
    if held in ("floating", "boolean", "complex"):
        return np.array(column.tolist())
    if held in ("integer", "mixed-integer-float", "decimal"):
        return keys.numbers_of(column)
    if held.startswith("mixed"):
        _refuse_mixed(column, name)
    try:
        return pd.Categorical(column)
    except TypeError as error:
        held = type(column[0]).__name__
        raise InterlaceError(
            f"the column '{name}' holds values of the type {held}, which cannot be compared"
        ) from error


def _refuse_mixed(column: NDArray[np.generic], name: str) -> None:
    types = sorted({type(value).__name__ for value in column})
    if len(types) > 1:
        raise InterlaceError(
            f"the column '{name}' mixes values of the types {' and '.join(types)}: "
            f"convert it to one type, for instance data['{name}'].astype(str)"
        )


# Reading ------------------------------------------------------------------------------------------


def _pandas_column(data: pd.DataFrame, name: str) -> Column:
    return _stored(data[name])


def _stored(series: pd.Series[Any] | pd.Index) -> Column:
    return series.to_numpy() if isinstance(series.dtype, np.dtype) else series.array


def _open_mapping(data: Mapping[str, Foreign], title: str) -> Table:
    series = {name: found for name, v in data.items() if (found := as_series(v)) is not None}
    index = next((one.index for one in series.values()), None)
    if not all(one.index.equals(index) for one in series.values()):
        data = {**data, **_in_one_order(data, series, title)}
    columns = {
        name: as_column(np.atleast_1d(v) if np.isscalar(v) else v, name) for name, v in data.items()
    }
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InterlaceError(f"the columns of {title} have different lengths: {lengths}")
    n = next(iter(lengths.values()), 0)
    return Table(tuple(columns), n, columns.__getitem__, title, index)


def _in_one_order(
    data: Mapping[str, Foreign], series: Mapping[str, pd.Series[Any]], title: str
) -> dict[str, Foreign]:
    """Series of a dict in the order of the first one."""
    first, *others = series
    for name in data:
        if name not in series and not np.isscalar(data[name]):
            raise InterlaceError(
                f"'{first}' and '{others[0]}' of {title} have different indexes, and '{name}' has "
                "none: make a data frame of the columns, or pass all of them as arrays"
            )
    index = series[first].index
    return {name: aligned(series[name], f"'{name}'", index, f"'{first}'") for name in others}
