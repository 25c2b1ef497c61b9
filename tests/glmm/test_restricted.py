"""REML of generalised models: gradients, the Gaussian case, verbs, and what is refused."""

import warnings

import numpy as np
import pytest

import interlace
from glmm.cases import load
from glmm.models import FAMILY_LINKS, STRUCTURES, gradient_error, name_of, point, problem
from glmm.test_wider import GOLDEN, fitted
from interlace import InterlaceError
from interlace.glmm.estimate import estimate_general
from interlace.glmm.families import Gaussian
from interlace.glmm.laplace import zeros
from interlace.glmm.restricted import RestrictedLaplace

RESTRICTED = [name for name in GOLDEN if name.startswith("reml")]
CBPP = "incidence ~ period + (1 | herd)"
BINOMIAL = {"family": "binomial", "trials": "size"}


@pytest.mark.parametrize("singular", [False, True], ids=["regular", "singular"])
@pytest.mark.parametrize("index", range(len(FAMILY_LINKS)), ids=map(name_of, FAMILY_LINKS))
def test_gradient_is_that_of_the_criterion(index, singular):
    family = FAMILY_LINKS[index]
    for i in ((2 * index) % 6, (2 * index + 1) % 6):
        made = problem(family, STRUCTURES[i], seed=i, weighted=i % 2 == 1)
        x = point(made, np.random.default_rng(i), singular)
        assert gradient_error(RestrictedLaplace(), made, x) < 1e-8, STRUCTURES[i]


@pytest.mark.parametrize("structure", ["slope", "crossed"])
def test_it_is_reml_where_the_response_is_gaussian(structure):
    made = problem(Gaussian(), structure, seed=2)
    found = estimate_general(made, RestrictedLaplace())
    rows = made.rows
    Z = [np.ones((rows.n, 1)) if z is None else z for z in rows.Z]
    V = np.exp(found.gamma[0]) * np.eye(rows.n)
    for codes, z, B, S in zip(rows.codes, Z, rows.random, found.covariances, strict=True):
        own = z @ np.linalg.solve(B, np.eye(len(B)))
        V += (own @ S @ own.T) * (codes[:, None] == codes)
    X = rows.X @ np.linalg.inv(rows.fixed)
    VX = np.linalg.solve(V, X)
    beta = np.linalg.solve(X.T @ VX, VX.T @ made.y)
    r = made.y - X @ beta
    logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ VX)[1]
    value = logs + r @ np.linalg.solve(V, r) + (rows.n - rows.p) * np.log(2.0 * np.pi)
    assert found.convergence.converged
    assert found.value == pytest.approx(value, abs=1e-8)
    np.testing.assert_allclose(found.beta, beta, rtol=1e-7)


def test_units_of_columns_do_not_move_the_optimum():
    ticks = interlace.datasets.load("grouseticks")
    ticks["km"] = ticks["cHEIGHT"] / 1000.0
    near, far = (
        interlace.fit(
            f"TICKS ~ YEAR + {name} + (1 | BROOD)", ticks, family="poisson", method="REML"
        )
        for name in ("cHEIGHT", "km")
    )
    # The prior of a coefficient is flat in its units: the criterion moves by their logarithm.
    assert far.criterion == pytest.approx(near.criterion - 2.0 * np.log(1000.0), abs=1e-6)
    assert far.fe_params["km"] == pytest.approx(1000.0 * near.fe_params["cHEIGHT"], rel=1e-6)
    np.testing.assert_allclose(far.theta, near.theta, rtol=1e-6)


@pytest.mark.parametrize("name", ["reml_binomial_cbpp", "reml_nbinom2", "reml_zip"])
def test_fixed_effects_are_at_the_joint_mode(name):
    estimate = fitted(name).estimate
    g = estimate.evaluation.mode.curve.g
    assert np.abs(estimate.problem.rows.X.T @ g).max() < 1e-5
    assert estimate.evaluation.value == pytest.approx(fitted(name).criterion, abs=1e-8)
    again = RestrictedLaplace()(estimate.problem, estimate.at, zeros(estimate.problem))
    assert again.value == pytest.approx(estimate.value, abs=1e-7)


