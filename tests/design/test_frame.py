"""Frames of every kind -> the same plain columns, codes and levels."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from interlace.design import frame as frames
from interlace.errors import InterlaceError

COLUMNS: dict[str, list[Any]] = {
    "number": [1.5, None, -2.0, 0.25, 3.0],
    "integer": [3, 1, None, 1, 2],
    "boolean": [True, False, True, None, True],
    "text": ["b", "a", None, "c", "a"],
    "date": [datetime.datetime(2020, 1, d) if d else None for d in (3, 1, 2, 1, 0)],
    "factor": ["z", "x", None, "y", "x"],
}
ORDER = ["z", "y", "x", "w"]


def by_pandas() -> pd.DataFrame:
    return pd.DataFrame(COLUMNS).assign(factor=pd.Categorical(COLUMNS["factor"], ORDER))


def by_arrow() -> pa.Table:
    table = pa.table({k: v for k, v in COLUMNS.items() if k != "factor"})
    codes = pa.array([None if v is None else ORDER.index(v) for v in COLUMNS["factor"]], pa.int8())
    return table.append_column("factor", pa.DictionaryArray.from_arrays(codes, ORDER))


FRAMES: dict[str, Callable[[], Any]] = {
    "pandas": by_pandas,
    "pandas, masked types": lambda: by_pandas().convert_dtypes(),
    "pandas, Arrow types": lambda: by_pandas().convert_dtypes(dtype_backend="pyarrow"),
    "pandas, Arrow dictionary": lambda: by_arrow().to_pandas(types_mapper=pd.ArrowDtype),
    "pandas, objects": lambda: by_pandas().astype(dict.fromkeys(["text", "boolean"], object)),
    "pandas, repeated index": lambda: by_pandas().set_index(np.zeros(5, int)),
    "polars": lambda: pl.DataFrame(COLUMNS, schema_overrides={"factor": pl.Enum(ORDER)}),
    "pyarrow": by_arrow,
    "dict": lambda: {**COLUMNS, "factor": by_pandas()["factor"]},
}


def complete(data: object, name: str) -> frames.Column:
    """One column without its missing rows, made plain."""
    column = frames.pick(frames.open_table(data), [name])[name]
    gaps = frames.missing(column)
    return frames.plain(column if gaps is None else column[~gaps], name)


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("frame", FRAMES)
def test_missing_values_are_found(frame: str, name: str) -> None:
    column = frames.pick(frames.open_table(FRAMES[frame]()), [name])[name]
    assert_array_equal(frames.missing(column), [value is None for value in COLUMNS[name]])


@pytest.mark.parametrize("name", ["number", "integer", "boolean"])
@pytest.mark.parametrize("frame", FRAMES)
def test_numbers_become_numpy(frame: str, name: str) -> None:
    column = complete(FRAMES[frame](), name)
    assert frames.is_numeric(column)
    assert_array_equal(column, [value for value in COLUMNS[name] if value is not None])


@pytest.mark.parametrize(
    ("name", "levels", "codes"),
    [
        ("text", ["a", "b", "c"], [1, 0, 2, 0]),
        ("factor", ["z", "y", "x"], [0, 2, 1, 2]),
        ("boolean", [False, True], [1, 0, 1, 1]),
        ("integer", [1, 2, 3], [2, 0, 0, 1]),
        ("number", [-2.0, 0.25, 1.5, 3.0], [2, 0, 1, 3]),
        ("date", [np.datetime64(f"2020-01-0{d}") for d in (1, 2, 3)], [2, 0, 1, 0]),
    ],
)
@pytest.mark.parametrize("frame", FRAMES)
def test_factorize(frame: str, name: str, levels: list[Any], codes: list[int]) -> None:
    found_codes, found_levels = frames.factorize(complete(FRAMES[frame](), name))
    assert found_codes.dtype == np.intp
    assert_array_equal(found_codes, codes)
    assert_array_equal(found_levels, levels)


@pytest.mark.parametrize("frame", ["pandas, masked types", "polars"])
def test_integer_labels_stay_integers_beside_missing_values(frame: str) -> None:
    _, levels = frames.factorize(complete(FRAMES[frame](), "integer"))
    assert levels.dtype.kind == "i"


def test_polars_categorical_is_ordered_by_its_text() -> None:
    series = pl.Series("f", ["b", None, "a", "b"], dtype=pl.Categorical)
    codes, levels = frames.factorize(complete(pl.DataFrame(series), "f"))
    assert_array_equal(levels, ["a", "b"])
    assert_array_equal(codes, [1, 0, 1])


@pytest.mark.parametrize("frame", ["polars", "pyarrow"])
def test_decimals_are_numbers(frame: str) -> None:
    values = [decimal.Decimal("1.5"), decimal.Decimal("2.25")]
    data = pl.DataFrame({"x": values}) if frame == "polars" else pa.table({"x": values})
    assert_array_equal(complete(data, "x"), [1.5, 2.25])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], np.array([1, 2])),
        ([1, 2.5], np.array([1, 2.5])),
        ([True, False], np.array([True, False])),
        ([decimal.Decimal("0.5")], np.array([0.5])),
    ],
)
def test_numbers_stored_as_objects(values: list[Any], expected: np.ndarray) -> None:
    column = frames.plain(np.array(values, dtype=object), "x")
    assert isinstance(column, np.ndarray)
    assert column.dtype == expected.dtype
    assert_array_equal(column, expected)


def test_nan_and_na_in_one_float_column() -> None:
    column = pd.array([1.0, 2.0, None], dtype="Float64") / pd.array(
        [1.0, 0.0, 1.0], dtype="Float64"
    )
    zero_by_zero = pd.arrays.FloatingArray(np.array([1.0, np.nan, 3.0]), np.array([0, 0, 1], bool))
    assert frames.missing(column[:2]) is None
    assert_array_equal(frames.missing(zero_by_zero), [False, True, True])


def test_infinite_is_not_missing() -> None:
    column = np.array([1.0, np.inf, np.nan])
    assert_array_equal(frames.missing(column), [False, False, True])
    assert frames.first_infinite(column[:2]) == 1
    assert frames.first_infinite(column[:1]) is None


def test_only_used_columns_are_read() -> None:
    data = {"x": [1, 2], "unused": [object(), object()]}
    assert list(frames.pick(frames.open_table(data), ["x"])) == ["x"]


@pytest.mark.parametrize("low", [0, 300, -(10**12)])
@pytest.mark.parametrize("spread", [1, 10**9])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint64])
def test_integers_dense_and_sparse(low: int, spread: int, dtype: type) -> None:
    values = low + spread * np.array([5, 3, 3, 9, 5])
    info = np.iinfo(dtype)
    if values.min() < info.min or values.max() > info.max:
        return
    codes, levels = frames.factorize(values.astype(dtype))
    assert_array_equal(codes, [1, 0, 0, 2, 1])
    assert_array_equal(levels, low + spread * np.array([3, 5, 9]))
    assert levels.dtype == dtype


@given(st.lists(st.integers(-50, 2000), min_size=1) | st.lists(st.text(max_size=3), min_size=1))
def test_factorize_is_what_unique_says(values: list[Any]) -> None:
    codes, levels = frames.factorize(frames.plain(np.array(values, dtype=object), "g"))
    assert list(levels) == sorted(set(values))
    assert [levels[code] for code in codes] == values


RECODED = {
    "same type": ([308, 310], [310, 308, 999], [1, 0, -1]),
    "whole floats": ([308, 310], [310.0, np.nan, 308.0], [1, -1, 0]),
    "text for integers": ([308, 310], ["310", "308", "new"], [1, 0, -1]),
    "integers for text": (["308", "310"], [310, 308, 5], [1, 0, -1]),
    "floats for text": (["308", "310"], [310.0, np.nan, 308.5], [1, -1, -1]),
    "objects": ([308, 310], np.array([310, "new", None], object), [1, -1, -1]),
    "categories": (["a", "b"], pd.Categorical(["b", "c", None, "a"]), [1, -1, -1, 0]),
    "masked": ([1, 2], pd.array([2, None, 1], dtype="Int64"), [1, -1, 0]),
    "all missing": ([1, 2], np.array([None, None], object), [-1, -1]),
    "nothing": ([1, 2], np.array([], float), []),
}


@pytest.mark.parametrize("name", RECODED)
def test_recode(name: str) -> None:
    levels, values, codes = RECODED[name]
    column = frames.as_column(values, "g")
    assert_array_equal(frames.recode(column, np.asarray(pd.Index(levels))), codes)


def with_duplicate() -> pd.DataFrame:
    return pd.DataFrame([[1, 2, 3]], columns=["x", "x", "y"])


ERRORS: dict[str, tuple[Callable[[], Any], list[str], str]] = {
    "unknown": (
        by_pandas,
        ["numbr"],
        "the data has no column 'numbr'; did you mean 'number'?",
    ),
    "unlike any": (
        lambda: {"x": [1], "y": [2]},
        ["temperature"],
        "the data has no column 'temperature'; it has 'x', 'y'",
    ),
    "duplicated": (with_duplicate, ["x"], "the data has 2 columns named 'x': rename all but one"),
    "lazy": (
        lambda: pl.LazyFrame({"x": [1]}),
        [],
        "the data is lazy (LazyFrame): collect it first",
    ),
    "list": (
        lambda: [1, 2],
        [],
        "the data must be a data frame (pandas, Polars, PyArrow or another that narwhals knows) "
        "or a dict of columns, not list",
    ),
    "lengths": (
        lambda: {"x": [1, 2], "y": [1]},
        [],
        "the columns of the data have different lengths: {'x': 2, 'y': 1}",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_unusable_frames(name: str) -> None:
    data, wanted, message = ERRORS[name]
    with pytest.raises(InterlaceError) as caught:
        frames.pick(frames.open_table(data()), wanted)
    assert str(caught.value) == message


def test_a_duplicated_name_that_is_not_used_is_no_matter() -> None:
    assert_array_equal(frames.pick(frames.open_table(with_duplicate()), ["y"])["y"], [3])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [1, "1"],
            "the column 'g' mixes values of the types int and str: convert it to one type, "
            "for instance data['g'].astype(str)",
        ),
        ([[1], [2]], "the column 'g' holds values of the type list, which cannot be compared"),
    ],
)
def test_objects_that_cannot_be_levels(values: list[Any], message: str) -> None:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    with pytest.raises(InterlaceError) as caught:
        frames.plain(column, "g")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (3, "weights must be a column name or an array, not int"),
        (np.ones((2, 1)), "weights must have one dimension, not shape (2, 1)"),
    ],
)
def test_unusable_arrays(values: Any, message: str) -> None:
    with pytest.raises(InterlaceError) as caught:
        frames.as_column(values, "weights")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "values", [[1, 2], (1, 2), np.array([1, 2]), pd.Series([1, 2]), pl.Series([1, 2])]
)
def test_arrays_of_every_kind(values: Any) -> None:
    assert_array_equal(frames.as_column(values, "weights"), [1, 2])


def test_numeric_refuses_text() -> None:
    with pytest.raises(InterlaceError, match="the weights must be numeric, but holds text"):
        frames.numeric(pd.Categorical(["a"]), "the weights")
