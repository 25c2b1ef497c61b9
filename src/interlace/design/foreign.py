"""Columns of Polars, PyArrow and other frames, and frames like them: only here is narwhals met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray

from interlace.errors import InterlaceError

Column: TypeAlias = NDArray[np.generic] | ExtensionArray
Mask: TypeAlias = NDArray[np.bool_]
# What the caller owns is of any type; it goes no further than this module and design.frame.
Foreign: TypeAlias = Any
ForeignFrame: TypeAlias = "nw.DataFrame[Any]"
ForeignSeries: TypeAlias = "nw.Series[Any]"


def opened(data: Foreign, title: str) -> ForeignFrame:
    """What narwhals takes, opened.

    Raises
    ------
    InterlaceError
        It takes no such thing, or it is lazy.
    """
    try:
        frame = nw.from_native(data, pass_through=False)
    except TypeError as error:
        raise InterlaceError(
            f"{title} must be a data frame (pandas, Polars, PyArrow or another that narwhals "
            f"knows) or a dict of columns, not {type(data).__name__}"
        ) from error
    if isinstance(frame, nw.LazyFrame):
        raise InterlaceError(f"{title} is lazy ({type(data).__name__}): collect it first")
    eager: ForeignFrame = frame
    return eager


def series_of(values: Foreign, name: str) -> ForeignSeries:
    """Values given beside a frame, as a series.

    Raises
    ------
    InterlaceError
        They are none.
    """
    try:
        series: ForeignSeries = nw.from_native(values, series_only=True)
    except TypeError as error:
        raise InterlaceError(
            f"{name} must be a column name or an array, not {type(values).__name__}"
        ) from error
    return series


def column_of(series: ForeignSeries) -> Column:
    """Column of Polars, PyArrow and others; nulls in integers and booleans keep the type."""
    dtype = series.dtype
    if isinstance(dtype, nw.Categorical | nw.Enum):
        return _narwhals_categorical(series)
    if dtype == nw.String:
        texts = _narwhals_categorical(series.cast(nw.Categorical))
        return texts.reorder_categories(texts.categories.sort_values())
    nulls = series.is_null().to_numpy()
    if dtype.is_integer() and nulls.any():
        return pd.arrays.IntegerArray(series.fill_null(0).to_numpy().copy(), nulls.copy())
    if dtype == nw.Boolean and nulls.any():
        values = series.fill_null(False).to_numpy().astype(bool)
        return pd.arrays.BooleanArray(values, nulls.copy())
    if isinstance(dtype, nw.Datetime) and dtype.time_zone is not None:
        return zoned(series.to_numpy(), dtype.time_zone)
    if dtype.is_decimal():
        return _decimals(series)
    return series.to_numpy()


def zoned(instants: NDArray[np.generic], zone: str) -> Column:
    """Instants in UTC with the time zone in which they are shown."""
    shown: Column = pd.DatetimeIndex(instants).tz_localize("UTC").tz_convert(zone).array
    return shown


def _decimals(series: ForeignSeries) -> Column:
    """Decimals as floats, or as they are where floats could not tell them apart."""
    floats = series.cast(nw.Float64).to_numpy()
    sizes = np.abs(floats[np.isfinite(floats)])
    scale = getattr(series.dtype, "scale", None)  # narwhals before 2.17 does not know it
    exact = scale is not None and (sizes * 10.0**scale < 1e15).all()
    return floats if exact else np.array(series.to_list(), dtype=object)


def _narwhals_categorical(series: ForeignSeries) -> pd.Categorical[Any]:
    if series.implementation.is_polars():
        return _polars_categorical(series)
    arrow = series.implementation.is_pyarrow()  # whose own conversion keeps the dictionary
    return pd.Categorical(series.to_native().to_pandas() if arrow else series.to_pandas())


def _polars_categorical(series: ForeignSeries) -> pd.Categorical[Any]:
    """Polars orders a Categorical by its text and an Enum as declared; so does this."""
    distinct = series.unique().drop_nulls()
    texts = np.array(distinct.to_list(), dtype=object)
    physical = distinct.to_native().to_physical().to_numpy()
    order = np.argsort(physical if isinstance(series.dtype, nw.Enum) else texts)
    codes = np.full(int(physical.max(initial=0)) + 2, -1)  # the last entry serves nulls
    codes[physical[order]] = np.arange(len(order))
    rows = series.to_native().to_physical().fill_null(len(codes) - 1).to_numpy()
    return pd.Categorical.from_codes(codes[rows], categories=pd.Index(texts[order]))


def extended(
    data: Foreign,
    names: Sequence[str] | None,
    rows: Mask | None,
    columns: Mapping[str, NDArray[np.float64]],
) -> Foreign:
    """A frame of the caller's type with more columns, from some of its columns and rows.

    Parameters
    ----------
    data
        What :func:`open_table` takes; a dict of columns comes back as a pandas frame.
    names, rows
        Columns and rows to keep; ``None`` for all.
    columns
        The new columns, a value for each row kept; they replace old ones of the same name.
    """
    if isinstance(data, Mapping):
        data = pd.DataFrame(dict(data))
    if isinstance(data, pd.DataFrame):
        part = data if names is None else data[list(names)]
        return (part if rows is None else part[np.asarray(rows)]).assign(**columns)
    frame = nw.from_native(data, eager_only=True)
    frame = frame if names is None else frame.select(list(names))
    frame = frame if rows is None else frame.filter(np.asarray(rows).tolist())
    backend = frame.implementation
    return frame.with_columns(
        *(nw.new_series(name, np.array(v), backend=backend) for name, v in columns.items())
    ).to_native()