def test_comparisons_refit_by_maximum_likelihood():
    data = load("cbpp_x")
    small = interlace.fit("incidence ~ 1 + (1 | herd)", data, method="REML", **BINOMIAL)
    large = interlace.fit(CBPP, data, method="REML", **BINOMIAL)
    by_ml = [m.update(method="ML") for m in (small, large)]
    table = interlace.anova(small, large)
    assert "have been refitted by ML" in str(table)
    expected = 2.0 * (by_ml[1].llf - by_ml[0].llf)
    assert table.table["Chisq"].iloc[1] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(InterlaceError, match="REML criteria of models with different fixed"):
        interlace.anova(small, large, refit=False)
    with pytest.raises(InterlaceError, match="REML and ML fits cannot be compared"):
        interlace.anova(by_ml[0], large, refit=False)
    assert list(interlace.compare(small, large)["method"]) == ["ML", "ML"]
    crossed = fitted("reml_poisson_crossed")
    plain = crossed.update("calls ~ ft + sex + offset(logBroodSize) + (1 | Nest)")
    assert list(interlace.compare(crossed, plain)["method"]) == ["REML", "REML"]
    ratio = interlace.anova(crossed, plain, refit=False).table["Chisq"].iloc[1]
    assert ratio == pytest.approx(plain.criterion - crossed.criterion, abs=1e-7)
    assert crossed.ranova()["LRT"].iloc[2] == pytest.approx(ratio, abs=1e-5)


def test_without_random_effects_only_fixed_ones_are_integrated_over():
    result = fitted("reml_binomial_cbpp")
    lrt = result.ranova()["LRT"].iloc[1]
    X, y = result.design.X, result.estimate.problem
    beta = np.zeros(X.shape[1])
    for _ in range(30):
        p = 1.0 / (1.0 + np.exp(-X @ beta))
        H = X.T @ ((y.trials * p * (1.0 - p))[:, None] * X)
        beta = beta + np.linalg.solve(H, X.T @ (y.y - y.trials * p))
    l = (y.y * np.log(p) + (y.trials - y.y) * np.log(1.0 - p)).sum() + y.constant
    value = -2.0 * l + np.linalg.slogdet(H)[1] - len(beta) * np.log(2.0 * np.pi)
    assert result.criterion + lrt == pytest.approx(value, abs=1e-8)


@pytest.mark.parametrize("name", ["reml_binomial_cbpp", "reml_zip"])
def test_verbs_take_it(name):
    result = fitted(name)
    assert "Restricted log-likelihood" in str(result.summary())
    assert "REML: Laplace, over the fixed effects too" in str(result.summary())
    assert "REMLcrit" in result.glance().columns
    by_ml = result.update(method="ML")
    parm = result.fe_params.index[1]
    np.testing.assert_allclose(
        result.conf_int(method="profile", parm=parm),
        by_ml.conf_int(method="profile", parm=parm),
        rtol=1e-5,
    )
    again = result.refit(
        result.design.y * (result.estimate.problem.trials if "cbpp" in name else 1)
    )
    assert again.criterion == pytest.approx(result.criterion, abs=1e-7)
    frame = result.predict(se=True)
    assert (frame["se"] > 0.0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        replicates = result.bootstrap(3, seed=1)
    assert np.isfinite(replicates.replicates.to_numpy()).all()
    with pytest.raises(InterlaceError, match="robust covariance of a generalised model is for max"):
        result.cov_params(robust="CR0")
    with pytest.raises(InterlaceError, match="quadrature is for maximum likelihood"):
        interlace.check_approximation(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "ordinal"}, "it would depend on where columns have their zero"),
        ({**BINOMIAL, "quadrature": 5}, "quadrature=5 is for maximum likelihood"),
        ({**BINOMIAL, "fixed_prior": 2.0}, "fixed_prior= is for maximum likelihood"),
    ],
)
def test_what_reml_does_not_have_is_refused(options, message):
    with pytest.raises(InterlaceError, match=message):
        interlace.fit(CBPP, load("cbpp_x"), method="REML", **options)
