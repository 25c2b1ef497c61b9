"""Formulas that would mean something else, or never end, are refused in our own words."""

import contextlib
import functools
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import interlace
from interlace import InterlaceError, RankDeficiencyWarning
from interlace.design.formula import parse

N = 120


def frame() -> dict[str, Any]:
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(12), 10)
    x = rng.integers(1, 9, N)
    return {
        "y": 0.3 * x + rng.normal(size=12)[g] + rng.normal(size=N),
        "x": x,
        "z": rng.normal(size=N),
        "g": g,
        "f": np.array(list("uv"))[rng.integers(0, 2, N)],
        "w": rng.uniform(0.5, 2, N),
        "one": ["u"] * N,
    }


CARETS = {
    "I": "y ~ I(x^2) + (1 | g)",
    "function": "y ~ np.log(x ^ 2) + (1 | g)",
    "braces": "y ~ {x^2} + (1 | g)",
    "nested": "y ~ center(np.exp((x)^2)) + (1 | g)",
    "response": "y^2 ~ x + (1 | g)",
    "response in a call": "I(y^2) ~ x + (1 | g)",
    "offset": "y ~ x + offset(z^2) + (1 | g)",
    "left of a bar": "y ~ x + (I(x^2) | g)",
}


@pytest.mark.parametrize("name", CARETS)
def test_a_caret_in_a_call_is_pointed_at(name: str) -> None:
    with pytest.raises(InterlaceError) as error:
        interlace.fit(CARETS[name], frame())
    message, text, mark = str(error.value).split("\n")
    assert message.endswith("power is **")
    assert text[mark.index("^")] == "^"


def test_a_caret_in_random_and_in_quotes() -> None:
    with pytest.raises(InterlaceError, match=r"power is \*\*"):
        interlace.fit("y ~ x", frame(), random="(I(x^2) | g)")
    data = frame() | {"x^2": frame()["x"] ** 2}
    quoted = interlace.fit("y ~ `x^2` + (1 | g)", data)
    assert_allclose(quoted.criterion, interlace.fit("y ~ I(x**2) + (1 | g)", data).criterion)


POWERS = {
    "two": "y ~ (x + z)**2 + (1 | g)",
    "caret": "y ~ (x + z)^2 + (1 | g)",
    "ten": "y ~ (x + z)**10 + (1 | g)",
    "left of a bar": "y ~ x + ((x + z)**2 || g)",
}
TOO_LARGE = {
    "eleven": "y ~ (x + z)**11 + (1 | g)",
    "hangs": "y ~ (x + z)**22 + (1 | g)",
    "caret": "y ~ (x + z)^ 30 + (1 | g)",
    "left of a bar": "y ~ x + ((x + z)**22 | g)",
    "one variable": "y ~ x**100 + (1 | g)",
    "huge": "y ~ (x + z)**99999999999999999999999 + (1 | g)",
    "nested": "y ~ (((x + z)**6)**6)**6 + (1 | g)",
    "many variables": "y ~ (a + b + c + d + e + f + g1 + h)**10 + (1 | g)",
}


@pytest.mark.parametrize("name", POWERS)
def test_powers(name: str) -> None:
    assert parse(POWERS[name]).random


@pytest.mark.parametrize("name", TOO_LARGE)
def test_powers_that_would_not_end(name: str) -> None:
    start = time.process_time()
    with pytest.raises(InterlaceError, match=r"too large|more than 100,000 products") as error:
        parse(TOO_LARGE[name])
    assert "^" in str(error.value).split("\n")[-1]
    assert time.process_time() - start < 1.0


OFFSETS = {
    "text": ("offset(f)", {}, r"offset\(\) 'f' must be numeric, but holds text"),
    "quoted text": ("offset(`f`)", {}, r"offset\(\) 'f' must be numeric"),
    "categories": ("offset(C(x))", {}, r"offset\(C\(x\)\) gives categories"),
    "several": ("offset(poly(x, 2))", {}, r"offset\(poly\(x, 2\)\) gives 2 columns"),
    "two": ("offset(x, z)", {}, "offset"),
    "empty": ("offset()", {}, "offset"),
    "dates": ("offset(d)", {"d": pd.date_range("2020", periods=N)}, "'d' holds datetime64"),
    "complex": ("offset(z * 1j)", {}, "."),
    "argument": ("x", {"offset": "f"}, "the offset must be numeric, but holds text"),
}


@pytest.mark.parametrize("name", OFFSETS)
def test_offsets_that_are_no_number(name: str) -> None:
    text, extra, message = OFFSETS[name]
    data = frame() | {k: v for k, v in extra.items() if k != "offset"}
    with pytest.raises(InterlaceError, match=message):
        interlace.fit(f"y ~ 1 + {text} + (1 | g)", data, offset=extra.get("offset"))


