"""Formula + frame -> rows; new rows encoded as the fitted ones."""

from __future__ import annotations

import dataclasses
import pickle
import sys
from collections.abc import Callable
from typing import Any

import formulaic
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from interlace.design.design import Design, Encoding, assemble
from interlace.design.formula import parse
from interlace.design.newdata import replay
from interlace.errors import InterlaceError

N = 48


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "y": rng.normal(size=N),
            "x": rng.normal(size=N),
            "t": rng.uniform(1, 5, N),
            "w": rng.uniform(0.5, 2, N),
            "k": np.tile([0, 1, 2], N // 3),
            "b": np.tile([True, False], N // 2),
            "f": np.tile(["low", "mid", "high"], N // 3),
            "g": np.repeat(np.arange(300, 308), N // 8),
            "h": np.tile(["h1", "h2", "h3", "h4"], N // 4),
            "o": pd.Categorical(np.tile(["z", "y"], N // 2), ["z", "y", "never"]),
        }
    )


def build(formula: str, data: Any = None, **arguments: Any) -> Design:
    return assemble(parse(formula), frame() if data is None else data, **arguments)


def replay_fixed(encoding: Encoding, new: Any, offset: Any = None) -> tuple[Any, Any]:
    rows = replay(encoding, new, offset=offset, levels=[False] * len(encoding.groups))
    return rows.X, rows.offset


def replay_random(encoding: Encoding, new: Any) -> list[tuple[Any, Any]]:
    rows = replay(encoding, new)
    return list(zip(rows.codes, rows.Z, strict=True))


def assert_same(a: Design, b: Design) -> None:
    assert a.names == b.names
    for first, second in [(a.y, b.y), (a.X, b.X), (a.kept, b.kept)]:
        assert_array_equal(first, second)
    for i, (term, other) in enumerate(zip(a.terms, b.terms, strict=True)):
        assert (term.group, term.columns) == (other.group, other.columns)
        assert_array_equal(term.levels, other.levels)
        assert_array_equal(term.free, other.free)
        assert_array_equal(a.codes[i], b.codes[i])
        assert_array_equal(a.Z[i], b.Z[i])


# ------------------------------------------------------------ rows and columns


def test_parts_of_a_design() -> None:
    data = frame()
    design = build("y ~ x + (x | g)", data, weights="w", offset="t")
    assert design.names == ("Intercept", "x")
    assert_array_equal(design.y, data["y"])
    assert_array_equal(design.X, np.column_stack([np.ones(N), data["x"]]))
    assert_array_equal(design.Z[0], design.X)
    assert_array_equal(design.weights, data["w"])
    assert_array_equal(design.offset, data["t"])
    assert_array_equal(design.terms[0].levels[design.codes[0]], data["g"])
    assert design.terms[0].levels.dtype.kind == "i"
    assert (design.kept.all(), design.n_dropped) == (True, 0)


FIXED = [
    *("1", "x", "0 + x", "x:t", "t:x + x", "x*t*b", "k", "x - 1"),
    *("f", "0 + f", "f*x", "C(k)", "o + f:o", "poly(x, 2) + bs(t, df=4)", "center(x)", "I(x**2)"),
    *("np.log(t) + scale(x)", "C(f, contr.sum)", "C(f, levels=['mid', 'low', 'high'])"),
]


@pytest.mark.parametrize("fixed", FIXED)
def test_fixed_side_is_formulaics(fixed: str) -> None:
    data = frame()
    design = build(f"y ~ {fixed} + (1 | g)", data)
    data["o"] = data["o"].cat.remove_unused_categories()
    expected = formulaic.model_matrix(fixed, data)
    assert design.names == tuple(expected.columns)
    assert_allclose(design.X, expected.to_numpy(float), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("response", ["log(t)", "np.log(t)", "{t + 1}", "t / 2", "b", "k"])
def test_response_is_an_expression(response: str) -> None:
    data = frame()
    t, b, k = (data[c].to_numpy() for c in "tbk")
    expected = {"log(t)": np.log(t), "np.log(t)": np.log(t), "{t + 1}": t + 1, "t / 2": t / 2}
    design = build(f"{response} ~ x + (1 | g)", data)
    assert_allclose(design.y, expected.get(response, b if response == "b" else k))


def test_names_that_python_does_not_allow() -> None:
    data = frame().rename(columns={"x": "my x", "g": "my g"})
    design = build("y ~ `my x` + log(`my x` + 9) + (`my x` | `my g`)", data)
    assert design.names == ("Intercept", "my x", "log(`my x` + 9)")
    assert design.terms[0].columns == ("Intercept", "my x")


def test_functions_of_the_caller() -> None:
    design = build("y ~ twice(x) + (1 | g)", context={"twice": lambda v: 2 * v})
    assert_array_equal(design.X[:, 1], 2 * frame()["x"])


def test_intercept_columns_take_no_memory() -> None:
    assert build("y ~ x + (1 | g)").Z[0].strides == (0, 0)


def test_offsets_add_up() -> None:
    data = frame()
    design = build("y ~ x + offset(log(t)) + offset(2 * x) + (1 | g)", data, offset=data["w"])
    assert_allclose(design.offset, np.log(data["t"]) + 2 * data["x"] + data["w"])


# ------------------------------------------------------------ random terms


def test_terms_are_ordered_by_levels_ties_from_the_last() -> None:
    design = build("y ~ (1 | h) + (1 | o) + (0 + x | h) + (1 | g) + (1 | g:h)")
    assert [(t.group, t.columns[0]) for t in design.terms] == [
        *(("g:h", "Intercept"), ("g", "Intercept")),
        *(("h", "x"), ("h", "Intercept"), ("o", "Intercept")),
    ]
    assert design.codes[2] is design.codes[3]


@pytest.mark.parametrize(
    ("term", "columns"),
    [
        ("(x | g)", ("Intercept", "x")),
        ("(0 + x | g)", ("x",)),
        ("(b | g)", ("Intercept", "b")),
        ("(f || h)", ("Intercept", "f[T.low]", "f[T.mid]")),
        ("(0 + f | h)", ("f[high]", "f[low]", "f[mid]")),
        ("(poly(x, 2) | h)", ("Intercept", "poly(x, 2)[1]", "poly(x, 2)[2]")),
        ("(x:t | g)", ("Intercept", "x:t")),
    ],
)
def test_columns_of_a_term(term: str, columns: tuple[str, ...]) -> None:
    design = build(f"y ~ x + f + {term}")
    assert design.terms[0].columns == columns
    assert design.Z[0].shape == (N, len(columns))


def test_double_bar_is_one_term_with_a_diagonal() -> None:
    (term,) = build("y ~ x + (x + t || g)").terms
    assert_array_equal(term.free, np.eye(3, dtype=bool))


def test_nested_levels_are_those_that_occur() -> None:
    data = frame()
    design = build("y ~ (1 | o/f)", data)
    nested, outer = design.terms
    assert (nested.group, outer.group) == ("o:f", "o")
    assert list(outer.levels) == ["z", "y"]
    assert list(nested.levels) == ["z:high", "z:low", "z:mid", "y:high", "y:low", "y:mid"]
    few = data[data["o"].eq("z") | data["f"].eq("low")]
    assert list(build("y ~ (1 | o:f)", few).terms[0].levels) == [
        *("z:high", "z:low", "z:mid", "y:low")
    ]
    written = data["o"].astype(str) + ":" + data["f"]
    assert_array_equal(nested.levels[design.codes[0]], written)


def test_labels_that_read_alike_stay_apart() -> None:
    data = frame().assign(p=np.tile(["a", "a:b"], N // 2), q=np.tile(["b:c", "c"], N // 2))
    assert list(build("y ~ (1 | p:q)", data).terms[0].levels) == ["a:'b:c'", "'a:b':c"]


def test_labels_of_whole_floats() -> None:
    data = frame().assign(g=lambda d: d["g"].astype(float))
    assert list(build("y ~ (1 | h:g)", data).terms[0].levels)[:1] == ["h1:300"]


@settings(max_examples=25)
@given(st.permutations(range(N)))
def test_row_order_does_not_matter(order: list[int]) -> None:
    formula = "y ~ f*x + poly(t, 2) + (x | g) + (1 | h:f)"
    design, shuffled = build(formula), build(formula, frame().iloc[order])
    assert_allclose(shuffled.X, design.X[order], atol=1e-12)
    assert [t.levels.tolist() for t in shuffled.terms] == [t.levels.tolist() for t in design.terms]
    for codes, mixed in zip(design.codes, shuffled.codes, strict=True):
        assert_array_equal(mixed, codes[order])


# ------------------------------------------------------------ kinds of frames


def polars_frame() -> pl.DataFrame:
    columns = {name: frame()[name].tolist() for name in frame()}
    return pl.DataFrame(columns, schema_overrides={"o": pl.Enum(["z", "y", "never"])})


FRAMES: dict[str, Callable[[], Any]] = {
    "masked": lambda: frame().convert_dtypes(),
    "arrow types": lambda: frame().convert_dtypes(dtype_backend="pyarrow"),
    "polars": polars_frame,
    "pyarrow": lambda: pa.Table.from_pandas(frame()),
    "dict": lambda: dict(frame().items()),
    "index": lambda: frame().set_index(np.zeros(N, int)),
}
FORMULA = "y ~ x*f + b + o + np.log(t) + C(k) + (x | g) + (1 | h:o) + (1 | b)"


@pytest.mark.parametrize("name", FRAMES)
def test_all_frames_give_the_same_design(name: str) -> None:
    assert_same(build(FORMULA, FRAMES[name]()), build(FORMULA))


@pytest.mark.parametrize("name", FRAMES)
def test_missing_values_in_all_frames(name: str) -> None:
    holes = frame().convert_dtypes()
    for row, column in enumerate(holes.columns):
        holes.loc[row, column] = pd.NA
    expected = build(FORMULA, frame().drop(index=[0, 1, 2, 4, 5, 6, 7, 8, 9]))
    table = pa.Table.from_pandas(holes)
    order = pl.Enum(["z", "y", "never"])
    made = {
        "masked": holes,
        "arrow types": holes.convert_dtypes(dtype_backend="pyarrow"),
        "polars": pl.DataFrame(table).with_columns(pl.col("o").cast(pl.String).cast(order)),
        "pyarrow": table,
        "dict": dict(holes.items()),
        "index": holes.set_index(np.zeros(N, int)),
    }
    design = build(FORMULA, made[name])
    assert design.n_dropped == 9
    assert_array_equal(np.flatnonzero(~design.kept), [0, 1, 2, 4, 5, 6, 7, 8, 9])
    assert_same(dataclasses.replace(design, kept=expected.kept), expected)
    X, _ = replay_fixed(design.encoding, made[name])
    assert_allclose(X[design.kept], design.X, rtol=1e-12)
    for (codes, Z), own, columns in zip(
        replay_random(design.encoding, made[name]), design.codes, design.Z, strict=True
    ):
        assert_array_equal(codes[design.kept], own)
        assert_allclose(Z[design.kept], columns)


def test_polars_needs_no_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    data = polars_frame()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert_same(build(FORMULA, data), build(FORMULA))


def test_a_weight_that_is_missing_drops_its_row() -> None:
    weights = np.r_[np.nan, np.ones(N - 1)]
    design = build("y ~ x + (1 | g)", weights=weights)
    assert (design.n_dropped, len(design.weights)) == (1, N - 1)  # type: ignore[arg-type]


def test_missing_values_elsewhere_do_not_matter() -> None:
    assert build("y ~ x + (1 | g)", frame().assign(t=np.nan)).n_dropped == 0


# ------------------------------------------------------------ errors


def changed(**columns: Any) -> Callable[[], pd.DataFrame]:
    return lambda: frame().assign(**columns)


MODEL = "y ~ x + (1 | g)"
ERRORS: dict[str, tuple[str, Callable[[], Any], dict[str, Any], str]] = {
    "no rows": (MODEL, lambda: frame().iloc[:0], {}, "the data has no rows"),
    "column": (
        "y ~ xx + (1 | g)",
        frame,
        {},
        "the data has no column 'xx'; did you mean 'x'?",
    ),
    "column in an expression": (
        "y ~ log(tt) + (1 | g)",
        frame,
        {},
        "the data has no column 'tt'; did you mean 't'?",
    ),
    "slope": (
        "y ~ x + (speed | g)",
        frame,
        {},
        "the data has no column 'speed'; it has 'y', 'x', 't', 'w', 'k', 'b', 'f', 'g', 'h', 'o'",
    ),
    "group": ("y ~ (1 | gg)", frame, {}, "the data has no column 'gg'; did you mean 'g'?"),
    "function": (
        "y ~ lgo(x) + (1 | g)",
        frame,
        {},
        "the formula calls 'lgo', which is not a function it knows; did you mean 'log'?",
    ),
    "all missing": (
        MODEL,
        changed(x=np.nan),
        {},
        "none of the 48 rows is complete: values are missing in the column 'x' (48 rows)",
    ),
    "missing refused": (
        MODEL,
        lambda: frame().assign(g=lambda d: d["g"].where(d["g"] > 300)),
        {"missing": "raise", "weights": [None, *[1] * (N - 1)]},
        "values are missing in the column 'g' (6 rows), the argument weights (1 rows); "
        "missing='drop' leaves these rows out",
    ),
    "option": (MODEL, frame, {"missing": "no"}, "missing must be 'drop' or 'raise', not 'no'"),
    "text response": (
        "f ~ x + (1 | g)",
        frame,
        {},
        "the response 'f' must be numeric, but holds text or categories",
    ),
    "text from an expression": (
        "np.where(t > 0, 'a', 'b') ~ x + (1 | g)",
        frame,
        {},
        "the formula cannot be evaluated on this data: 'np.where(t > 0, 'a', 'b')' "
        "does not give numbers",
    ),
    "wide response": (
        "poly(t, 2) ~ x + (1 | g)",
        frame,
        {},
        "the response 'poly(t, 2)' has 2 columns, but must have one",
    ),
    "constant response": (
        MODEL,
        changed(y=2.5),
        {},
        "the response 'y' is constant (2.5): nothing varies",
    ),
    "date response": (
        MODEL,
        changed(y=pd.date_range("2020", periods=N)),
        {},
        "the column 'y' holds datetime64",
    ),
    "infinite response": (
        MODEL,
        changed(y=np.r_[0, 1, -np.inf, np.arange(N - 3)]),
        {},
        "the column 'y' is infinite in row 2 of the data (counted from 0): "
        "make it missing or correct it",
    ),
    "infinite after a dropped row": (
        MODEL,
        changed(x=np.r_[np.nan, 1, np.inf, np.arange(N - 3)]),
        {},
        "the column 'x' is infinite in row 2 of the data",
    ),
    "transform": (
        "y ~ log(x) + (1 | g)",
        changed(x=np.arange(-2, N - 2)),
        {},
        "'log(x)' is nan in row 0 of the data (counted from 0): change the expression, "
        "or make the row's value missing to leave it out",
    ),
    "not one value a row": (
        "y ~ x + np.mean(x) + (1 | g)",
        frame,
        {},
        "the formula cannot be evaluated on this data: "
        "'np.mean(x)' does not give one value for each row",
    ),
    "levels left out": (
        "y ~ C(f, levels=['low']) + (1 | g)",
        frame,
        {},
        "the levels given to C() do not include all values of the column",
    ),
    "mixed types": (
        MODEL,
        changed(g=[1, "1"] * (N // 2)),
        {},
        "the column 'g' mixes values of the types int and str: convert it to one type, "
        "for instance data['g'].astype(str)",
    ),
    "one level": (
        MODEL,
        changed(g=7),
        {},
        "the grouping factor 'g' has one level (7): a variance between levels needs two",
    ),
    "level a row": (
        MODEL,
        changed(g=range(N)),
        {},
        "the grouping factor 'g' has as many levels (48) as there are rows (48): "
        "its variance and the residual variance cannot be told apart",
    ),
    "cell a row": (
        "y ~ (1 | g:h:f)",
        lambda: frame().drop_duplicates(["g", "h", "f"]).head(20),
        {},
        "the grouping factor 'g:h:f' has as many levels (20)",
    ),
    "effects": (
        "y ~ (x + t | g)",
        changed(g=np.arange(N) // 3),
        {},
        "the random term of 'g' has 48 effects (16 levels x 3 columns) for 48 rows: "
        "leave out columns (Intercept, x, t)",
    ),
    "no slope left": (
        "y ~ x + (0 + C(o, contr.sum) - C(o, contr.sum) | g)",
        frame,
        {},
        "'0 + C(o, contr.sum) - C(o, contr.sum)' of the random term "
        "(0 + C(o, contr.sum) - C(o, contr.sum) | g) gives no column",
    ),
    "coefficients": (
        "y ~ poly(x, 11) + (1 | g)",
        lambda: frame().iloc[::4],
        {},
        "the fixed effects have 12 coefficients for 12 rows: leave out predictors",
    ),
    "zero weight": (
        MODEL,
        frame,
        {"weights": np.r_[1, 0, np.ones(N - 2)]},
        "weights must be positive, but row 1 of the data (counted from 0) has 0: "
        "leave such rows out",
    ),
    "negative weight": (
        MODEL,
        changed(w=np.r_[1, 2, -3, np.ones(N - 3)]),
        {"weights": "w"},
        "weights must be positive, but row 2 of the data (counted from 0) has -3",
    ),
    "infinite weight": (
        MODEL,
        frame,
        {"weights": np.r_[np.inf, np.ones(N - 1)]},
        "the argument weights is infinite in row 0 of the data",
    ),
    "text weights": (
        MODEL,
        frame,
        {"weights": "f"},
        "the weights must be numeric, but holds text or categories",
    ),
    "length of weights": (
        MODEL,
        frame,
        {"weights": [1, 2]},
        "weights has 2 values, but the data 48 rows",
    ),
    "length of offset": (
        MODEL,
        frame,
        {"offset": np.ones(3)},
        "offset has 3 values, but the data 48 rows",
    ),
    "scalar offset": (
        MODEL,
        frame,
        {"offset": 3},
        "offset must be a column name or an array, not int",
    ),
    "offset column": (
        MODEL,
        frame,
        {"offset": "exposure"},
        "the data has no column 'exposure'",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name: str) -> None:
    formula, data, arguments, message = ERRORS[name]
    with pytest.raises(InterlaceError) as caught:
        assemble(parse(formula), data(), **arguments)
    assert str(caught.value).startswith(message)


def test_redundant_columns_are_no_error_here() -> None:
    design = build("y ~ C(h) * f * b * o * C(k) + (1 | g)")
    assert design.X.shape[1] > N  # but of rank 12: the solver drops the rest


# ------------------------------------------------------------ new rows

REPLAYED = [
    "y ~ x*f + (x | g)",
    "y ~ poly(x, 2) + center(t) + scale(x) + bs(t, df=4) + (center(x) | g)",
    "y ~ C(k) + o + (0 + C(k) || h)",
    "y ~ C(f, contr.poly) + f:x + (f | h) + (1 | g:h)",
    "log(t) ~ x + offset(log(w)) + (1 | g/h)",
    "y ~ 0 + b + (0 + b | g)",
]


@pytest.mark.parametrize("formula", REPLAYED)
def test_new_rows_are_encoded_alike(formula: str) -> None:
    design = pickle.loads(pickle.dumps(build(formula)))
    rows = [5, 5, 1, 40]
    new = frame().iloc[rows].drop(columns="y")
    X, offset = replay_fixed(design.encoding, new)
    assert_allclose(X, design.X[rows], rtol=1e-12, atol=1e-14)
    assert_allclose(offset, np.zeros(4) if design.offset is None else design.offset[rows])
    replayed = replay_random(design.encoding, new)
    for (codes, Z), own, columns in zip(replayed, design.codes, design.Z, strict=True):
        assert_array_equal(codes, own[rows])
        assert_allclose(Z, columns[rows], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("formula", REPLAYED)
def test_no_rows_and_missing_rows(formula: str) -> None:
    design = build(formula)
    p = design.X.shape[1]
    assert replay_fixed(design.encoding, frame().iloc[:0])[0].shape == (0, p)
    empty = frame().head(2).astype(object)
    empty.loc[:] = None
    X, offset = replay_fixed(design.encoding, empty)
    assert X.shape == (2, p)
    assert np.isnan(X).all()
    assert np.isnan(offset).all() or design.offset is None
    assert all((codes == -1).all() for codes, _ in replay_random(design.encoding, empty))


def test_missing_values_give_nan_rows_of_the_side_they_are_in() -> None:
    encoding = build("y ~ x + (t | g) + (1 | h)").encoding
    new = frame().head(4)
    new.loc[0, "x"], new.loc[1, "t"], new.loc[2, "h"] = np.nan, np.nan, None
    X, _ = replay_fixed(encoding, new)
    assert_array_equal(np.isnan(X).any(axis=1), [True, False, False, False])
    (g, slopes), (h, ones) = replay_random(encoding, new)
    assert_array_equal(np.isnan(slopes).any(axis=1), [False, True, False, False])
    assert_array_equal(h < 0, [False, False, True, False])
    assert (g >= 0).all()
    assert_array_equal(ones, np.ones((4, 1)))


def test_unseen_levels() -> None:
    encoding = build("y ~ (1 | g) + (1 | g:h)").encoding
    new = pd.DataFrame({"g": [300, 999, 300, 301], "h": ["h1", "h1", "new", None]})
    (cells, _), (groups, _) = replay_random(encoding, new)
    assert_array_equal(cells, [0, -1, -1, -1])
    assert_array_equal(groups, [0, -1, 0, 1])


def test_an_unseen_combination_of_known_levels() -> None:
    data = frame()[lambda d: ~(d["g"].eq(301) & d["h"].eq("h2"))]
    new = pd.DataFrame({"g": [301, 301], "h": ["h2", "h3"]})
    design = build("y ~ (1 | g:h)", data)
    ((codes, _),) = replay_random(design.encoding, new)
    assert codes[0] == -1
    assert design.terms[0].levels[codes[1]] == "301:h3"


def test_fixed_side_needs_no_groups_and_no_response() -> None:
    X, _ = replay_fixed(build(MODEL).encoding, {"x": [1.0, 2.0]})
    assert_array_equal(X, [[1, 1], [1, 2]])


@pytest.mark.parametrize("values", [[0, 1], [False, True], pd.Categorical([0, 1])])
def test_a_factor_of_integers_takes_integers(values: Any) -> None:
    design = build("y ~ c + (1 | g)", frame().assign(c=lambda d: pd.Categorical(d["k"] % 2)))
    if isinstance(values, list) and values[0] is False:
        values = np.array(values, dtype=int)
    assert_array_equal(replay_fixed(design.encoding, {"c": values})[0], [[1, 0], [1, 1]])


def test_an_offset_column_is_read_from_new_rows() -> None:
    encoding = build(MODEL, offset="t").encoding
    new = frame().head(2)
    assert_array_equal(replay_fixed(encoding, new)[1], new["t"])
    assert_array_equal(replay_fixed(encoding, new, offset=[3, 4])[1], [3, 4])


def test_an_offset_array_must_be_given_again() -> None:
    encoding = build(MODEL, offset=np.ones(N)).encoding
    assert_array_equal(replay_fixed(encoding, {"x": [1, 2]}, offset=[3, 4])[1], [3, 4])


KNOWN = "which was not there when the model was fitted; known values:"
BAD_NEW: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "column": (MODEL, {"xx": [1]}, {}, "the new data has no column 'x'; did you mean 'xx'?"),
    "factor level": (
        "y ~ f + (1 | g)",
        {"f": ["low", "top"]},
        {},
        f"the column 'f' has the value 'top', {KNOWN} 'high', 'low', 'mid'",
    ),
    "category": (
        "y ~ o + (1 | g)",
        {"o": ["never"]},
        {},
        f"the column 'o' has the value 'never', {KNOWN} 'z', 'y'",
    ),
    "level of C()": (
        "y ~ C(k) + (1 | g)",
        {"k": [0, 9]},
        {},
        f"'C(k)' has the value 9, {KNOWN} 0, 1, 2",
    ),
    "number for a factor": (
        "y ~ f + (1 | g)",
        {"f": [1]},
        {},
        f"the column 'f' has the value 1, {KNOWN} 'high', 'low', 'mid'",
    ),
    "text for a number": (
        MODEL,
        {"x": ["1"]},
        {},
        "the column 'x' was numeric when the model was fitted, but now holds text or categories",
    ),
    "infinite": (MODEL, {"x": [0, np.inf]}, {}, "the column 'x' is infinite in row 1 of the new"),
    "spline outside its range": (
        "y ~ bs(t, df=4) + (1 | g)",
        {"t": [99.0]},
        {},
        "the formula cannot be evaluated on this data: Unable to evaluate factor 'bs(t, df=4)'",
    ),
    "offset column": (MODEL, {"x": [1]}, {"offset": "w"}, "the new data has no column 'w'"),
    "offset array": (
        MODEL,
        {"x": [1]},
        {"offset": np.ones(N)},
        "the model was fitted with an array as offset, which new data does not carry: pass "
        "offset= with one value a row, or fit with a column of the data as offset",
    ),
}


@pytest.mark.parametrize("name", BAD_NEW)
def test_bad_new_rows(name: str) -> None:
    formula, new, arguments, message = BAD_NEW[name]
    encoding = build(formula, **arguments).encoding
    with pytest.raises(InterlaceError) as caught:
        replay_fixed(encoding, new)
    assert str(caught.value).startswith(message)


def test_random_side_names_the_missing_group() -> None:
    with pytest.raises(InterlaceError, match="the new data has no column 'g'; it has 'x'"):
        replay_random(build(MODEL).encoding, {"x": [1.0]})


def test_new_offset_has_one_value_a_row() -> None:
    with pytest.raises(InterlaceError, match="offset has 1 values, but the new data 2 rows"):
        replay_fixed(build(MODEL).encoding, {"x": [1, 2]}, offset=[1])
