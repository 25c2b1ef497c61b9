"""Rows read part by part give the fit of all rows in memory, whatever they are read from."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import interlace
from alike import assert_same, in_memory
from dense import FORMULAS, MODELS, frame
from fits import of_case
from interlace.design.design import Design
from interlace.errors import InterlaceError, RankDeficiencyWarning
from interlace.sources import Source, passes, plan
from interlace.sources.frames import of_frames
from interlace.sums import parts
from reference import cases

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")


def cut(data: pd.DataFrame, pieces: int = 3) -> list[pd.DataFrame]:
    """Rows in parts of unequal sizes, each with an index of its own."""
    ends = [round(len(data) * (i / pieces) ** 1.5) for i in range(pieces + 1)]
    return [data.iloc[a:b] for a, b in pairwise(ends)]


def in_parts(data: pd.DataFrame, pieces: int = 3) -> Source:
    return of_frames(cut(data, pieces))


# ------------------------------------------------------------------ every kind of source


def parquet_files(data: pd.DataFrame, folder: Path) -> str:
    for i, part in enumerate(cut(data)):
        part.to_parquet(folder / f"part{i}.parquet", index=False)
    return str(folder / "*.parquet")


def csv_files(data: pd.DataFrame, folder: Path) -> list[Path]:
    for i, part in enumerate(cut(data)):
        part.to_csv(folder / f"part{i}.csv", index=False)
    return sorted(folder.glob("*.csv"))


def dataset(data: pd.DataFrame, folder: Path) -> pa.dataset.Dataset:
    parquet_files(data, folder)
    return pa.dataset.dataset(folder, format="parquet")


SOURCES: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    "parts of pandas": lambda data, _: in_parts(data),
    "parts of Polars": lambda data, _: of_frames([pl.from_pandas(part) for part in cut(data)]),
    "lazy Polars": lambda data, _: pl.from_pandas(data).lazy(),
    "lazy Parquet": lambda data, folder: pl.scan_parquet(parquet_files(data, folder)),
    "Arrow table": lambda data, _: pa.Table.from_pandas(data, preserve_index=False),
    "Arrow dataset": dataset,
    "Parquet": parquet_files,
    "DuckDB": lambda data, _: duckdb.connect().from_df(data),
    "cross-products": lambda data, _: None,
}


@functools.cache
def fitted(name: str, spelled: str = "pandas") -> interlace.CrossedLMEResult:
    if spelled == "pandas":
        return of_case(name)
    case = cases.load_case(name)
    return interlace.fit(case.formula, as_csv(case.data), **case.arguments)


def as_csv(data: pd.DataFrame) -> pd.DataFrame:
    """What is left of the types of a frame in a CSV file."""
    from io import StringIO

    return pd.read_csv(StringIO(data.to_csv(index=False)))


def assert_equal_fits(a: interlace.CrossedLMEResult, b: interlace.CrossedLMEResult) -> None:
    assert_allclose(a.theta, b.theta, rtol=0, atol=1e-6)
    assert a.criterion == pytest.approx(b.criterion, abs=1e-7)
    assert_allclose(a.scale, b.scale, rtol=1e-6)
    assert (a.nobs, a.ngroups, a.n_dropped) == (b.nobs, b.ngroups, b.n_dropped)


QUICK = ("parts of pandas", "Parquet")  # for the largest case, which takes a second with each
GOLDEN = [
    pytest.param(
        name, kind, marks=[pytest.mark.slow] if name == "insteval" and kind not in QUICK else []
    )
    for name in cases.case_names()
    for kind in SOURCES
]


@pytest.mark.parametrize(("name", "kind"), GOLDEN)
def test_golden_cases(name: str, kind: str, tmp_path: Path) -> None:
    case = cases.load_case(name)
    source = SOURCES[kind](case.data, tmp_path)
    if source is None:
        source = interlace.cross_products(case.formula, case.data, **case.arguments)
        result = interlace.fit(case.formula, source)
    else:
        result = interlace.fit(case.formula, source, **case.arguments)
    assert_equal_fits(result, fitted(name))
    # Text has no declared order, so another level of a factor may be the first.
    if list(result.fe_params.index) == list(fitted(name).fe_params.index):
        assert_allclose(result.fe_params, fitted(name).fe_params, rtol=1e-6)
        assert_allclose(result.fe_bse, fitted(name).fe_bse, rtol=1e-5)


@pytest.mark.parametrize("name", cases.case_names())
def test_golden_cases_from_csv(name: str, tmp_path: Path) -> None:
    case = cases.load_case(name)
    result = interlace.fit(case.formula, csv_files(case.data, tmp_path), **case.arguments)
    expected = fitted(name, "csv")
    assert_equal_fits(result, expected)
    assert_allclose(result.fe_params, expected.fe_params, rtol=1e-6)
    for term, other in zip(result.estimate.A.terms, expected.estimate.A.terms, strict=True):
        assert term.levels.tolist() == other.levels.tolist()


@pytest.mark.parametrize(("name", "weighted"), MODELS)
def test_sums_are_those_of_all_rows(name: str, weighted: bool) -> None:
    formula = FORMULAS[name]
    arguments = {"weights": "w", "offset": "o"} if weighted else {}
    found = interlace.cross_products(formula, in_parts(frame(), 4), **arguments)
    assert_same(found, in_memory(formula, frame(), **arguments))
    assert_allclose(found.vv / found.n, np.eye(found.p + 1), rtol=0, atol=1e-10)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 90), max_size=6))
def test_wherever_the_rows_are_cut(ends: list[int]) -> None:
    data = frame()
    edges = [0, *sorted(min(end, len(data)) for end in ends), len(data)]
    source = of_frames([data.iloc[a:b] for a, b in pairwise(edges)])
    formula = "y ~ x * f + (x | g) + (1 | h)"
    assert_same(interlace.cross_products(formula, source), in_memory(formula, data))


# ------------------------------------------------------------------ levels


def test_levels_come_in_declared_order() -> None:
    data = frame().assign(f=lambda d: pd.Categorical(d["f"], ["f2", "unused", "f0", "f1"]))
    data = data.sort_values("f", ascending=False)
    formula = "y ~ f + x + (1 | g) + (0 + f | h)"
    found = interlace.cross_products(formula, in_parts(data, 5))
    assert found.names == ("Intercept", "f[T.f0]", "f[T.f1]", "x")
    assert_same(found, in_memory(formula, data))


def test_an_enum_of_polars_keeps_its_order() -> None:
    data = pl.from_pandas(frame()).with_columns(pl.col("f").cast(pl.Enum(["f2", "f0", "f1"])))
    data = data.sort("f", descending=True)
    source = interlace.sources.open_source(data.lazy())
    assert source is not None
    pieces = of_frames([data[:20], data[20:50], data[50:]])
    found = interlace.cross_products("y ~ f + (1 | g)", replace(pieces, declared=source.declared))
    assert found.names == ("Intercept", "f[T.f0]", "f[T.f1]")
    lazy = interlace.cross_products("y ~ f + (1 | g)", data.lazy())
    assert_same(found, lazy)


def test_combinations_of_three_columns() -> None:
    data = frame().assign(k=lambda d: np.arange(len(d)) % 4, j=lambda d: np.arange(len(d)) % 3)
    formula = "y ~ x + (1 | g/h/k) + (1 | j)"
    found = interlace.cross_products(formula, in_parts(data, 6))
    assert_same(found, in_memory(formula, data))


def test_numbers_as_levels_of_either_width() -> None:
    data = frame().assign(k=lambda d: (np.arange(len(d)) * 7919 % 13) * 10**9)
    narrow = [
        part.assign(k=part["k"].astype("int64" if i else "uint64"))
        for i, part in enumerate(cut(data))
    ]
    found = interlace.cross_products("y ~ x + (1 | k)", of_frames(narrow))
    assert_same(found, in_memory("y ~ x + (1 | k)", data))


@pytest.mark.parametrize("expr", ["C(k)", "C(k, contr.sum)", "C(x > 0)", "C(f, contr.helmert)"])
def test_categories_of_expressions(expr: str) -> None:
    data = frame().assign(k=lambda d: np.arange(len(d)) // 12).sort_values("x")
    formula = f"y ~ {expr} + z + (1 | g)"
    found = interlace.cross_products(formula, in_parts(data, 5))
    assert_same(found, in_memory(formula, data))


# ------------------------------------------------------------------ missing values


def with_gaps() -> pd.DataFrame:
    data = frame().copy()
    data.loc[data.index[:8], "y"] = np.nan
    data.loc[data.index[30], "g"] = None
    data.loc[data.index[-1], "x"] = np.nan
    return data


def test_rows_with_missing_values_are_left_out_and_counted() -> None:
    data = with_gaps()
    source = of_frames([data[:8], data[8:9], data[9:50], data[50:]])  # the first has no row left
    formula = "y ~ x + (1 | g)"
    found = interlace.cross_products(formula, source)
    assert_same(found, in_memory(formula, data))
    result = interlace.fit(formula, source)
    assert result.n_dropped == 10
    assert result.nobs == len(data) - 10


def test_levels_that_only_incomplete_rows_have_do_not_count() -> None:
    data = frame().copy()
    data.loc[data["f"] == "f1", "y"] = np.nan
    found = interlace.cross_products("y ~ f + (1 | g)", in_parts(data))
    assert found.names == ("Intercept", "f[T.f2]")


def test_missing_values_are_refused_on_request() -> None:
    with pytest.raises(InterlaceError) as caught:
        interlace.cross_products("y ~ x + (1 | g)", in_parts(with_gaps()), missing="raise")
    assert str(caught.value) == (
        "values are missing in the column 'y' (8 rows), the column 'x' (1 rows), the column 'g' "
        "(1 rows); missing='drop' leaves these rows out"
    )


def test_no_complete_row() -> None:
    data = frame().assign(y=np.nan)
    with pytest.raises(InterlaceError, match=r"none of the \d+ rows is complete: values are mis"):
        interlace.cross_products("y ~ x + (1 | g)", in_parts(data))


def test_no_row() -> None:
    with pytest.raises(InterlaceError, match=r"^the data has no rows$"):
        interlace.cross_products("y ~ x + (1 | g)", of_frames([frame()[:0]]))


def test_arrow_integers_with_gaps() -> None:
    data = frame().assign(k=lambda d: np.arange(len(d)) % 5)
    holes = data["k"].astype("Int64").mask(np.arange(len(data)) % 7 == 0)
    table = pa.Table.from_pandas(data.assign(k=holes), preserve_index=False)
    found = interlace.cross_products("y ~ k + (1 | g)", pa.dataset.dataset(table))
    assert_same(found, in_memory("y ~ k + (1 | g)", data.assign(k=holes)))


# ------------------------------------------------------------------ digits


FORMULA = "y ~ x + z + (x | g) + (1 | h)"


def test_a_large_constant_costs_no_digits() -> None:
    plain = interlace.fit(FORMULA, frame())
    shifted = frame().assign(y=lambda d: d["y"] + 1e8, x=lambda d: d["x"] + 1e6)
    result = interlace.fit(FORMULA, in_parts(shifted))
    assert result.scale == pytest.approx(plain.scale, rel=1e-6)
    assert result.fe_params["x"] == pytest.approx(plain.fe_params["x"], rel=1e-6)


def passes_made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the passes, filled as they are made."""
    made: list[str] = []
    run = passes.run_pass

    def noted(*arguments: object) -> object:
        made.append(str(arguments[-1]))
        return run(*arguments)

    monkeypatch.setattr(passes, "run_pass", noted)
    return made