@pytest.mark.filterwarnings("ignore::interlace.SingularFitWarning")
def test_offsets_that_are_one() -> None:
    right = interlace.fit("y ~ 1 + offset(v) + (1 | g)", frame() | {"v": frame()["x"] * 2.0 + 1})
    for text in ("offset(2 * x + 1)", "offset(x) + offset(x + 1)", "offset({2*x + 1})"):
        assert_allclose(
            interlace.fit(f"y ~ 1 + {text} + (1 | g)", frame()).criterion, right.criterion
        )


# Quoted names -------------------------------------------------------------------------------------

NAMES = ["a b", "1", "2.5", "x^2", "~", "if", "C(x)"]


@functools.cache
def unquoted(formula: str, *arguments: tuple[str, str]) -> interlace.CrossedLMEResult:
    return interlace.fit(formula, pd.DataFrame(frame()), **dict(arguments))


@pytest.mark.parametrize("name", NAMES)
def test_quoted_names_everywhere(name: str, tmp_path: Any) -> None:
    """On either side of the formula and of the bar, in groups, arguments, files and new data."""
    plain = pd.DataFrame(frame())
    for old, formula, change in (
        ("x", "y ~ {} + (1 | g)", {}),
        ("x", "y ~ z + {0}:z + ({0} | g)", {}),
        ("z", "y ~ x + ({} || g)", {}),
        ("x", "y ~ np.log({}) + (1 | g)", {}),
        ("y", "{} ~ x + (1 | g)", {}),
        ("g", "y ~ x + (1 | {})", {}),
        ("z", "y ~ x + offset({}) + (1 | g)", {}),
        ("f", "y ~ {} + (1 | g)", {}),
        ("f", "y ~ {}*x + (1 | g)", {}),
        ("w", "y ~ x + (1 | g)", {"weights": True}),
        ("z", "y ~ x + (1 | g)", {"offset": True}),
    ):
        data = plain.rename(columns={old: name})
        theirs = dict.fromkeys(change, name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            right = unquoted(formula.format(old), *dict.fromkeys(change, old).items())
            mine = interlace.fit(formula.format(f"`{name}`"), data, **theirs)
            data.to_parquet(tmp_path / "d.parquet")
            read = interlace.fit(formula.format(f"`{name}`"), tmp_path / "d.parquet", **theirs)
        assert_allclose(mine.criterion, right.criterion, rtol=1e-9)
        assert_allclose(read.criterion, right.criterion, rtol=1e-8)
        assert len(mine.fe_params) == len(right.fe_params)
        assert_allclose(mine.predict(data), right.predict(plain), rtol=1e-9)
        assert str(mine.formula) == str(parse(str(mine.formula)))


def test_the_column_called_one_keeps_its_name() -> None:
    data = frame() | {"1": frame()["x"], "0": frame()["z"]}
    result = interlace.fit("y ~ `1` + `0` + (1 | g)", data)
    assert list(result.fe_params.index) == ["Intercept", "1", "0"]
    assert list(interlace.fit("y ~ 0 + `1` + (1 | g)", data).fe_params.index) == ["1"]


# Factors without an effect ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ one + (1 | g)",
        "y ~ x + one + (1 | g)",
        "y ~ C(one) + (1 | g)",
        "y ~ x*one + (1 | g)",
        "y ~ x + (one | g)",
    ],
)
def test_a_factor_with_one_level_is_named(formula: str, tmp_path: Any) -> None:
    pd.DataFrame(frame()).to_parquet(tmp_path / "d.parquet")
    for data in (frame(), tmp_path / "d.parquet", pl.DataFrame(frame())):
        with pytest.warns(RankDeficiencyWarning, match=r"one\)?' has one level \('u'\)"):
            interlace.fit(formula, data)


def test_a_factor_with_one_level_that_has_a_column() -> None:
    result = interlace.fit("y ~ 0 + one + (1 | g)", frame())
    assert list(result.fe_params.index) == ["one[u]"]


@pytest.mark.parametrize("text", ["~ x | g", "~x|g", "~ 1 + x | g", " ~ (x | g)"])
def test_random_terms_as_nlme_writes_them(text: str) -> None:
    assert parse("y ~ z", random=text).random == parse("y ~ z + (x | g)").random


@pytest.mark.parametrize("text", ["~x", "x ~ x | g", "~ x | g | h", "~", "~~ x | g"])
def test_random_terms_that_are_none(text: str) -> None:
    with pytest.raises(InterlaceError) as error:
        parse("y ~ z", random=text)
    assert "formulaic" not in str(error.value)
    assert "partially disabled" not in str(error.value)


