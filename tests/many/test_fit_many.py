"""Many responses at once: every one is what ``fit`` gives, and what cannot be fitted is named."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import interlace
from interlace import (
    ConvergenceWarning,
    InterlaceError,
    RankDeficiencyWarning,
    SingularFitWarning,
    fit,
    fit_many,
)
from interlace.many.pieces import shared_by
from interlace.reporting import glance, tidy
from reference import cases

# `result(name)` warns as `fit` does; singular optima are among the random ones.
pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    return interlace.datasets.load("sleepstudy")


def check_equal(many, name: str, one) -> None:
    """The rows of one response are those of its fit, to 1e-7.

    A promised gain of g leaves sqrt(2 g) standard errors: where convergence is not quadratic, two
    searches may end at a gain of 2e-12 each, and answers be 4e-6 standard errors apart.
    """
    slow = 4e-6 if one.convergence.predicted_gain > 1e-16 else 0.0
    rows = many.table[many.table["response"] == name]
    wanted = pd.concat([tidy(one, "fixed"), tidy(one, "ran_pars")])
    assert rows["term"].tolist() == wanted["term"].tolist()
    assert rows["effect"].tolist() == wanted["effect"].tolist()
    assert rows["group"].dropna().tolist() == wanted["group"].dropna().tolist()
    fixed = (rows["effect"] == "fixed").to_numpy()
    se, sigma = one.fe_bse.to_numpy(), one.estimate.sigma
    estimate, expected = (t["estimate"].to_numpy() for t in (rows, wanted))
    # To the statistical error where an estimate is nearly 0.
    z = (v[fixed] / se for v in (estimate, expected))
    assert_allclose(*z, rtol=1e-7, atol=1e-8 + slow)
    assert_allclose(rows["std.error"].to_numpy()[fixed], se, rtol=1e-7 + slow)
    # A standard deviation at its boundary is one of which the criterion sees only the square.
    sd = rows["term"].str.startswith("sd__").to_numpy()
    variances = (v[sd] ** 2 / sigma**2 for v in (estimate, expected))
    assert_allclose(*variances, rtol=1e-7 + slow, atol=1e-9 + 0.1 * slow)
    if not one.is_singular:  # of small effects they are less certain
        sure = min(1.0, float((expected[sd] ** 2 / sigma**2).min()))
        correlations = (sure * v[~fixed & ~sd] for v in (estimate, expected))
        assert_allclose(*correlations, rtol=1e-7, atol=1e-7 + slow)
    p = rows["p.value"].to_numpy()[fixed]
    assert_allclose(p, one.fe_pvalues, rtol=1e-6 + 40.0 * slow, atol=1e-300)
    row = many.glance().set_index("response").loc[name]
    whole = glance(one).iloc[0]
    for column in whole.index:
        assert_allclose(row[column], whole[column], rtol=1e-7 + slow, err_msg=column)
    assert (row["converged"], row["singular"]) == (one.converged, one.is_singular)


# ------------------------------------------------------------------ equal to fit


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("name", [c for c in cases.case_names() if "insteval" not in c])
def test_golden_models_give_the_answers_of_fit(name: str, method: str):
    case = cases.load_case(name)
    response, right = case.formula.split("~")
    response = response.strip()
    data = case.data
    y = data[response].to_numpy(dtype=float)
    rng = np.random.default_rng(1)
    others = {
        "response": y,
        "reversed": y[::-1],
        "shuffled": rng.permutation(y),
        "shifted": 1e6 + 0.01 * y,
    }
    many = fit_many(f"~{right}", data, others, method=method, **case.arguments)
    assert many.errors == {}
    for key, values in others.items():
        one = fit(case.formula, data.assign(**{response: values}), method=method, **case.arguments)
        check_equal(many, key, one)


def test_a_model_too_large_for_a_batch_is_fitted_one_by_one():
    rng = np.random.default_rng(2)
    g, h = rng.integers(0, 150, 1200), rng.integers(0, 130, 1200)
    data = pd.DataFrame({"g": g, "h": h, "x": rng.standard_normal(1200)})
    b, c = rng.standard_normal((150, 3)), rng.standard_normal((130, 3))
    Y = rng.standard_normal((1200, 3)) + b[g] + c[h]
    Y[5, 1] = np.nan
    many = fit_many("~ x + (1 | g) + (1 | h)", data, Y)
    assert not shared_by(many._model, None).model.batched
    for name, y in zip(many, Y.T, strict=True):
        check_equal(many, name, fit("y ~ x + (1 | g) + (1 | h)", data.assign(y=y)))


def test_the_iterative_solver_is_used_where_fit_uses_it(monkeypatch):
    from interlace.many import pieces

    rng = np.random.default_rng(2)
    g, h = rng.integers(0, 150, 1200), rng.integers(0, 130, 1200)
    data = pd.DataFrame({"g": g, "h": h, "x": rng.standard_normal(1200)})
    Y = rng.standard_normal((1200, 2)) + rng.standard_normal((150, 2))[g]
    Y += rng.standard_normal((130, 2))[h]
    chosen = pieces.choose_solver
    monkeypatch.setattr(pieces, "choose_solver", lambda A, _, seed: chosen(A, "iterative", seed))
    many = fit_many("~ x + (1 | g) + (1 | h)", data, Y)
    for name, y in zip(many, Y.T, strict=True):
        one = fit("y ~ x + (1 | g) + (1 | h)", data.assign(y=y), solver="iterative")
        rows = many.table[many.table["response"] == name].set_index("term")
        assert_allclose(rows["estimate"][["Intercept", "x"]], one.fe_params, rtol=1e-6)
        assert_allclose(rows["std.error"][["Intercept", "x"]], one.fe_bse, rtol=1e-6)
        assert_allclose(rows["estimate"]["sd__Observation"], one.estimate.sigma, rtol=1e-7)


MODELS = (
    "~ x + (1 | g)",
    "~ x + (x | g)",
    "~ x + (x || g)",
    "~ f + x + (1 | g) + (1 | h)",
    "~ 0 + x + (x | g) + (1 | h)",
    "~ x + (1 | h/g)",
)


@settings(max_examples=12)
@given(st.integers(0, 10_000), st.sampled_from(MODELS), st.booleans(), st.sampled_from([0.0, 0.02]))
def test_random_designs_give_the_answers_of_fit(seed: int, right: str, weighted: bool, gaps: float):
    rng = np.random.default_rng(seed)
    n, R = int(rng.integers(60, 160)), 4
    data = pd.DataFrame(
        {
            "g": rng.integers(0, 9, n),
            "h": rng.integers(0, 5, n),
            "f": rng.choice(list("abc"), n),
            "x": rng.standard_normal(n) * 10.0 ** rng.integers(0, 4) + rng.integers(0, 3),
            "w": rng.uniform(0.5, 3.0, n),
        }
    )
    data.loc[rng.random(n) < gaps, "x"] = np.nan
    x = ((data["x"] - data["x"].mean()) / data["x"].std()).fillna(0.0).to_numpy()
    effects = rng.standard_normal((9, R)), rng.standard_normal((9, R)), rng.standard_normal((5, R))
    scale = rng.choice([0.0, 0.5, 2.0], 3)
    Y = rng.standard_normal((n, R)) + scale[0] * effects[0][data["g"]]
    Y += scale[1] * x[:, None] * effects[1][data["g"]] + scale[2] * effects[2][data["h"]]
    Y[rng.random((n, R)) < gaps] = np.nan
    arguments = {"weights": "w"} if weighted else {}
    many = fit_many(right, data, Y, **arguments)
    assert many.errors == {}
    for name, y in zip(many, Y.T, strict=True):
        check_equal(many, name, fit(f"y {right}", data.assign(y=y), **arguments))


def test_offsets_and_stateful_transforms_follow_the_rows_of_each_response(sleep):
    data = sleep.assign(speed=1e4 / sleep["Reaction"], late=sleep["Days"] * 2.0)
    data.loc[[3, 50, 51], "speed"] = np.nan
    right = "~ poly(Days, 2) + (1 | Subject)"
    many = fit_many(right, data, ["Reaction", "speed"], offset="late")
    for name in many:
        check_equal(many, name, fit(f"{name} {right}", data, offset="late"))


# ------------------------------------------------------------------ missing values


def test_responses_share_cross_products_by_pattern_of_missing_rows(sleep, monkeypatch):
    rng = np.random.default_rng(3)
    Y = rng.standard_normal((180, 9)) + rng.standard_normal((18, 9))[np.repeat(range(18), 10)]
    Y[0, [1, 2]] = Y[[4], 3] = np.nan
    Y[:10, 4] = np.nan  # a whole subject
    made = []
    from interlace.many import pieces

    def counted(design):
        made.append(len(design.y))
        return original(design)

    original = pieces.cross_products
    monkeypatch.setattr(pieces, "cross_products", counted)
    many = fit_many("~ Days + (Days | Subject)", sleep, Y)
    assert made == [180, 179, 179, 170]
    assert many.glance()["nobs"].tolist() == [180, 179, 179, 179, 170, 180, 180, 180, 180]
    for i in (1, 3, 4):
        one = fit("y ~ Days + (Days | Subject)", sleep.assign(y=Y[:, i]))
        check_equal(many, f"y{i}", one)
        assert many.result(f"y{i}").ngroups == one.ngroups


def test_rows_that_the_model_leaves_out_make_no_pattern(sleep):
    data = sleep.assign(Days=sleep["Days"].where(sleep.index != 7))
    Y = np.random.default_rng(4).standard_normal((180, 2))
    Y[7, 0] = np.nan
    many = fit_many("~ Days + (1 | Subject)", data, Y)
    assert many.glance()["nobs"].tolist() == [179, 179]


def test_missing_raise_names_what_is_missing(sleep):
    Y = np.random.default_rng(5).standard_normal((180, 8))
    assert len(fit_many("~ Days + (1 | Subject)", sleep, Y, missing="raise")) == 8
    Y[3:5, 1] = np.nan
    Y[3, 2] = np.nan
    message = (
        r"^values are missing in the column 'y1' \(2 rows\), the column 'y2' \(1 rows\); "
        r"missing='drop' leaves these rows out$"
    )
    with pytest.raises(InterlaceError, match=message):
        fit_many("~ Days + (1 | Subject)", sleep, Y, missing="raise")
    Y[3] = np.nan
    with pytest.raises(InterlaceError, match=r"'y4' \(1 rows\) and 3 more; missing='drop'"):
        fit_many("~ Days + (1 | Subject)", sleep, Y, missing="raise")
    gone = sleep.assign(Days=sleep["Days"].where(sleep.index != 7))
    with pytest.raises(InterlaceError, match=r"missing in the column 'Days' \(1 rows\)"):
        fit_many("~ Days + (1 | Subject)", gone, ["Reaction"], missing="raise")


# ------------------------------------------------------------------ failures


def words_of_fit(right: str, data: pd.DataFrame, name: str) -> str:
    with pytest.raises(InterlaceError) as caught:
        fit(f"{name} {right}", data)
    return str(caught.value)


def test_what_is_wrong_with_one_response_is_said_in_the_words_of_fit(sleep):
    right = "~ Days + (1 | Subject)"
    data = sleep.assign(
        constant=3.0,
        line=2.0 * sleep["Days"],
        text=sleep["Subject"].astype(str) + "s",
        mixed=[1, "a"] * 90,
        endless=sleep["Reaction"].where(sleep.index != 8, np.inf),
        empty=np.nan,
        early=sleep["Reaction"].where(sleep.index < 10),
        nearly=np.where(sleep.index < 1, np.nan, 5.0),
    )
    bad = ["constant", "line", "text", "mixed", "endless", "empty", "early", "nearly"]
    with pytest.warns(ConvergenceWarning) as caught:
        many = fit_many(right, data, [*bad, "Reaction"])
    assert list(many.errors) == bad
    assert many.errors["constant"] == "the response 'constant' is constant (3): nothing varies"
    for name in bad:
        assert many.errors[name] == words_of_fit(right, data, name), name
        with pytest.raises(InterlaceError):
            many.result(name)
    assert str(caught[0].message) == (
        "8 of 9 responses could not be fitted (see errors); 'constant': the response 'constant' is "
        "constant (3): nothing varies"
    )
    assert caught[0].filename == __file__
    rows = many.table[many.table["response"] == "line"]
    assert len(rows) == 4 and rows[["estimate", "std.error", "p.value"]].isna().all(axis=None)
    summary = many.glance().set_index("response")
    assert summary.loc[bad, ["nobs", "sigma", "logLik", "AIC", "BIC"]].isna().all(axis=None)
    assert not summary.loc[bad, "converged"].any()
    check_equal(many, "Reaction", fit(f"Reaction {right}", sleep))
    assert repr(many) == "<ManyFits ~ Days + (1 | Subject) | REML, 9 responses, 8 failed>"


def test_a_response_that_a_group_reproduces_is_refused_as_by_fit():
    g = np.repeat(np.arange(6), 4)
    data = pd.DataFrame({"g": g, "y": np.random.default_rng(6).standard_normal(24)})
    data["flat"] = data["y"].to_numpy()[g * 4]
    with pytest.warns(ConvergenceWarning, match="1 of 2 responses"):
        many = fit_many("~ 1 + (1 | g)", data, ["flat", "y"])
    assert many.errors == {"flat": words_of_fit("~ 1 + (1 | g)", data, "flat")}


def test_a_search_that_fails_is_repeated_by_fit(sleep, monkeypatch):
    from interlace.batch import fits

    original = fits.minimize_many

    def stopped(problem, start, **options):
        found = original(problem, start, **options)
        found.outcome[1] = 1
        return found

    monkeypatch.setattr(fits, "minimize_many", stopped)
    Y = np.column_stack([sleep["Reaction"], sleep["Reaction"][::-1], 1e4 / sleep["Reaction"]])
    many = fit_many("~ Days + (Days | Subject)", sleep, Y)
    assert many.errors == {} and many.table["response"].drop_duplicates().tolist() == list(many)
    check_equal(many, "y1", fit("y ~ Days + (Days | Subject)", sleep.assign(y=Y[:, 1])))


def test_fits_that_do_not_converge_are_named(sleep, monkeypatch):
    from dataclasses import replace

    from interlace.batch import refits
    from interlace.many import pieces

    monkeypatch.setattr(refits, "worth_a_batch", lambda A: False)
    original = pieces.estimate_theta

    def unsettled(criterion):
        found = original(criterion)
        return replace(found, convergence=replace(found.convergence, converged=False))

    monkeypatch.setattr(pieces, "estimate_theta", unsettled)
    with pytest.warns(ConvergenceWarning, match=r"^2 of 2 fits did not converge: y0, y1$"):
        many = fit_many("~ Days + (1 | Subject)", sleep, np.random.default_rng(0).random((180, 2)))
    assert many.errors == {} and not many.glance()["converged"].any()
    assert "2 not converged" in repr(many)


def test_what_is_wrong_with_the_model_is_raised(sleep):
    with pytest.raises(InterlaceError, match="grouping factor 'all' has one level"):
        fit_many("~ Days + (1 | all)", sleep.assign(all=1), ["Reaction"])
    with pytest.raises(InterlaceError, match="no column 'Dais'; did you mean 'Days'"):
        fit_many("~ Dais + (1 | Subject)", sleep, ["Reaction"])
    with pytest.raises(InterlaceError, match="no column 'Subjct'; did you mean 'Subject'"):
        fit_many("~ Days", sleep, ["Reaction"], groups="Subjct")
    with pytest.raises(InterlaceError, match="no random term"):
        fit_many("~ Days", sleep, ["Reaction"])
    with pytest.raises(InterlaceError, match="the data has no rows"):
        fit_many("~ Days + (1 | Subject)", sleep.iloc[:0], ["Reaction"])


def test_dropped_columns_are_named_once(sleep):
    data = sleep.assign(twice=2.0 * sleep["Days"], other=sleep["Reaction"][::-1].to_numpy())
    message = r"^the fixed effects are rank deficient for 2 of 2 responses; dropped: twice$"
    with pytest.warns(RankDeficiencyWarning, match=message) as caught:
        many = fit_many("~ Days + twice + (1 | Subject)", data, ["Reaction", "other"])
    assert len(caught) == 1
    assert many.table["term"].tolist()[:2] == ["Intercept", "Days"] and len(many.table) == 8


# ------------------------------------------------------------------ arguments


def test_a_name_left_holds_the_place_of_the_responses(sleep):
    left = fit_many("y ~ Days + (1 | Subject)", sleep, ["Reaction"])
    assert left.table.equals(fit_many("~ Days + (1 | Subject)", sleep, ["Reaction"]).table)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("log(Reaction) ~ Days + (1 | Subject)", "must begin with '~', or with a name"),
        ("Days + (1 | Subject)", "must begin with '~'"),
        (3, "the formula must be text, not int"),
    ],
)
def test_the_formula_has_no_response(sleep, formula, message):
    with pytest.raises(InterlaceError, match=message):
        fit_many(formula, sleep, ["Reaction"])


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        ("Reaction", r"^responses must be a list of names: \['Reaction'\]$"),
        (["Reactoin"], r"^the data has no column 'Reactoin'; did you mean 'Reaction'\?$"),
        (["Reaction", "Reaction"], "^the response 'Reaction' is named twice$"),
        ([], "^responses is empty: name at least one$"),
        ([3], "^the names of responses must be text, not 3$"),
        (7, r"^responses must be names of columns, a frame or an array \(n, R\), not int$"),
        (["Reaction", "Days"], "the response 'Days' cannot be a predictor or a group too"),
        (["Subject"], "the response 'Subject' cannot be a predictor or a group too"),
        (np.zeros((10, 2)), "^the responses have 10 rows, but the data 180$"),
        (np.zeros((180, 0)), "^responses is empty"),
        ({"a": np.zeros(9)}, "^the responses have 9 rows, but the data 180$"),
        (pd.DataFrame({0: np.zeros(180)}), "^the names of responses must be text, not 0$"),
        ({"a`b": np.zeros(180)}, "^a response named 'a`b' cannot stand in a formula: rename it$"),
        ({"1": np.zeros(180)}, "^a response named '1' cannot stand in a formula: rename it$"),
    ],
)
def test_responses_that_cannot_be_used(sleep, responses, message):
    with pytest.raises(InterlaceError, match=message):
        fit_many("~ Days + (1 | Subject)", sleep, responses)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"method": "OLS"}, "^method must be 'REML' or 'ML', not 'OLS'$"),
        ({"missing": "keep"}, "^missing must be 'drop' or 'raise', not 'keep'$"),
        ({"n_jobs": 0}, "^n_jobs must be a positive integer or -1, not 0$"),
        ({"weights": np.ones(3)}, "^weights has 3 values, but the data 180 rows$"),
    ],
)
def test_arguments_out_of_range(sleep, argument, message):
    with pytest.raises(InterlaceError, match=message):
        fit_many("~ Days + (1 | Subject)", sleep, ["Reaction"], **argument)


def test_responses_of_every_kind_of_container(sleep):
    data = sleep.assign(other=sleep["Reaction"][::-1].to_numpy())
    names = ["Reaction", "other"]
    wanted = fit_many("~ Days + (1 | Subject)", data, names).table
    values = data[names]
    for responses in (values, values.sample(frac=1).sort_index(), pl.DataFrame(values)):
        found = fit_many("~ Days + (1 | Subject)", sleep, responses)
        pd.testing.assert_frame_equal(found.table, wanted)
    for kind in (pl.DataFrame, pa.Table.from_pandas, dict):
        found = fit_many("~ Days + (1 | Subject)", kind(data), pd.Index(names))
        pd.testing.assert_frame_equal(found.table, wanted)
        assert found.result("other").nobs == 180
    array = fit_many("~ Days", sleep, values.to_numpy(), groups="Subject")
    assert list(array) == ["y0", "y1"]
    assert_allclose(array.table["estimate"], wanted["estimate"])
    random = fit_many("~ Days", sleep, values.to_numpy(), random="(1 | Subject)")
    pd.testing.assert_frame_equal(random.table, array.table)


@pytest.mark.parametrize("kind", ["int64", "Int64", "float32", "bool", "object"])
def test_responses_of_every_kind_of_number(sleep, kind):
    y = (sleep["Reaction"] > 300).astype("int64")
    data = sleep.assign(y=y.astype(kind), z=sleep["Reaction"])
    many = fit_many("~ Days + (1 | Subject)", data, ["y", "z"])
    check_equal(many, "y", fit("y ~ Days + (1 | Subject)", data))


def test_names_that_python_could_not_hold(sleep):
    y = sleep["Reaction"]
    data = sleep.assign(**{"HLA-A": y, "gene 1": y, "class": y, "a:b": y, "y~z": y})
    many = fit_many("~ Days + (1 | Subject)", data, ["HLA-A", "gene 1", "class", "a:b", "y~z"])
    wanted = fit("Reaction ~ Days + (1 | Subject)", sleep)
    for name in many:
        check_equal(many, name, wanted)
        assert many.result(name).criterion == wanted.criterion


# ------------------------------------------------------------------ the result


def test_the_result_of_one_response_is_its_fit(sleep):
    data = sleep.assign(speed=1e4 / sleep["Reaction"])
    many = fit_many("~ Days + (Days | Subject)", data, ["Reaction", "speed"], method="ML")
    one, wanted = many.result("speed"), fit("speed ~ Days + (Days | Subject)", data, method="ML")
    assert one.criterion == wanted.criterion and one.theta.tolist() == wanted.theta.tolist()
    assert one.data.equals(data) and str(one.formula) == str(wanted.formula)
    assert one.update(method="REML").method == "REML"
    frame = fit_many("~ Days + (Days | Subject)", sleep, data[["speed"]], method="ML")
    assert frame.result("speed").criterion == wanted.criterion
    assert frame.result("speed").augment()["speed"].tolist() == data["speed"].tolist()
    with pytest.raises(InterlaceError, match="there is no response 'sped'; did you"):
        many.result("sped")


def test_a_collection_of_names(sleep):
    many = fit_many("~ Days + (Days | Subject)", sleep, ["Reaction"])
    assert list(many) == ["Reaction"] and len(many) == 1
    assert "Reaction" in many and "Days" not in many
    assert repr(many) == "<ManyFits ~ Days + (1 + Days | Subject) | REML, 1 response>"
    assert many.table.columns.tolist() == [
        "response", "effect", "group", "term", "estimate", "std.error", "statistic", "p.value",
    ]  # fmt: skip
    mine = many.glance()
    mine["sigma"] = 0.0
    assert many.glance()["sigma"].item() > 25
    with pytest.raises(AttributeError):
        many.names = ()


def test_singular_fits_are_counted_and_flagged():
    data = pd.DataFrame({"g": np.repeat(np.arange(8), 5)})
    Y = np.random.default_rng(9).standard_normal((40, 30))
    many = fit_many("~ 1 + (1 | g)", data, Y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SingularFitWarning)
        singular = [fit("y ~ 1 + (1 | g)", data.assign(y=y)).is_singular for y in Y.T]
    assert 5 < sum(singular) < 30 and len(caught) == sum(singular)
    assert many.glance()["singular"].tolist() == singular
    assert many.n_singular == sum(singular)
    assert f"{sum(singular)} singular" in repr(many)


def test_processes_change_nothing(sleep):
    Y = np.random.default_rng(7).standard_normal((180, 6))
    Y[0, 2] = Y[1, 3] = np.nan
    Y[:, 5] = 1.0
    found = []
    for n_jobs in (1, 2):
        with pytest.warns(ConvergenceWarning, match="'y5' is constant"):
            found.append(fit_many("~ Days + (Days | Subject)", sleep, Y, n_jobs=n_jobs))
    pd.testing.assert_frame_equal(found[0].table, found[1].table)
    pd.testing.assert_frame_equal(found[0].glance(), found[1].glance())
    assert found[0].errors == found[1].errors


def test_an_answer_does_not_depend_on_its_neighbours(sleep):
    Y = np.random.default_rng(8).standard_normal((180, 50)) + sleep["Days"].to_numpy()[:, None]
    whole = fit_many("~ Days + (Days | Subject)", sleep, Y).table["estimate"].to_numpy()
    alone = fit_many("~ Days + (Days | Subject)", sleep, Y[:, 49:]).table["estimate"].to_numpy()
    assert_allclose(whole[-len(alone) :], alone, rtol=1e-6, atol=1e-9)


def test_progress_counts_responses(sleep, capsys):
    fit_many("~ Days + (1 | Subject)", sleep, ["Reaction"], progress=True)
    assert "fit_many: 100%" in capsys.readouterr().err
    fit_many("~ Days + (1 | Subject)", sleep, ["Reaction"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("seed", [0, 1, 42, 123])
def test_columns_drawn_first_from_a_seed_are_no_noise_that_stands_in(seed: int) -> None:
    """Random numbers stand in for the response; made-up columns must not be the same ones."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": rng.standard_normal(60), "g": np.repeat(np.arange(10), 6)})
    frame["y"] = frame["x"] + rng.normal(size=60)
    found = fit_many("~ x + (1 | g)", frame, ["y"])
    alone = fit("y ~ x + (1 | g)", frame)
    assert not found.errors
    assert found.table.set_index("term").loc["x", "estimate"] == pytest.approx(
        alone.fe_params["x"], rel=1e-6
    )
