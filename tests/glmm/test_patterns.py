"""Rows added up by pattern give the fit of the rows themselves."""

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace.glmm import patterns, working
from interlace.glmm.patterns import found_patterns, refined


def frame(n=4000, seed=3):
    rng = np.random.default_rng(seed)
    g, x, arm = rng.integers(0, 12, n), rng.integers(0, 4, n), rng.integers(0, 3, n)
    eta = 0.3 * x - 0.4 * (arm == 1) + 0.5 * rng.normal(size=12)[g] - 0.5
    hours = rng.choice([1.0, 2.0, 5.0], n)
    size = rng.integers(1, 5, n)
    return pd.DataFrame(
        {
            "g": g.astype(str),
            "h": rng.integers(0, 3, n).astype(str),
            "x": x,
            "arm": np.array(["a", "b", "c"])[arm],
            "yes": rng.binomial(size, 1 / (1 + np.exp(-eta))),
            "size": size,
            "count": rng.poisson(np.exp(0.5 * eta) * hours),
            "hours": hours,
            "grade": np.exp(0.2 * eta) * rng.choice([1.0, 1.5, 2.0, 3.0], n),
            "score": np.round(np.exp(0.2 * eta) + rng.choice([1.0, 1.5, 2.0, 3.0], n)),
            "w": rng.choice([0.5, 1.0, 2.0], n),
        }
    )


FITS = {
    "binomial": ("yes ~ x + arm + (x | g)", {"family": "binomial", "trials": "size"}),
    "binomial, weighted": (
        "yes ~ x + arm + (1 | g) + (1 | h)",
        {"family": "binomial", "trials": "size", "link": "cloglog", "weights": "w"},
    ),
    "binomial, offset": (
        "yes ~ x + offset(0.1 * hours) + (1 | g)",
        {"family": "binomial", "trials": "size", "link": "probit"},
    ),
    "poisson": ("count ~ x + arm + (1 | g)", {"family": "poisson", "exposure": "hours"}),
    "poisson, weighted": (
        "count ~ x + (1 | g)",
        {"family": "poisson", "exposure": "hours", "weights": "w"},
    ),
    "poisson, square root": ("count ~ x + (1 | g)", {"family": "poisson", "link": "sqrt"}),
    "negative binomial": (
        "count ~ x + (1 | g)",
        {"family": "negative-binomial", "exposure": "hours"},
    ),
    "gamma": ("score ~ x + (1 | g)", {"family": "gamma", "link": "log", "weights": "w"}),
    "quadrature": (
        "yes ~ x + (1 | g)",
        {"family": "binomial", "trials": "size", "quadrature": 5},
    ),
}


@pytest.mark.filterwarnings("ignore:singular fit")
@pytest.mark.parametrize("name", FITS)
def test_patterns_give_the_fit_of_the_rows(name, monkeypatch):
    formula, options = FITS[name]
    data = frame()
    found = interlace.fit(formula, data, **options)
    monkeypatch.setattr(working, "found_patterns", lambda *_: None)
    wanted = interlace.fit(formula, data, **options)
    a, b = found.estimate, wanted.estimate
    assert a.optimum.problem.rows.n < 2000 and b.optimum.problem is b.problem
    assert found.llf == pytest.approx(wanted.llf, rel=3e-10, abs=0)
    np.testing.assert_allclose(found.fe_params, wanted.fe_params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(a.covariance, b.covariance, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.fittedvalues, wanted.fittedvalues, rtol=1e-5)
    np.testing.assert_allclose(a.evaluation.leverages, b.evaluation.leverages, rtol=1e-4, atol=1e-9)
    for left, right in zip(a.b_cov, b.b_cov, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-9)


def test_patterns_are_sought_where_they_can_be_few():
    rng = np.random.default_rng(1)
    n = 6000
    g, x = rng.integers(0, 10, n), rng.integers(0, 5, n).astype(float)
    continuous, within = rng.normal(size=n), rng.normal(size=10)[g]
    wide = rng.integers(0, 200, n) / 7.0
    assert found_patterns([g], [x, continuous]) is None
    assert found_patterns([np.arange(n), g], [x]) is None
    assert found_patterns([g[:1000]], [x[:1000]]) is None
    found = found_patterns([g], [np.ones(n), x, within])
    assert found.m == 50
    for column in (g, x, within):
        np.testing.assert_array_equal(column[found.first][found.index], column)
    np.testing.assert_array_equal(found.sums(None), np.bincount(found.index))
    assert found_patterns([g], [wide]).m == len(np.unique(g * 1000 + wide * 7))
    assert refined(found, [rng.normal(size=n)]) is None


def test_values_that_the_sample_misses_are_found(monkeypatch):
    monkeypatch.setattr(patterns, "_SAMPLE", 100)
    x = np.zeros(6000)
    x[17] = 3.0
    assert found_patterns([np.arange(6000) % 7], [x]).m == 8
