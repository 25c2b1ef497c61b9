"""One encoding of grouping values: what means the same level is one, what does not stays apart."""

import datetime as dt
import uuid
import warnings
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import interlace
from interlace import InterlaceError
from interlace.design import frame as frames
from interlace.design import keys
from interlace.design.groups import crossed, group_rows, recode_rows

N, L = 60, 6
G = np.repeat(np.arange(L), N // L)
Y = np.random.default_rng(0).normal(size=L)[G] + np.random.default_rng(1).normal(size=N)
DAYS = [dt.date(2020, 1, 1 + i) for i in range(L)]
UUIDS = [uuid.UUID(int=i * 77_777_777_777) for i in range(L)]
BERLIN = "Europe/Berlin"


def objects(values: Any) -> np.ndarray:
    found = np.empty(len(values), dtype=object)
    found[:] = list(values)
    return found


# Ways to write the same six levels; every one is fitted, and asked for in every other.
SAME: dict[str, dict[str, Any]] = {
    "whole numbers": {
        "int64": np.arange(L),
        "uint64": np.arange(L, dtype=np.uint64),
        "int8": np.arange(L, dtype=np.int8),
        "float64": np.arange(L) * 1.0,
        "float32": np.arange(L, dtype=np.float32),
        "Int64": pd.array(range(L), dtype="Int64"),
        "decimal": objects([Decimal(i) for i in range(L)]),
        "decimal, zeros": objects([Decimal(i).quantize(Decimal("0.000")) for i in range(L)]),
        "objects": objects(range(L)),
        "categories": pd.Categorical(range(L)),
        "categories of floats": pd.Categorical(np.arange(L) * 1.0),
        "arrow decimal": pd.array(
            [Decimal(i) for i in range(L)], dtype=pd.ArrowDtype(pa.decimal128(30, 2))
        ),
        "polars": pl.Series(range(L), dtype=pl.UInt8),
        "polars decimal": pl.Series([Decimal(f"{i}.00") for i in range(L)]),
        "arrow": pa.chunked_array([list(range(L))]),
    },
    "fractions": {
        "float64": np.arange(L) / 10,
        "float32": np.arange(L, dtype=np.float32) / np.float32(10),
        "decimal": objects([Decimal(i) / 10 for i in range(L)]),
        "decimal, zeros": objects([Decimal(f"{i / 10:.5f}") for i in range(L)]),
        "objects": objects([i / 10 for i in range(L)]),
        "objects of float32": objects(list(np.arange(L, dtype=np.float32) / np.float32(10))),
        "polars": pl.Series([Decimal(f"{i / 10:.3f}") for i in range(L)]),
    },
    "large numbers": {
        "int64": np.arange(L) + 2**60,
        "uint64": np.arange(L, dtype=np.uint64) + np.uint64(2**60),
        "objects": objects([2**60 + i for i in range(L)]),
        "decimal": objects([Decimal(2**60 + i).quantize(Decimal("0.0")) for i in range(L)]),
        "polars decimal": pl.Series([Decimal(2**60 + i) for i in range(L)]),
        "arrow decimal": pa.chunked_array([[Decimal(2**60 + i) for i in range(L)]]),
    },
    "larger numbers": {
        "uint64": np.arange(L, dtype=np.uint64) + np.uint64(2**63),
        "spread": (np.arange(L, dtype=np.uint64) + np.uint64(2**63)),
        "objects": objects([2**63 + i for i in range(L)]),
        "decimal": objects([Decimal(2**63 + i) for i in range(L)]),
        "polars": pl.Series([2**63 + i for i in range(L)], dtype=pl.UInt64),
        "categories": pd.Categorical([2**63 + i for i in range(L)]),
    },
    "days": {
        "date": objects(DAYS),
        "datetime": objects([dt.datetime(d.year, d.month, d.day) for d in DAYS]),
        "Timestamp": pd.DatetimeIndex(DAYS),
        "ns": np.array(DAYS, dtype="M8[ns]"),
        "s": np.array(DAYS, dtype="M8[s]"),
        "D": np.array(DAYS, dtype="M8[D]"),
        "h": np.array(DAYS, dtype="M8[h]"),
        "categories": pd.Categorical(pd.DatetimeIndex(DAYS)),
        "polars date": pl.Series(DAYS),
        "polars datetime": pl.Series(DAYS).cast(pl.Datetime("ms")),
        "arrow": pa.chunked_array([DAYS]),
        "arrow in pandas": pd.array(DAYS, dtype=pd.ArrowDtype(pa.date32())),
        "text": objects([str(d) for d in DAYS]),
    },
    "moments": {
        "Berlin": pd.DatetimeIndex(DAYS).tz_localize(BERLIN),
        "UTC": pd.DatetimeIndex(DAYS).tz_localize(BERLIN).tz_convert("UTC"),
        "objects": objects(
            [dt.datetime(2019, 12, 31 + 0, 23, tzinfo=dt.UTC) + dt.timedelta(i) for i in range(L)]
        ),
        "polars": pl.Series(pd.DatetimeIndex(DAYS).tz_localize(BERLIN)),
        "arrow in pandas": pd.Series(pd.DatetimeIndex(DAYS).tz_localize(BERLIN)).astype(
            pd.ArrowDtype(pa.timestamp("us", tz=BERLIN))
        ),
    },
    "days by the clock": {
        "Berlin": pd.DatetimeIndex(DAYS).tz_localize(BERLIN),
        "date": objects(DAYS),
        "ns": np.array(DAYS, dtype="M8[ns]"),
    },
    "months": {
        "M": np.arange(L).astype("M8[M]"),
        "Y": np.arange(L).astype("M8[Y]").astype("M8[M]") - np.arange(L) * 11,
        "date": objects([dt.date(1970, 1 + i, 1) for i in range(L)]),
    },
    "durations": {
        "timedelta": objects([dt.timedelta(hours=i) for i in range(L)]),
        "Timedelta": pd.to_timedelta(range(L), unit="h"),
        "s": (np.arange(L) * 3600).astype("m8[s]"),
    },
    "text": {
        "objects": objects("abcdef"),
        "U": np.array(list("abcdef")),
        "string": pd.array(list("abcdef"), dtype="string"),
        "categories": pd.Categorical(list("abcdef")),
        "polars": pl.Series(list("abcdef")),
        "polars categories": pl.Series(list("abcdef"), dtype=pl.Categorical),
        "arrow": pa.chunked_array([list("abcdef")]),
    },
    "bytes": {
        "objects": objects([b"%d" % i for i in range(L)]),
        "S": np.array([b"%d" % i for i in range(L)]),
        "polars": pl.Series([b"%d" % i for i in range(L)]),
        "arrow": pa.chunked_array([[b"%d" % i for i in range(L)]]),
    },
    "uuids": {
        "UUID": objects(UUIDS),
        "text": objects([str(u) for u in UUIDS]),
        "polars": pl.Series([str(u) for u in UUIDS]),
    },
    "yes and no": {
        "bool": np.arange(L) > 2,
        "int": (np.arange(L) > 2) * 1,
        "float": (np.arange(L) > 2) * 1.0,
        "boolean": pd.array(np.arange(L) > 2, dtype="boolean"),
        "objects": objects([True, False] * 3)[np.argsort([1, 0, 1, 0, 1, 0], kind="stable")],
        "polars": pl.Series(np.arange(L) > 2),
    },
}


def levels_of(values: Any) -> frames.Levels:
    return frames.factorize(frames.plain(frames.as_column(values, "g"), "g"))[1]


def taken(values: Any, rows: np.ndarray) -> Any:
    """Rows of a column of any kind, in a frame or a dict that can be fitted."""
    if isinstance(values, pl.Series):
        return pl.DataFrame({"y": Y[: len(rows)], "g": values[rows.tolist()]})
    if isinstance(values, pa.ChunkedArray):
        return pa.table({"y": Y[: len(rows)], "g": values.take(pa.array(rows))})
    return pd.DataFrame({"y": Y[: len(rows)], "g": pd.Series(values).take(rows).array})


@pytest.mark.parametrize(("kind", "fitted"), [(k, way) for k, ways in SAME.items() for way in ways])
def test_the_same_level_in_another_type(kind: str, fitted: str) -> None:
    levels = levels_of(SAME[kind][fitted])
    assert len(levels) == (2 if kind == "yes and no" else L)
    order = np.arange(L) if len(levels) == L else np.repeat([0, 1], L // 2)
    for asked, values in SAME[kind].items():
        assert_array_equal(frames.recode(frames.as_column(values, "g"), levels), order, asked)


@pytest.mark.parametrize("kind", [k for k in SAME if k != "yes and no"])
def test_fit_and_predict(kind: str) -> None:
    """Whatever the type in fitting and in asking, the predictions are those of the rows."""
    first, done = None, []
    for fitted in SAME[kind].values():
        result = interlace.fit("y ~ 1 + (1 | g)", taken(fitted, G))
        first = result.predict() if first is None else first
        assert_allclose(result.predict(), first, rtol=1e-12)
        asked = list(SAME[kind].values())[len(done) % 3 :: 3]
        for new in (taken(one, G) for one in asked):
            assert_allclose(result.predict(new, new_levels="raise"), first, rtol=1e-12)
        done.append(fitted)


APART = {
    "text and number": (objects(["3", 4]), objects([3, "4"])),
    "bytes and text": ([b"a", b"b"], ["a", "b"]),
    "bytes and their text": ([b"a", b"b"], ["b'a'", "b'b'"]),
    "ids beyond 2^53": ([2**53 + 1, 5], [float(2**53), 6.0]),
    "ids beyond 2^63": (
        np.array([2**63 + 1, 2**63], np.uint64),
        np.array([2**63 + 2, 9], np.uint64),
    ),
    "uint64 that wraps": (np.array([-5, -4]), np.array([2**64 - 5, 2**64 - 4], np.uint64)),
    "a day and an hour later": (DAYS[:2], np.array(DAYS[:2], "M8[h]") + 1),
    "text of another case": (["a", "b"], ["A", "B"]),
    "an instant and a number": (np.array([0, 1], "M8[s]"), [0, 1]),
    "a duration and a number": (np.array([0, 1], "m8[s]"), [0, 1]),
    "another uuid": (UUIDS[:2], [str(u) for u in UUIDS[2:4]]),
    "the clock elsewhere": (
        pd.DatetimeIndex(DAYS[:2]).tz_localize(BERLIN),
        pd.DatetimeIndex(DAYS[:2]).tz_localize("UTC"),
    ),
}


@pytest.mark.parametrize("name", APART)
def test_other_levels_stay_apart(name: str) -> None:
    for one, two in (APART[name], APART[name][::-1]):
        columns = [frames.as_column(values, "g") for values in (one, two)]
        levels = np.asarray(pd.factorize(pd.Index(columns[0]))[1])
        known = frames.recode(columns[1], levels)
        assert_array_equal(known, [-1, -1])


def test_mixed_categories_are_two_levels() -> None:
    mixed = pd.Categorical(objects(["3", 3] * (N // 2)), categories=objects(["3", 3]))
    data = pd.DataFrame({"y": Y + 5 * (np.arange(N) % 2), "g": mixed, "h": G})
    result = interlace.fit("y ~ 1 + (1 | g) + (1 | g:h)", data)
    assert result.ngroups["g"] == 2
    assert_allclose(result.predict(data, new_levels="raise"), result.predict(), rtol=1e-12)
    assert result.random_effects["g:h"].index.is_unique


def test_a_daylight_hour_that_comes_twice_is_not_guessed() -> None:
    twice = pd.date_range("2020-10-25 00:00", periods=3, freq="h", tz="UTC").tz_convert(BERLIN)
    clock = objects([dt.datetime(2020, 10, 25, 2), dt.datetime(2020, 10, 25, 3)])
    assert_array_equal(frames.recode(clock, levels_of(twice)), [-1, 2])


def test_categories_that_mean_the_same_are_refused() -> None:
    both = objects([dt.date(2020, 1, 1), dt.datetime(2020, 1, 1)])
    column = pd.Categorical(objects([*both] * (N // 2)), categories=both)
    with pytest.raises(InterlaceError, match=r"'g' has the categories .* which mean the same"):
        interlace.fit("y ~ 1 + (1 | g)", pd.DataFrame({"y": Y, "g": column}))


def test_what_cannot_be_compared() -> None:
    result = interlace.fit("y ~ 1 + (1 | g)", {"y": Y, "g": G})
    with pytest.raises(InterlaceError, match="values of the type list cannot be compared"):
        result.predict({"g": objects([[1], [2]])})


INTS = st.integers(-(2**63), 2**64 - 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(INTS, min_size=1, unique=True), st.lists(INTS, min_size=1, unique=True))
def test_integers_are_compared_exactly(known: list[int], asked: list[int]) -> None:
    for levels in arrays_of(known):
        for values in arrays_of(asked):
            found = keys.positions(values, levels)
            expected = [known.index(v) if v in known else -1 for v in asked]
            assert_array_equal(found, expected)
            assert [int(v) for v in keys.joined([levels, values])] == [*known, *asked]


def arrays_of(values: list[int]) -> list[np.ndarray]:
    """An array of each type that holds integers exactly."""
    made = [objects(values), objects([Decimal(v) for v in values])]
    for dtype in (np.int8, np.int64, np.uint64, np.float32, np.float64):
        with np.errstate(all="ignore"):
            try:
                array = np.array(values, dtype=dtype)
            except OverflowError:
                continue
        if [int(v) for v in array] == values:
            made.append(array)
    return made


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, 5, elements=st.floats(-1e6, 1e6, width=32), unique=True))
def test_short_floats_are_their_decimals(values: np.ndarray) -> None:
    decimals = [Decimal(str(v)) if not float(v).is_integer() else Decimal(int(v)) for v in values]
    wide = np.array([float(d) for d in decimals])
    for other in (wide, objects(decimals), objects(list(values))):
        assert_array_equal(keys.positions(other, values), range(5))
        assert_array_equal(keys.positions(values, other), range(5))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.datetimes(dt.datetime(1800, 1, 1), dt.datetime(2200, 1, 1)), min_size=1, unique=True
    )
)
def test_instants_of_every_unit(moments: list[dt.datetime]) -> None:
    ways = [objects(moments), np.array(moments, "M8[us]"), np.array(moments, "M8[ns]")]
    ways.append(objects([pd.Timestamp(m) for m in moments]))
    ways.append(objects(list(np.array(moments, "M8[us]"))))
    for levels in ways:
        for values in ways:
            assert_array_equal(keys.positions(values, levels), range(len(moments)))


# Unknown levels -----------------------------------------------------------------------------------


def test_a_warning_when_no_level_is_known() -> None:
    result = interlace.fit("y ~ 1 + (1 | g)", {"y": Y, "g": [f"a{i}" for i in G]})
    with pytest.warns(UserWarning, match="'g' in the new data .* 'x1' there, 'a0' in the fit"):
        result.predict({"g": [None, "x1", "x2"]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result.predict({"g": ["x1", "a2"]})
        result.predict({"g": [None, None]})
        result.predict({"g": ["x1"]}, include_re=False)


def test_a_warning_for_each_column_of_an_interaction() -> None:
    data = {"y": Y, "g": [f"a{i}" for i in G], "h": np.arange(N) % 3}
    result = interlace.fit("y ~ 1 + (1 | g:h)", data)
    with pytest.warns(UserWarning, match="'h' in the new data .* 7 there, 0 in the fit"):
        result.predict({"g": ["a1"], "h": [7]})


NEW: dict[str, tuple[Callable[[], Any], str]] = {
    "dict": (lambda: {"g": ["a1", "zz", "a2", "zz"]}, "'zz' in row 1, 3 (2 rows)"),
    "index": (
        lambda: pd.DataFrame({"g": ["a1", "zz"]}, index=["first", "second"]),
        "'zz' in row 'second' (1 rows)",
    ),
    "missing": (lambda: {"g": ["a1", None, "q"]}, "a missing value in row 1; 'q' in row 2"),
}


@pytest.mark.parametrize("name", NEW)
def test_new_levels_can_be_refused(name: str) -> None:
    result = interlace.fit("y ~ 1 + (1 | g)", {"y": Y, "g": [f"a{i}" for i in G]})
    data, message = NEW[name]
    assert len(result.predict(data())) == len(data()["g"])
    with pytest.raises(InterlaceError) as error:
        result.predict(data(), new_levels="raise")
    assert message in str(error.value)
    assert_array_equal(
        result.predict(data(), False, new_levels="raise"), result.predict(data(), False)
    )
    with pytest.raises(InterlaceError, match="new_levels must be 'zero' or 'raise', not 'drop'"):
        result.predict(data(), new_levels="drop")


def test_a_new_combination_is_refused() -> None:
    data = {"y": Y, "g": [f"a{i}" for i in G], "h": np.arange(N) % 3}
    result = interlace.fit("y ~ 1 + (1 | g:h)", {k: np.array(v)[3:] for k, v in data.items()})
    few = {k: np.array(v)[(G > 0) | (np.arange(N) % 3 > 0)] for k, v in data.items()}
    result = interlace.fit("y ~ 1 + (1 | g:h)", few)
    with pytest.raises(InterlaceError, match=r"'g:h' has levels in the new data .*'a0':0 in row 0"):
        result.predict({"g": ["a0", "a1"], "h": [0, 0]}, new_levels="raise")


# Interactions -------------------------------------------------------------------------------------


def test_more_cells_than_64_bits_can_number() -> None:
    rng = np.random.default_rng(3)
    names = tuple("abcdefghi")
    columns = {name: rng.integers(0, 400, 1000).astype(str) for name in names}
    columns |= {name: np.concatenate([v[:500], v[:500]]) for name, v in columns.items()}
    group, codes = group_rows(names, columns)
    assert float(np.prod([len(v) for v in group.levels], dtype=float)) > 2.0**63
    assert len(group.cells) == 500
    labels = [":".join(row) for row in zip(*columns.values(), strict=True)]
    assert_array_equal(group.labels[codes], labels)
    assert list(group.labels) == sorted(set(labels), key=lambda label: label.split(":"))
    assert_array_equal(recode_rows(group, columns), codes)
    other = {**columns, "i": np.roll(columns["i"], 1)}
    assert_array_equal(recode_rows(group, other) == codes, other["i"] == columns["i"])


def test_a_model_of_many_grouping_columns() -> None:
    rng = np.random.default_rng(4)
    data = {n: np.tile(rng.integers(0, 2**40, 300), 3) for n in "abcdefgh"}
    u = np.tile(rng.normal(size=300), 3)
    frame = pd.DataFrame(data | {"y": u + 0.3 * rng.normal(size=900)})
    formula = "y ~ 1 + (1 | a:b:c:d:e:f:g:h)"
    result = interlace.fit(formula, frame)
    assert_allclose(result.criterion, interlace.fit("y ~ 1 + (1 | a)", frame).criterion)
    assert_allclose(result.predict(frame, new_levels="raise"), result.fittedvalues)
    parts = [interlace.cross_products(formula, frame[i::3]) for i in range(3)]
    both = parts[0] + parts[1] + parts[2]
    assert_allclose(interlace.fit(formula, both).criterion, result.criterion)
    assert_allclose(
        interlace.fit(formula, pl.LazyFrame(frame)).criterion, result.criterion, rtol=1e-9
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*3 * [st.sampled_from([":", "a", "a:b", "b", "'", "b:'"])]), min_size=1))
def test_labels_are_as_many_as_levels(rows: list[tuple[str, str, str]]) -> None:
    columns = {
        n: frames.plain(objects(c), n) for n, c in zip("abc", zip(*rows, strict=True), strict=True)
    }
    group, codes = group_rows(("a", "b", "c"), columns)
    assert len(set(group.labels.tolist())) == len(set(rows))
    known = {}
    for row, label in zip(rows, group.labels[codes], strict=True):
        assert known.setdefault(row, label) == label


def test_labels_without_a_clash_are_as_written() -> None:
    levels = [np.array(["x:y", "z"], object), np.array([1, 2])]
    group, _ = crossed(("a", "b"), levels, [np.array([0, 1]), np.array([0, 1])])
    assert list(group.labels) == ["x:y:1", "z:2"]


# Parts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [k for k in SAME if k not in ("yes and no", "moments")])
def test_sums_of_parts_in_different_types(kind: str) -> None:
    formula = "y ~ 1 + (1 | g)"
    ways = {k: v for k, v in SAME[kind].items() if k not in ("text", "polars", "Berlin")}
    ways = SAME[kind] if kind == "text" else ways
    first, *others = ways.values()
    whole = interlace.fit(formula, taken(first, G))
    half = np.arange(N) < N // 2
    for other in others:
        both = taken_part(first, half) + taken_part(other, ~half)
        fit = interlace.fit(formula, both)
        assert fit.ngroups == whole.ngroups
        assert_allclose(fit.criterion, whole.criterion)


def taken_part(values: Any, rows: np.ndarray) -> Any:
    data = taken(values, G)
    data = (
        data[rows]
        if isinstance(data, pd.DataFrame)
        else data.filter(pa.array(rows))
        if isinstance(data, pa.Table)
        else data.filter(pl.Series(rows))
    )
    return interlace.cross_products("y ~ 1 + (1 | g)", data)


def test_files_with_ids_of_different_types(tmp_path: Any) -> None:
    ids = 2**60 + G
    halves = [slice(0, N, 2), slice(1, N, 2)]
    types = [np.int64, np.uint64]
    for i, (rows, dtype) in enumerate(zip(halves, types, strict=True)):
        part = pd.DataFrame({"y": Y[rows], "g": ids[rows].astype(dtype)})
        part.to_parquet(tmp_path / f"{i}.parquet")
    result = interlace.fit("y ~ 1 + (1 | g)", tmp_path / "*.parquet")
    whole = interlace.fit("y ~ 1 + (1 | g)", {"y": Y, "g": ids})
    assert_allclose(result.criterion, whole.criterion)
    assert sorted(int(v) for v in result.random_effects["g"].index) == sorted(set(ids.tolist()))
    assert_allclose(result.predict({"g": ids}, new_levels="raise"), whole.predict(), rtol=1e-8)


def test_decimals_of_files(tmp_path: Any) -> None:
    values = [Decimal(10**19 + int(i)) for i in G]
    table = pa.table({"y": Y, "g": pa.array(values, pa.decimal128(30, 2))})
    pa.parquet.write_table(table, tmp_path / "d.parquet")
    result = interlace.fit("y ~ 1 + (1 | g)", tmp_path / "d.parquet")
    assert result.ngroups == {"g": L}
    whole = interlace.fit("y ~ 1 + (1 | g)", table)
    assert_allclose(result.predict({"g": values}, new_levels="raise"), whole.predict(), rtol=1e-8)
