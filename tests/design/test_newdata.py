"""New rows are opened once, few are looked up as many are, and products are formulaic's."""

from __future__ import annotations

import datetime
import pickle
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import interlace
from interlace.design import encode, frame, keys
from interlace.design.design import Design, assemble
from interlace.design.formula import parse
from interlace.design.newdata import replay
from interlace.design.reads import PARTS, columns_of
from interlace.errors import InterlaceError

N = 90


def rows(n: int = N, seed: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "w": rng.uniform(1, 2, n),
            "t": rng.random(n) > 0.5,
            "a": rng.choice(["p", "q", "r"], n),
            "b c": rng.choice(["u", "v"], n),
            "o": pd.Categorical(rng.choice(["lo", "hi"], n), ["lo", "hi"], ordered=True),
            "1": rng.normal(size=n),
            "0": rng.choice(["p", "q"], n),
            "g": rng.choice([f"s{i}" for i in range(9)], n),
            "h": rng.integers(300, 308, n),
        }
    )


def build(formula: str, **arguments: Any) -> Design:
    return assemble(parse(formula), rows(), **arguments)


# ------------------------------------------------------------ read once

ASKED: list[dict[str, Any]] = [
    {},
    {"include_re": False},
    {"se": True},
    {"interval": "prediction"},
    {"interval": "confidence", "new_levels": "raise"},
]


@pytest.fixture(scope="module")
def result() -> interlace.CrossedLMEResult:
    return interlace.fit("y ~ x + a + (x | g) + (1 | h)", rows(), weights="w")


@pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")
@pytest.mark.parametrize("asked", [*ASKED, None])
def test_new_rows_are_opened_once(
    asked: dict[str, Any] | None,
    result: interlace.CrossedLMEResult,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[object] = []
    real = frame.open_table

    def counted(data: Any, **options: Any) -> frame.Table:
        opened.append(data)
        return real(data, **options)

    monkeypatch.setattr(frame, "open_table", counted)
    new = rows(5)
    if asked is None:
        found = result.augment(new)
        assert_array_equal(found[".fitted"], result.predict(rows(5)))
        assert_array_equal(found[".fixed"], result.predict(rows(5), include_re=False))
    else:
        result.predict(new, **asked)
    assert sum(data is new for data in opened) == 1


@pytest.mark.parametrize("asked", ASKED)
def test_one_row_is_predicted_as_among_others(
    asked: dict[str, Any], result: interlace.CrossedLMEResult
) -> None:
    new = rows(40, seed=9)
    new.loc[3, "x"], new.loc[4, "g"], new.loc[5, "h"] = np.nan, None, 300
    if "new_levels" not in asked:
        new.loc[6, "g"] = "never"
    else:
        new = new.drop(index=4)
    together = np.asarray(result.predict(new, **asked))
    for i in range(len(new)):
        one = new.iloc[i : i + 1]
        if one["g"].isna().all() or (one["g"] == "never").all():
            continue  # warned of
        for form in (one, pl.from_pandas(one), {n: one[n].tolist() for n in one}):
            found = np.asarray(result.predict(form, **asked))
            np.testing.assert_allclose(found[0], together[i], rtol=1e-12)


# ------------------------------------------------------------ products of columns

SIDES = [
    "a",
    "a * o",
    "0 + a",
    "0 + a:o + x",
    "a * x * z",
    "a:x:z:w + o",
    "x * z * w * a * t",
    "(a + o + x + z) ** 3",
    "a / x",
    "t:x + a:t",
    "`1` * a + `b c`:x",
    "0 + x:a + z",
    "`0` * x + a",
    "`1` + `0`:`1`",
]


@pytest.mark.parametrize("side", SIDES)
def test_products_are_those_of_formulaic(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    design = pickle.loads(pickle.dumps(build(f"y ~ {side} + (1 | g)")))
    new = rows(20, seed=5)
    new.loc[3, ["x", "a", "1"]] = None
    quick = replay(design.encoding, new).X
    monkeypatch.setattr(encode, "_MOST_PRODUCTS", 0)
    assert_array_equal(quick, replay(design.encoding, new).X)
    assert np.isnan(quick[3]).all()
    assert_array_equal(replay(design.encoding, rows()).X, design.X)


def test_what_was_made_for_new_rows_is_not_pickled() -> None:
    encoding = build("y ~ a * x + (1 | g)").encoding
    held = encoding.fixed, encoding.groups[0].known
    before = pickle.dumps(held)
    replay(encoding, rows())
    assert len(pickle.dumps(held)) == len(before)


# ------------------------------------------------------------ few values are found as many are

ONE = UUID("12345678123456781234567812345678")
VALUES: dict[str, list[Any]] = {
    "text": ["a", "b", "3", "", "ab"],
    "integers": [3, -1, 2**60 + 1, 0, 7],
    "floats": [0.5, 3.0, -0.0, 0.1, 1e300],
    "float32": [np.float32(0.1), np.float32(3), np.float32(0.5)],
    "decimals": [Decimal("0.10"), Decimal("3"), Decimal("0.5")],
    "booleans": [True, False],
    "dates": [datetime.date(2020, 1, 2), datetime.date(2021, 5, 6)],
    "instants": [pd.Timestamp("2020-01-02"), pd.Timestamp("2021-05-06 12:00")],
    "zoned": [pd.Timestamp("2020-01-02", tz="UTC"), pd.Timestamp("2021-05-06", tz="UTC")],
    "uuid": [ONE, UUID(int=5)],
    "spelled": [str(ONE), "3"],
    "bytes": [b"a", b"3"],
}


@pytest.mark.parametrize("levels", VALUES)
@pytest.mark.parametrize("asked", VALUES)
def test_a_value_is_found_alone_as_among_others(asked: str, levels: str) -> None:
    column = frame.as_column(np.array([*VALUES[asked], None], dtype=object)[:-1], "g")
    known = frame.factorize(frame.plain(frame.as_column(pd.Series(VALUES[levels]), "g"), "g"))[1]
    many = np.tile(np.arange(len(column)), 40)  # too many for a dictionary
    expected = frame.recode(column[many], known)[: len(column)]
    held = keys.Known(known)
    for i in range(len(column)):
        assert frame.recode(column[i : i + 1], held)[0] == frame.recode(column[i : i + 1], known)[0]
        if len({type(value) for value in VALUES[asked]}) == 1 and asked != "zoned":
            assert frame.recode(column[i : i + 1], held)[0] == expected[i]
    assert_array_equal(frame.recode(column, held), expected)


@given(st.lists(st.one_of(st.text(max_size=3), st.none()), min_size=1, max_size=6))
def test_texts_in_a_list_are_those_of_a_series(values: list[str | None]) -> None:
    levels = np.array(["a", "b", "", "0"], dtype=object)
    ways = [values, pd.Series(values, dtype=object), pd.Series(values, dtype="str")]
    found = [frame.recode(frame.as_column(way, "g"), levels) for way in ways]
    assert_array_equal(found[0], found[1])
    assert_array_equal(found[0], found[2])


@given(st.lists(st.one_of(st.floats(), st.integers(), st.booleans(), st.none()), max_size=5))
def test_numbers_in_a_list_are_those_of_a_series(values: list[Any]) -> None:
    column = frame.as_column(values, "x")
    pd.testing.assert_series_equal(pd.Series(column, dtype=column.dtype), pd.Series(values))


# ------------------------------------------------------------ what is read

READS = [
    (PARTS, ["y", "w", "x", "a", "z", "1", "g", "h"]),
    (("fixed",), ["a", "x"]),
    (("fixed", "offset"), ["a", "x", "z"]),
    (("slopes",), ["1"]),
    (("groups",), ["g", "h"]),
    ((), []),
]


@pytest.mark.parametrize(("parts", "expected"), READS)
def test_columns_that_a_formula_reads(parts: Any, expected: list[str]) -> None:
    formula = parse("log(y + w) ~ np.exp(x):a + offset(z * k) + (`1` | g:h) + (1 | g)")
    context = {"k": 2.0, "np": np}
    found = columns_of(formula, frame.open_table(rows()), context, parts=parts)
    assert sorted(found) == sorted(expected)
    again = columns_of(
        formula, frame.open_table(rows()), context, parts=parts, beside=("w", None, np.ones(3))
    )
    assert sorted(again) == sorted({*expected, "w"})
    with pytest.raises(InterlaceError, match="has no column 'k'"):
        columns_of(formula, frame.open_table(rows()))