def test_two_passes_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    made = passes_made(monkeypatch)
    interlace.cross_products(FORMULA, in_parts(frame()))
    assert made == ["levels", "cross-products"]


@pytest.mark.parametrize("far", [1e5, 1e9])
def test_means_that_were_far_off_are_corrected(far: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the rows of the sample happen to say nothing of the others."""

    def off(sample: Design) -> parts.Charts:
        charts = parts.charts_of(sample)
        centre = charts.fixed.center + far * np.array([0.0, 1.0, -1.0, 0.1])
        return replace(charts, fixed=replace(charts.fixed, center=centre))

    monkeypatch.setattr(plan, "charts_of", off)
    made = passes_made(monkeypatch)
    found = interlace.cross_products(FORMULA, in_parts(frame()))
    assert "more digits" in made
    digits = max(1e-10, 1e-15 * far)  # those that are left of a column less its centre
    assert found.names == ("Intercept", "x", "z")
    assert_allclose(found.vv / found.n, np.eye(4), rtol=0, atol=digits)
    one = interlace.fit(FORMULA, found)
    assert_allclose(one.fe_params, interlace.fit(FORMULA, frame()).fe_params, rtol=1e3 * digits)


def test_nearly_dependent_columns_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    data = frame().assign(near=lambda d: d["x"] + 1e-5 * d["z"])
    made = passes_made(monkeypatch)
    found = interlace.cross_products("y ~ x + near + (1 | g)", in_parts(data))
    assert made == ["levels", "cross-products", "more digits", "cross-products"]
    assert found.names == ("Intercept", "x", "near")
    assert_allclose(found.vv / found.n, np.eye(4), rtol=0, atol=1e-10)
    one, two = (interlace.fit("y ~ x + near + (1 | g)", d) for d in (in_parts(data), data))
    assert_allclose(one.fe_params, two.fe_params, rtol=1e-5)
    assert_allclose(one.theta, two.theta, rtol=0, atol=1e-6)


def test_redundant_columns_are_dropped_and_named() -> None:
    data = frame().assign(
        twice=lambda d: 2 * d["x"] - 3, near=lambda d: d["x"] + 1e-5 * d["z"], one=7.0
    )
    # x and near leave nothing to z; nothing tells `one` from the intercept.
    formula = "y ~ x + twice + near + z + one + (1 | g)"
    with pytest.warns(RankDeficiencyWarning, match=r"dropped: twice, z, one$"):
        result = interlace.fit(formula, in_parts(data))
    expected = in_memory(formula, data)
    assert result.estimate.A.dropped == expected.dropped == ("twice", "z", "one")
    assert result.predict(data[:3]).shape == (3,)


def test_dependent_columns_left_of_a_bar() -> None:
    data = frame().assign(twice=lambda d: 2 * d["x"] - 3, near=lambda d: d["x"] + 1e-5 * d["z"])
    for formula in ("y ~ x + (x + twice | g)", "y ~ x + (x + near | g)", "y ~ x + (0 + x | g)"):
        found, expected = (
            interlace.cross_products(formula, in_parts(data)),
            in_memory(formula, data),
        )
        assert_allclose(found.basis.root_mean_squares[0], expected.basis.root_mean_squares[0])
        assert_same(found, expected)


def test_a_response_without_variance_is_refused() -> None:
    exact = frame().assign(y=lambda d: 2 + 3 * d["x"])
    with pytest.raises(InterlaceError, match=r"^the fixed effects reproduce the response exactly"):
        interlace.cross_products("y ~ x + (1 | g)", in_parts(exact))
    with pytest.raises(InterlaceError, match=r"^the response 'y' is constant \(4\): nothing vari"):
        interlace.cross_products("y ~ x + (1 | g)", in_parts(frame().assign(y=4.0)))


def test_a_nearly_exact_response_keeps_its_digits() -> None:
    data = frame().assign(y=lambda d: 2 + 3 * d["x"] + 1e-7 * d["y"])
    one, two = (interlace.fit("y ~ x + (1 | g)", d) for d in (in_parts(data), data))
    assert one.scale == pytest.approx(two.scale, rel=1e-6)


def test_models_that_the_rows_cannot_tell_are_refused() -> None:
    data = frame().assign(row=lambda d: np.arange(len(d)))
    with pytest.raises(InterlaceError, match=r"^the grouping factor 'row' has as many levels"):
        interlace.fit("y ~ x + (1 | row)", in_parts(data))
    part = interlace.cross_products("y ~ x + (1 | row)", in_parts(data))  # others may follow
    with pytest.raises(InterlaceError, match=r"^the grouping factor 'row' has as many levels"):
        interlace.fit("y ~ x + (1 | row)", part)
    few = pd.concat([frame()[:4]] * 1)
    with pytest.raises(InterlaceError, match=r"coefficients for 4 rows: leave out predictors$"):
        interlace.cross_products("y ~ C(x) + z + (1 | g)", of_frames([few[:2], few[2:]]))


# ------------------------------------------------------------------ transforms


@pytest.mark.parametrize(
    "expr",
    [
        "center(x)",
        "scale(x)",
        "scale(x, ddof=0)",
        "scale(x, False)",
        "scale(x, center=2.5)",
        "standardize(x)",
        "standardize(x, rescale=False)",
        "np.exp(scale(x) / 3)",
        "center(x):f",
        "I(x**2) + np.log(z**2 + 1)",
        "Q('x')",
        "hashed(f, levels=3)",
    ],
)
@pytest.mark.filterwarnings("ignore::interlace.errors.RankDeficiencyWarning")  # hashes collide
def test_transforms_that_are_got_right(expr: str) -> None:
    data = with_gaps().assign(x=lambda d: 100 + 10 * d["x"]).sort_values("x")
    formula = f"y ~ {expr} + (1 | g)"
    source = in_parts(data, 5)
    found = interlace.cross_products(formula, source)
    assert_same(found, in_memory(formula, data))
    one, two = interlace.fit(formula, source), interlace.fit(formula, data)
    assert_allclose(one.predict(data[:20]), two.predict(data[:20]), rtol=1e-7)


@pytest.mark.parametrize(
    ("expr", "call"),
    [
        ("poly(x, 2)", "poly(x, 2)"),
        ("bs(x, df=4)", "bs(x, df=4)"),
        ("cr(x, df=3)", "cr(x, df=3)"),
        ("np.exp(poly(x, 2))", "poly(x, 2)"),
        ("lag(x)", "lag(x)"),
    ],
)
def test_transforms_that_need_all_rows_are_refused(expr: str, call: str) -> None:
    with pytest.raises(InterlaceError) as caught:
        interlace.cross_products(f"y ~ {expr} + (1 | g)", in_parts(frame()))
    assert str(caught.value) == (
        f"'{call}' needs all rows at once, which data read part by part does not give: compute "
        "its columns beforehand, or pass the rows as a frame in memory"
    )


@pytest.mark.parametrize("expr", ["center(np.log(x))", "scale(x, ddof=n)", "center(x + z)"])
def test_only_columns_are_standardised(expr: str) -> None:
    data = frame().assign(n=2)
    with pytest.raises(InterlaceError) as caught:
        interlace.cross_products(f"y ~ {expr} + (1 | g)", in_parts(data))
    assert str(caught.value) == (
        f"'{expr}' standardises more than a plain column, which data read part by part does not "
        "give: compute its columns beforehand, or pass the rows as a frame in memory"
    )


@pytest.mark.parametrize(
    "expr", ["I(x - x.mean())", "np.cumsum(x)", "I(x / np.max(x))", "x.rank()"]
)
def test_expressions_of_several_rows_are_refused(expr: str) -> None:
    with pytest.raises(InterlaceError) as caught:
        interlace.cross_products(f"y ~ {expr} + (1 | g)", in_parts(frame()))
    assert str(caught.value) == (
        f"'{expr}' depends on more than its own row, so it cannot be computed part by part: "
        "compute it as a column beforehand, or pass the rows as a frame in memory"
    )


def test_transforms_in_memory_stay_what_they_were() -> None:
    found = interlace.cross_products("y ~ poly(x, 2) + (1 | g)", frame())
    assert_same(found, in_memory("y ~ poly(x, 2) + (1 | g)", frame()))
