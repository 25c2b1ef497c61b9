"""New responses of generalised models: their moments, and fits to them from the fit."""

import warnings

import numpy as np
import pandas as pd
import pytest

import interlace
from glmm.cases import CASES, fitted, load
from interlace import InterlaceError

EVERY = pytest.mark.parametrize("index", range(2, len(CASES)), ids=[c.file for c in CASES[2:]])


@EVERY
def test_columns_depend_on_their_number_and_the_seed_alone(index):
    result = fitted(index)
    drawn = result.simulate(20, seed=1)
    assert drawn.shape == (result.nobs, 20)
    np.testing.assert_array_equal(drawn[:, :18], result.simulate(18, seed=1))
    assert not np.array_equal(drawn, result.simulate(20, seed=2))


@EVERY
def test_draws_at_the_modes_have_the_fitted_means(index):
    result = fitted(index)
    drawn = result.simulate(400, seed=3, include_re=True)
    trials = result.estimate.problem.trials
    mean = drawn.mean(axis=1) / trials
    error = np.maximum(drawn.std(axis=1), 1e-3) / trials / 20
    assert np.mean(np.abs(mean - result.fittedvalues) < 4 * error) > 0.98


def test_draws_of_new_effects_have_the_means_of_the_population():
    for index in (4, 6):
        result = fitted(index)
        drawn = result.simulate(800, seed=5)
        trials = result.estimate.problem.trials
        expected = result.predict(include_re="integrated")
        assert drawn.mean() == pytest.approx((expected * trials).mean(), rel=0.04)


@EVERY
def test_a_refit_from_the_fit_is_a_fit_from_the_start(index):
    case, result = CASES[index], fitted(index)
    y = result.simulate(1, seed=7)[:, 0]
    data = load(case.data).copy()
    name = case.formula.split(" ~ ")[0]
    data[name] = y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = result.refit(y)
        fresh = interlace.fit(case.formula, data, **case.options)
    assert again.criterion == pytest.approx(fresh.criterion, abs=1e-7)
    np.testing.assert_allclose(again.fe_params, fresh.fe_params, atol=1e-5 * fresh.fe_bse.max())
    same = result.refit(result.estimate.problem.y)
    assert same.convergence.n_evaluations <= 2
    assert same.criterion == pytest.approx(result.criterion, abs=1e-8)


def test_binomial_responses_are_refitted_from_counts_and_proportions():
    result = fitted(4)
    y = result.estimate.problem.y
    counts, shares = result.refit(y), result.refit(y / result.estimate.problem.trials)
    assert counts.llf == shares.llf == pytest.approx(result.llf)
    series = pd.Series(y, index=load("cbpp_x").index)[::-1]
    assert result.refit(series).llf == pytest.approx(result.llf)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y[:-1], "shape"),
        (lambda y: y + 100.0, "exceeds trials 'size'"),
        (lambda y: y - 1.0, "cannot be negative"),
        (lambda y: 0.0 * y, "is 0 in every row"),
        (lambda y: np.where(y > 3, np.nan, y), "the new response is nan in row"),
        (lambda y: list("ab"), "must be numbers"),
    ],
)
def test_responses_that_the_family_cannot_have_are_refused(change, message):
    result = fitted(4)
    with pytest.raises(InterlaceError, match=message):
        result.refit(change(result.estimate.problem.y))


def test_draws_beyond_a_bounded_link_are_refused():
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"g": np.repeat(np.arange(30), 10)})
    data["y"] = rng.poisson((3.0 + 1.5 * rng.normal(size=30)).clip(0.1)[data["g"]])
    result = interlace.fit("y ~ 1", data, groups="g", family="poisson", link="identity")
    with pytest.raises(InterlaceError, match="link='identity' gives no mean"):
        result.simulate(200, seed=1)
    assert result.simulate(5, seed=1, include_re=True).min() >= 0