# Text where numbers are meant ---------------------------------------------------------------------


def prices(n: int, kinds: int, spell: str = "{:.4f}") -> dict[str, Any]:
    rng = np.random.default_rng(2)
    values = np.round(rng.permutation(kinds) / 7.0, 4)[np.arange(n) % kinds]
    g = np.arange(n) % 25
    return {"y": rng.normal(size=25)[g] + rng.normal(size=n), "g": g} | {
        "price": [spell.format(v) for v in values]
    }


@pytest.mark.parametrize(
    ("n", "kinds", "spell"),
    [
        (400, 400, "{:.4f}"),
        (3_000, 3_000, "{:.4f}"),
        (30_000, 30_000, "{:.4f}"),
        (30_000, 3_000, "{:.4f}"),
        (3_000, 3_000, "$ {:,.4f}"),
        (3_000, 2_000, "{:.4f} %"),
        (30_000, 900, "{:e}"),
    ],
)
def test_numbers_read_as_text(n: int, kinds: int, spell: str, tmp_path: Any) -> None:
    for how in ("pandas", "polars", "categories", "file"):
        refused(n, kinds, spell, how, tmp_path)


def refused(n: int, kinds: int, spell: str, how: str, tmp_path: Any) -> None:
    data: Any = pd.DataFrame(prices(n, kinds, spell))
    if how == "polars":
        data = pl.DataFrame(prices(n, kinds, spell))
    elif how == "categories":
        data["price"] = data["price"].astype("category")
    elif how == "file":
        data.to_parquet(tmp_path / "p.parquet")
        data = tmp_path / "p.parquet"
    start = time.process_time()
    with pytest.raises(InterlaceError) as error:
        interlace.fit("y ~ price + (1 | g)", data)
    message = f"'price' is text with {kinds:,} different values: numbers read as text?"
    assert str(error.value).startswith(message)
    assert time.process_time() - start < 5.0


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ g:price + (1 | g)",
        "y ~ g * price + (1 | g)",
        "y ~ 1 + (price | g)",
        "y ~ 1 + (0 + price || g)",
        "y ~ 1 + offset(price) + (1 | g)",
        "price ~ 1 + (1 | g)",
    ],
)
def test_numbers_read_as_text_wherever_they_stand(formula: str) -> None:
    start = time.process_time()
    with pytest.raises(InterlaceError, match="numbers read as text"):
        interlace.fit(formula, prices(30_000, 30_000))
    assert time.process_time() - start < 5.0


def test_labels_of_rows_as_predictor() -> None:
    data = prices(3_000, 3_000, "row {:.4f} of many")
    with pytest.raises(
        InterlaceError, match=r"'price' is text with 3,000 different values.*\(1 \| price\)"
    ):
        interlace.fit("y ~ price + (1 | g)", data)
    with pytest.raises(InterlaceError, match="too many for a column each"):
        interlace.fit("y ~ C(price) + (1 | g)", prices(30_000, 30_000))


@pytest.mark.parametrize("kinds", [2, 10, 60])
def test_text_that_is_meant(kinds: int) -> None:
    result = interlace.fit("y ~ price + (1 | g)", prices(400, kinds))
    assert len(result.fe_params) == kinds
    grouped = interlace.fit("y ~ 1 + (1 | price)", prices(3_000, 1_000))
    assert grouped.ngroups == {"price": 1_000}


@pytest.mark.parametrize("formula", [". ~ x + (1 | g)", "y ~ x:. + (1 | g)", "y ~ x + (. * x | g)"])
def test_a_dot_among_others(formula: str) -> None:
    with pytest.raises(InterlaceError, match="name the columns instead") as error:
        parse(formula)
    assert "formulaic" not in str(error.value)


# Anything at all ----------------------------------------------------------------------------------

WRITTEN = (
    "x z f `x` 1 0 -1 + - * : / ** ^ ( ) | || I( C(f) np.log( poly(x,2) bs(x,3) { } [ ] ~ 2 10 . , "
    "%in% lag(x) x.y None 'a' ` \\ $ lambda = x[0] x.mean() 1/0 offset( scale(x) center(z) "
    "hashed(f) Q('x') x==1 if é"
)
PIECES = st.sampled_from(WRITTEN.split())


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=8))
def test_whatever_is_written_the_error_is_ours(pieces: list[str]) -> None:
    data = {name: column[:60] for name, column in frame().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(InterlaceError):
            interlace.fit(f"y ~ {' '.join(pieces)} + (1 | g)", data)
