"""Expressions are computed in float64, whatever the columns are stored as, and wherever."""

from __future__ import annotations

import functools
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import interlace
from interlace.design.design import Design, assemble
from interlace.design.formula import parse
from interlace.design.numbers import Use, uses
from interlace.errors import InterlaceError

pytestmark = pytest.mark.filterwarnings("ignore::interlace.SingularFitWarning")

N = 240
RNG = np.random.default_rng(7)
# Whole numbers that every type holds, and whose squares and products most small ones do not.
BASE = {
    "x": RNG.integers(1, 120, N).astype(float),
    "z": RNG.integers(1, 100, N).astype(float),
    "f": np.array(["u", "v", "w"])[RNG.integers(0, 3, N)],
    "g": np.repeat(np.arange(12), N // 12),
    "y": RNG.integers(10, 125, N).astype(float),
}
TYPES = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
TYPES += ["float16", "float32"]
FORMULAS = [
    "y ~ x + I(x**2) + (1 | g)",
    "y ~ np.log(x) + (1 | g)",
    "y ~ log(x) + np.sqrt(x + z) + (1 | g)",
    "y ~ x:z:f + (1 | g)",
    "y ~ x*z + f + (1 | g)",
    "y ~ x*z + (1 | g)",
    "y ~ f + {x * 1000 - z} + (1 | g)",
    "y ~ center(x) + scale(z) + poly(x, 2) + (1 | g)",
    "y ~ 1 + (I(x * z / 1000) | g)",
    "y ~ f + (0 + x:f || g)",
    "np.log(y) ~ x + (1 | g)",
    "{y**2 / 100} ~ x + offset(x * z) + (1 | g)",
]
NULLABLE = {"int8": "Int8", "uint8": "UInt8", "int16": "Int16", "float32": "Float32"}
FRAMES: dict[str, Callable[[dict[str, np.ndarray]], object]] = {
    "dict": dict,
    "pandas": pd.DataFrame,
    "nullable": lambda data: pd.DataFrame(
        {k: pd.array(v, dtype=NULLABLE.get(v.dtype.name)) for k, v in data.items()}
    ),
    "arrow types": lambda data: pd.DataFrame(
        {k: pd.array(v, dtype=pd.ArrowDtype(pa.array(v).type)) for k, v in data.items()}
    ),
    "polars": pl.DataFrame,
    "pyarrow": lambda data: pa.table({k: pa.array(v) for k, v in data.items()}),
}


def stored(dtype: str) -> dict[str, np.ndarray]:
    return {k: v.astype(dtype) if k in ("x", "y", "z") else v for k, v in BASE.items()}


@functools.cache
def in_float64(formula: str) -> Design:
    return assemble(parse(formula), BASE)


def same(data: object, formula: str) -> None:
    """The rows of data are those of the same numbers as float64, to the last bit."""
    found, wanted = assemble(parse(formula), data), in_float64(formula)
    assert found.names == wanted.names
    np.testing.assert_array_equal(found.y, wanted.y)
    np.testing.assert_array_equal(found.X, wanted.X)
    for Z, right in zip(found.Z, wanted.Z, strict=True):
        np.testing.assert_array_equal(Z, right)
    if wanted.offset is not None:
        np.testing.assert_array_equal(found.offset, wanted.offset)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("formula", FORMULAS)
def test_every_stored_type_gives_the_numbers_of_float64(formula: str, dtype: str) -> None:
    same(stored(dtype), formula)


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float32"])
def test_every_frame(kind: str, dtype: str) -> None:
    for formula in FORMULAS:
        same(FRAMES[kind](stored(dtype)), formula)


@pytest.mark.parametrize("dtype", ["Int8", "UInt8", "Int16", "Float32"])
def test_nullable_types_with_gaps(dtype: str) -> None:
    frame = pd.DataFrame(BASE)
    gaps = frame["x"].astype(dtype).mask(np.arange(N) % 7 == 0)
    formula = parse("y ~ I(x**2) + x:z:f + (1 | g)")
    found = assemble(formula, frame.assign(x=gaps))
    right = assemble(formula, frame[np.arange(N) % 7 > 0])
    np.testing.assert_array_equal(found.X, right.X)


def test_decimals_are_numbers() -> None:
    exact = np.array([Decimal(int(v)) for v in BASE["x"]], dtype=object)
    same({**BASE, "x": exact}, "y ~ I(x**2) + np.log(x) + x:f + (1 | g)")


@pytest.mark.parametrize("dtype", ["bool", "boolean", object])
def test_booleans_are_0_and_1(dtype: object) -> None:
    a, b = np.arange(N) % 2 == 0, np.arange(N) % 3 == 0
    frame = pd.DataFrame(BASE).assign(a=pd.Series(a, dtype=dtype), b=pd.Series(b, dtype=dtype))
    found = assemble(parse("y ~ I(a + b) + I(a - b) + a:b + a:x:f + (b | g)"), frame)
    columns = dict(zip(found.names, found.X.T, strict=True))
    np.testing.assert_array_equal(columns["I(a + b)"], a * 1.0 + b)
    np.testing.assert_array_equal(columns["I(a - b)"], a * 1.0 - b)
    np.testing.assert_array_equal(columns["a:b"], a * 1.0 * b)
    np.testing.assert_array_equal(found.Z[0][:, 1], b * 1.0)


def test_booleans_combined_by_logic_stay_so() -> None:
    a, b = np.arange(N) % 2 == 0, np.arange(N) % 3 == 0
    data = {**BASE, "a": a, "b": b}
    found = assemble(parse("y ~ I(a & b) + I(~a) + I((x > 50) & ~b) + (1 | g)"), data)
    np.testing.assert_array_equal(found.X[:, 1], a & b)
    np.testing.assert_array_equal(found.X[:, 2], ~a)
    np.testing.assert_array_equal(found.X[:, 3], (BASE["x"] > 50) & ~b)


def test_complex_numbers_are_refused_by_name() -> None:
    for values in (BASE["x"] + 0j, (BASE["x"] + 0j).astype(object), BASE["x"].astype("complex64")):
        for formula in ("y ~ x + (1 | g)", "y ~ np.abs(x) + (1 | g)", "x ~ z + (1 | g)"):
            with pytest.raises(InterlaceError, match="the column 'x' holds complex numbers"):
                assemble(parse(formula), {**BASE, "x": values})


@pytest.mark.parametrize("dtype", TYPES[:8])
def test_labels_of_categories_keep_their_type(dtype: str) -> None:
    year = (BASE["x"] % 3 + 10).astype(dtype)
    found = assemble(parse("y ~ C(year) + I(year**2) + (C(year) | g)"), {**BASE, "year": year})
    assert found.names == ("Intercept", "C(year)[T.11]", "C(year)[T.12]", "I(year ** 2)")
    np.testing.assert_array_equal(found.X[:, 3], (BASE["x"] % 3 + 10) ** 2)
    assert found.terms[0].columns[1:] == ("C(year)[T.11]", "C(year)[T.12]")


def test_categories_computed_from_small_integers_do_not_wrap() -> None:
    code = (BASE["x"] % 3 + 10).astype("int8")
    found = assemble(parse("y ~ C(code * 20) + C(code // 11) + (1 | g)"), {**BASE, "code": code})
    assert found.names[1:3] == ("C(code * 20)[T.220]", "C(code * 20)[T.240]")
    assert found.names[3] == "C(code // 11)[T.1]"
    assert assemble(parse("y ~ code.astype(str) + (1 | g)"), {**BASE, "code": code}).names[1:] == (
        "code.astype(str)[T.11]",
        "code.astype(str)[T.12]",
    )


def test_grouping_columns_keep_their_type() -> None:
    for dtype in ("int8", "uint16", "float32", "bool"):
        g = (BASE["g"] % 2 if dtype == "bool" else BASE["g"]).astype(dtype)
        found = assemble(parse("y ~ I(g * 2) + (1 | g)"), {**BASE, "g": g})
        assert found.terms[0].levels.dtype == g.dtype


@pytest.mark.parametrize("dtype", TYPES)
def test_new_rows_of_any_type(dtype: str) -> None:
    formula = "y ~ I(x**2) + x:z:f + C(z % 3) + (I(x * z / 1000) | g)"
    result = interlace.fit(formula, BASE)
    few = {k: v[:20] for k, v in BASE.items()}
    new = {k: v[:20] for k, v in stored(dtype).items()}
    for options in ({}, {"se": True}, {"interval": "prediction", "include_re": False}):
        found, wanted = result.predict(new, **options), result.predict(few, **options)
        np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))
    again = interlace.fit(formula, stored(dtype))
    assert_allclose(again.predict(new), result.predict(few), rtol=1e-12)
    assert_allclose(again.predict(few), result.predict(few), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float32"])
def test_files(dtype: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(stored(dtype))
    frame.to_parquet(tmp_path / "rows.parquet")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    for formula in ("y ~ x*z + I(x**2) + x:z:f + (1 | g)", "np.log(y) ~ {x * z} + (I(x**2) | g)"):
        wanted = interlace.fit(formula, BASE).criterion
        for name in ("rows.parquet", "rows.csv"):
            found = interlace.fit(formula, str(tmp_path / name)).criterion
            assert found == pytest.approx(wanted, rel=1e-8)


def test_lazy_frames_and_relations(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    formula = "y ~ x*z + I(x**2) + x:z:f + (1 | g)"
    wanted = interlace.fit(formula, BASE).criterion
    small = stored("int8")
    pl.DataFrame(small).write_parquet(tmp_path / "rows.parquet")
    with duckdb.connect() as connection:
        relation = connection.read_parquet(str(tmp_path / "rows.parquet"))
        wide = relation.project("x::HUGEINT AS x, z::DECIMAL(9, 2) AS z, f, g, y")
        for data in (pl.LazyFrame(small), relation, wide):
            assert interlace.fit(formula, data).criterion == pytest.approx(wanted, rel=1e-8)


def test_dask() -> None:
    dask = pytest.importorskip("dask.dataframe")
    formula = "y ~ I(x**2) + x:z:f + (1 | g)"
    frame = dask.from_pandas(pd.DataFrame(stored("int8")), npartitions=2)
    wanted = interlace.fit(formula, BASE).criterion
    assert interlace.fit(formula, frame).criterion == pytest.approx(wanted, rel=1e-8)


NUMBERS = st.recursive(
    st.sampled_from(["x", "z", "3"]),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(" ".join).map("({})".format),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None)
@given(expr=NUMBERS, dtype=st.sampled_from(TYPES))
def test_any_arithmetic(expr: str, dtype: str) -> None:
    if "x" in expr or "z" in expr:
        same(stored(dtype), f"y ~ f + {{{expr}}} + (1 | g)")


@pytest.mark.parametrize(
    ("expr", "name", "use"),
    [
        ("x**2", "x", Use.NUMBERS),
        ("C(x)", "x", Use.LABELS),
        ("C(Q('a b'))", "a b", Use.LABELS),
        ("C(`a b`)", "a b", Use.LABELS),
        ("hashed(x, 4)", "x", Use.LABELS),
        ("C(x // 10)", "x", Use.LABELS_COMPUTED),
        ("C(x) + x", "x", Use.NUMBERS),
        ("I(x & w)", "x", Use.LOGIC),
        ("np.log(x).astype(int)", "x", Use.LABELS_COMPUTED),
        ("x.astype('category')", "x", Use.LABELS),
        ("np.where(x & w, x, 0)", "x", Use.NUMBERS),
    ],
)
def test_what_an_expression_makes_of_a_column(expr: str, name: str, use: Use) -> None:
    assert uses(expr)[name] is use
