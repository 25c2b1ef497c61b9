"""Residuals of generalised models against lme4's and glmmTMB's, and what they should look like."""

import numpy as np
import pytest
from scipy import stats

from glmm.cases import CASES, fitted, golden
from interlace import InterlaceError
from interlace.families import NegativeBinomial
from interlace.glmm.laws import law_of, quantile
from interlace.glmm.names import FAMILIES

MEAN, SIZE = np.array([0.2, 0.7, 0.95]), 1.7
LAWS = {
    "binomial": stats.binom(9, MEAN),
    "poisson": stats.poisson(MEAN),
    "negative-binomial": stats.nbinom(SIZE, SIZE / (SIZE + MEAN)),
    "nbinom1": stats.nbinom(MEAN / SIZE, 1 / (1 + SIZE)),
    "gamma": stats.gamma(1 / SIZE, scale=MEAN * SIZE),
    "inverse-gaussian": stats.invgauss(MEAN * SIZE, scale=1 / SIZE),
    "beta": stats.beta(MEAN * SIZE, (1 - MEAN) * SIZE),
    "gaussian": stats.norm(MEAN, SIZE**0.5),
}
KNOWN = {**FAMILIES, "nbinom1": NegativeBinomial(kind=1)}


@pytest.mark.parametrize("index", range(len(CASES)), ids=[c.file for c in CASES])
def test_residuals_are_the_reference_s(index):
    result, g = fitted(index), golden(CASES[index].file)
    rows = g.get("rows", g)
    at = np.array(rows["obs_index_1based"]) - 1
    checked = [name for name in rows if name.startswith("resid_")]
    assert len(checked) >= 2
    for name in checked:
        own = result.residuals(name.split("_")[1])[at]
        np.testing.assert_allclose(own, rows[name], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(result.residuals(), result.resid)
    if "deviance_residual" in g:
        assert (result.residuals("deviance") ** 2).sum() == pytest.approx(g["deviance_residual"])


@pytest.mark.parametrize("name", LAWS)
def test_laws_are_scipy_s(name):
    law, exact = law_of(KNOWN[name], MEAN, 9.0 if name == "binomial" else 1.0, SIZE), LAWS[name]
    for y in (exact.rvs(random_state=s).astype(float) for s in range(20)):
        np.testing.assert_allclose(law.cdf(y), exact.cdf(y), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(law.sf(y), exact.sf(y), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(law.variance, exact.var())
    for p in (0.01, 0.3, 0.975):
        np.testing.assert_allclose(quantile(law.cdf, p, law.support, law), exact.ppf(p), rtol=1e-7)
    many = law_of(KNOWN[name], np.repeat(MEAN, 4000), law.trials[0], SIZE)
    drawn = many.draw(np.random.default_rng(2)).reshape(3, 4000)
    error = np.sqrt(exact.var() / 4000)
    assert (np.abs(drawn.mean(axis=1) - exact.mean()) < 4 * error).all()


@pytest.mark.parametrize("name", LAWS)
def test_deviances_are_what_the_likelihood_lacks_of_its_largest_value(name):
    family, y = KNOWN[name], np.array([0.3, 0.6, 0.9])
    if name in ("binomial", "poisson", "negative-binomial", "nbinom1"):
        y = np.array([0.0, 1.0, 7.0])
    trials = np.full(3, 9.0 if name == "binomial" else 1.0)
    law = law_of(family, MEAN, trials, SIZE)
    grid = np.concatenate([np.linspace(-14, 6, 20001), family.link.to_eta(MEAN)])
    if name == "gaussian":
        grid = np.linspace(-1, 2, 20001)
    K = len(family.predictors)
    for i in range(3):
        rows = np.ones(len(grid))
        omega = np.full((K, len(grid)), np.log(SIZE))
        l = family.curve(y[i] * rows, trials[i] * rows, grid, omega).l
        own = family.curve(
            y[i : i + 1], trials[i : i + 1], family.link.to_eta(MEAN[i : i + 1]), omega[:, :1]
        ).l[0]
        scale = SIZE if name in ("gamma", "inverse-gaussian", "gaussian") else 1.0
        assert law.deviance(y)[i] == pytest.approx(2 * scale * (l.max() - own), abs=1e-4)


@pytest.mark.parametrize("index", [3, 6, 8, 11], ids=lambda i: CASES[i].file)
def test_drawn_residuals_of_drawn_responses_look_as_they_should(index):
    result = fitted(index)
    drawn = result.refit(result.simulate(1, seed=4)[:, 0])
    quantiles, ranks = drawn.residuals("quantile"), drawn.residuals("simulated", nsim=150)
    assert stats.kstest(quantiles, "norm").pvalue > 1e-3
    assert stats.kstest(ranks, "uniform").pvalue > 1e-3
    np.testing.assert_array_equal(quantiles, drawn.residuals("quantile"))
    random = law_of(result.family, MEAN, 1.0, SIZE).support == "counts"
    assert random != np.array_equal(quantiles, drawn.residuals("quantile", seed=1))
    given = drawn.residuals("simulated", nsim=50, include_re=True)
    assert ((given > 0) & (given < 1)).all()


def test_what_is_refused():
    result = fitted(0)
    with pytest.raises(InterlaceError, match="type must be one of 'response', 'pearson'"):
        result.residuals("anscombe")
    with pytest.raises(InterlaceError, match="include_re is for type='simulated'"):
        result.residuals("quantile", include_re=False)
    with pytest.raises(InterlaceError, match="nsim must be a positive integer"):
        result.residuals("simulated", nsim=0)
