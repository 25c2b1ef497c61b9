"""Bad input ends in one clear InterlaceError that names what is wrong, or as documented."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace.errors import InterlaceError, RankDeficiencyWarning, choose, listed

N = 60
MODEL = "y ~ x + (1 | g)"


def frame() -> pd.DataFrame:
    """A small frame that fits without complaint: numbers y, x, w, a group g, a factor f."""
    rng = np.random.default_rng(7)
    g = np.repeat([f"g{i}" for i in range(10)], N // 10)
    effect = np.repeat(rng.normal(0, 2, 10), N // 10)
    return pd.DataFrame(
        {
            "y": effect + rng.normal(size=N),
            "x": rng.normal(size=N),
            "w": rng.uniform(0.5, 2, N),
            "g": g,
            "h": np.tile(["h1", "h2", "h3", "h4"], N // 4),
            "f": np.tile(["low", "mid", "high"], N // 3),
        }
    )


def changed(column: str, values: Any) -> Callable[[], pd.DataFrame]:
    return lambda: frame().assign(**{column: values})


def with_cell(column: str, row: int, value: Any) -> Callable[[], pd.DataFrame]:
    def make() -> pd.DataFrame:
        data = frame()
        data[column] = data[column].astype(object) if isinstance(value, str) else data[column]
        data.loc[row, column] = value
        return data

    return make


def duplicated() -> pd.DataFrame:
    data = frame()
    return pd.concat([data, data[["x"]]], axis=1)


def mixed() -> list[Any]:
    return [1, "1", 2, "2", 3, "3"] * (N // 6)


@dataclass(frozen=True)
class Bad:
    """A call that must fail, and the words that its message must have."""

    says: tuple[str, ...]
    formula: str = MODEL
    data: Callable[[], Any] = frame
    arguments: Callable[[], dict[str, Any]] = dict


WIDE = [f"x{i}" for i in range(N)]

BAD: dict[str, Bad] = {
    # columns
    "unknown fixed column": Bad(("'xx'",), "y ~ xx + (1 | g)"),
    "unknown column suggests the nearest": Bad(
        ("Reactoin", "Reaction"),
        "Reactoin ~ x + (1 | g)",
        lambda: frame().rename(columns={"y": "Reaction"}),
    ),
    "unknown group": Bad(("'gg'",), "y ~ x + (1 | gg)"),
    "unknown group by argument": Bad(("school",), "y ~ x", frame, lambda: {"groups": "school"}),
    "unknown slope": Bad(("slope",), "y ~ x + (slope | g)"),
    "unknown weights column": Bad(("'ww'",), arguments=lambda: {"weights": "ww"}),
    "unknown offset column": Bad(("'oo'",), arguments=lambda: {"offset": "oo"}),
    "duplicated column name": Bad(("'x'",), data=duplicated),
    # rows
    "empty data": Bad(("row",), data=lambda: frame().iloc[:0]),
    "all rows missing": Bad(("'x'",), data=changed("x", np.nan)),
    "not a frame": Bad(("int",), data=lambda: 3),
    # response
    "text response": Bad(("'y'",), data=changed("y", ["a", "b"] * (N // 2))),
    "constant response": Bad(("'y'", "constant"), data=changed("y", 3.0)),
    "infinite response": Bad(("'y'", "infinite"), data=with_cell("y", 4, np.inf)),
    "infinite predictor": Bad(("'x'", "infinite"), data=with_cell("x", 4, -np.inf)),
    # groups
    "one level": Bad(("'g'", "level"), data=changed("g", "only")),
    "as many levels as rows": Bad(("'g'", "level"), data=changed("g", np.arange(N))),
    "missing group, refused": Bad(
        ("'g'",), data=with_cell("g", 3, None), arguments=lambda: {"missing": "raise"}
    ),
    "missing predictor, refused": Bad(
        ("'x'",), data=with_cell("x", 3, np.nan), arguments=lambda: {"missing": "raise"}
    ),
    "mixed types in a group": Bad(("'g'", "int", "str"), data=changed("g", mixed())),
    "more random effects than rows": Bad(
        ("'g'",), "y ~ x + (1 + x + w | g)", changed("g", np.arange(N) // 2)
    ),
    # weights and offset
    "zero weight": Bad(
        ("weights", "row 5"), data=with_cell("w", 5, 0.0), arguments=lambda: {"weights": "w"}
    ),
    "negative weight": Bad(
        ("weights", "-1"), data=with_cell("w", 5, -1), arguments=lambda: {"weights": "w"}
    ),
    "zero weight in an array": Bad(("weights",), arguments=lambda: {"weights": np.zeros(N)}),
    "missing weight, refused": Bad(
        ("'w'",),
        data=with_cell("w", 5, np.nan),
        arguments=lambda: {"weights": "w", "missing": "raise"},
    ),
    "weights of the wrong length": Bad(
        ("weights", "3", str(N)), arguments=lambda: {"weights": np.ones(3)}
    ),
    "offset of the wrong length": Bad(
        ("offset", "3", str(N)), arguments=lambda: {"offset": np.ones(3)}
    ),
    "text weights": Bad(("weights",), arguments=lambda: {"weights": ["a"] * N}),
    # fixed effects
    "more coefficients than rows": Bad(
        ("coefficient",),
        f"y ~ {' + '.join(WIDE)} + (1 | g)",
        lambda: frame().assign(
            **{c: np.random.default_rng(i).random(N) for i, c in enumerate(WIDE)}
        ),
    ),
    # formulas
    "no tilde": Bad(("~",), "y + x + (1 | g)"),
    "two tildes": Bad(("~", "^"), "y ~ x ~ (1 | g)"),
    "open parenthesis": Bad(("^",), "y ~ x + (1 | g"),
    "stray parenthesis": Bad(("^",), "y ~ x) + (1 | g)"),
    "missing group name": Bad(("^",), "y ~ x + (1 | )"),
    "trailing plus": Bad(("^",), "y ~ x + (1 | g) +"),
    "bar outside parentheses": Bad(("^",), "y ~ x + 1 | g"),
    "no random term": Bad(("random",), "y ~ x"),
    "term given twice": Bad(("(1 | g)",), "y ~ x + (1 | g) + (1 | g)"),
    "term given twice by argument": Bad(("'g'",), MODEL, frame, lambda: {"groups": ["g"]}),
    "response on the right": Bad(("'y'",), "y ~ x + y + (1 | g)"),
    "response as a slope": Bad(("'y'",), "y ~ x + (y | g)"),
    "response as a group": Bad(("'y'",), "y ~ x + (1 | y)"),
    # options
    "unknown method": Bad(("MLE", "REML"), arguments=lambda: {"method": "MLE"}),
    "unknown ddf": Bad(("kr2", "satterthwaite"), arguments=lambda: {"ddf": "kr2"}),
    "unknown missing": Bad(("ignore", "drop"), arguments=lambda: {"missing": "ignore"}),
    "unknown solver": Bad(("magic",), arguments=lambda: {"solver": "magic"}),
    "theta0 of the wrong length": Bad(("theta0", "1"), arguments=lambda: {"theta0": [1.0, 1.0]}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    bad = BAD[name]
    with pytest.raises(InterlaceError) as caught:
        interlace.fit(bad.formula, bad.data(), **bad.arguments())
    message = str(caught.value)
    for word in bad.says:
        assert word in message, message
    assert len(message) < 1000


def test_the_base_class_is_a_value_error() -> None:
    assert issubclass(InterlaceError, ValueError)
    assert interlace.InterlaceError is InterlaceError


def test_the_error_of_a_typo_points_at_it() -> None:
    formula = "y ~ x + (1 | )"
    with pytest.raises(InterlaceError) as caught:
        interlace.fit(formula, frame())
    lines = str(caught.value).splitlines()
    shown = next(i for i, line in enumerate(lines) if formula in line)
    caret = lines[shown + 1].index("^") - lines[shown].index(formula)
    assert 8 <= caret < len(formula)


# ------------------------------------------------------------ documented behaviour instead


def test_the_frame_itself_is_fine() -> None:
    assert interlace.fit(MODEL, frame()).converged is True


@pytest.mark.parametrize("column", ["g", "x", "y", "w"])
def test_rows_with_a_missing_value_are_dropped_and_counted(column: str) -> None:
    data = with_cell(column, 3, None)()
    result = interlace.fit(MODEL, data, weights="w")
    same = interlace.fit(MODEL, data.drop(index=3), weights="w")
    assert (result.nobs, result.n_dropped) == (N - 1, 1)
    assert result.criterion == pytest.approx(same.criterion, rel=1e-12)
    assert "1" in str(result.summary())


def test_missing_values_in_unused_columns_do_not_matter() -> None:
    assert interlace.fit(MODEL, with_cell("w", 3, np.nan)()).n_dropped == 0


def test_redundant_columns_are_dropped_with_a_warning() -> None:
    data = frame().assign(twice=lambda d: 2 * d["x"])
    with pytest.warns(RankDeficiencyWarning, match="twice|x"):
        result = interlace.fit("y ~ x + twice + (1 | g)", data)
    assert list(result.fe_params.index) == ["Intercept", "x"]
    assert result.criterion == pytest.approx(interlace.fit(MODEL, data).criterion, rel=1e-10)


@pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")
def test_slopes_on_a_factor_with_an_empty_cell() -> None:
    """No row of g0 is "high": its effect there comes from the covariance alone."""
    data = frame()[lambda d: ~((d["g"] == "g0") & (d["f"] == "high"))]
    result = interlace.fit("y ~ f + (f | g)", data)
    assert result.converged is True
    assert np.isfinite(result.random_effects["g"].loc["g0"]).all()


@pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")
def test_an_interaction_with_an_empty_cell_drops_its_column() -> None:
    data = frame()[lambda d: ~((d["h"] == "h2") & (d["f"] == "mid"))]
    with pytest.warns(RankDeficiencyWarning):
        result = interlace.fit("y ~ f * h + (1 | g)", data)
    assert len(result.fe_params) == 11
    assert np.isfinite(result.fe_bse).all()


def test_unused_categories_are_ignored() -> None:
    data = frame().assign(g=lambda d: pd.Categorical(d["g"], [*sorted(set(d["g"])), "never"]))
    result = interlace.fit(MODEL, data)
    assert result.ngroups == {"g": 10}
    assert "never" not in result.random_effects["g"].index


# ------------------------------------------------------------ prediction


def new_rows() -> pd.DataFrame:
    return frame().head(3)


@pytest.mark.parametrize(
    ("formula", "new", "says"),
    [
        (MODEL, lambda: new_rows().drop(columns="x"), ("x",)),
        (MODEL, lambda: new_rows().drop(columns="g"), ("g",)),
        ("y ~ f + (1 | g)", lambda: new_rows().assign(f="extreme"), ("f", "extreme")),
    ],
)
def test_bad_newdata_is_named(formula: str, new: Callable[[], Any], says: tuple[str, ...]) -> None:
    result = interlace.fit(formula, frame())
    with pytest.raises(InterlaceError) as caught:
        result.predict(new())
    for word in says:
        assert word in str(caught.value)


def test_missing_group_column_is_fine_without_random_effects() -> None:
    result = interlace.fit(MODEL, frame())
    new = new_rows()
    marginal = result.predict(new.drop(columns="g"), include_re=False)
    np.testing.assert_allclose(marginal, result.predict(new, include_re=False), rtol=1e-12)


def test_missing_values_in_newdata_give_nan() -> None:
    result = interlace.fit(MODEL, frame())
    predicted = result.predict(new_rows().assign(x=[0.0, np.nan, 1.0]))
    assert np.isnan(predicted).tolist() == [False, True, False]


def test_refit_wants_a_response_of_the_same_length() -> None:
    with pytest.raises(InterlaceError, match=str(N)):
        interlace.fit(MODEL, frame()).refit(np.ones(3))


# ------------------------------------------------------------------ choices


@pytest.mark.parametrize("value", ["c", None, 1, np.arange(3), ["a"], {"a": 1}, np.nan])
def test_what_is_none_of_the_choices_is_named_with_them(value: object) -> None:
    with pytest.raises(InterlaceError) as caught:
        choose("what", value, ("a", "b", "cc"), otherwise="; see there")
    assert str(caught.value) == f"what must be 'a', 'b' or 'cc', not {value!r}; see there"
    with pytest.raises(InterlaceError) as caught:
        choose("what", value, ("a", "b"), one_of=True, where=" of these")
    assert str(caught.value) == f"what must be one of 'a', 'b' of these, not {value!r}"


def test_a_choice_is_returned_as_it_stands_in_the_list() -> None:
    assert choose("what", np.str_("a"), ("a", "b")) == "a"
    assert type(choose("what", np.str_("a"), ("a", "b"))) is str
    assert choose("what", np.True_, (False, True)) is True
    assert choose("what", None, (None, "a")) is None


def test_choices_in_words() -> None:
    assert [listed(("a", "b", None)[:n]) for n in (1, 2, 3)] == [
        "'a'",
        "'a' or 'b'",
        "'a', 'b' or None",
    ]
