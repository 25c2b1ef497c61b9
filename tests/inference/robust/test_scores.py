"""Robust covariances of generalised models against sandwiches by brute force.

Log-likelihoods of clusters are written down here from nothing: an integral by quadrature, or
Laplace's approximation with a dense search for the mode; their derivatives are differences.
"""

import functools
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import interlace
from interlace import InterlaceError
from interlace.inference.robust.clusters import clusters_of
from interlace.inference.robust.scores import cluster_scores


def sandwich(parts, x, p, step):
    """Robust covariance of the first ``p`` of the parameters ``x`` of ``m`` log-likelihoods."""

    def gradient(at):
        columns = []
        for h in step * np.eye(len(x)):
            values = [parts(at + k * h) for k in (-2, -1, 1, 2)]
            columns.append((values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step))
        return np.stack(columns, axis=1)

    scores = gradient(x)
    H = -np.stack(
        [
            (gradient(x + h) - gradient(x - h)).sum(axis=0) / (2 * step)
            for h in step * np.eye(len(x))
        ]
    )
    bread = np.linalg.inv(0.5 * (H + H.T))
    return (bread @ scores.T @ scores @ bread)[:p, :p]


def laplace(derivatives, eta, A):
    """Laplace's log-likelihood of clusters ``(m,)`` with predictors ``eta + A u``, u normal.

    ``derivatives`` of the predictors ``(m, n)`` are the log-likelihood, its slope and curvature.
    """
    u = np.zeros((len(A), A.shape[2]))
    for _ in range(30):
        _, g, W = derivatives(eta + np.einsum("mnk,mk->mn", A, u))
        H = np.eye(A.shape[2]) + A.transpose(0, 2, 1) @ (W[:, :, None] * A)
        u = u + np.linalg.solve(H, (np.einsum("mnk,mn->mk", A, g) - u)[:, :, None])[:, :, 0]
    log, _, W = derivatives(eta + np.einsum("mnk,mk->mn", A, u))
    H = np.eye(A.shape[2]) + A.transpose(0, 2, 1) @ (W[:, :, None] * A)
    return log.sum(axis=1) - 0.5 * (u**2).sum(axis=1) - 0.5 * np.linalg.slogdet(H)[1]


def test_quadrature_against_integrals():
    cbpp = interlace.datasets.load("cbpp")
    result = interlace.fit(
        "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size", quadrature=25
    )
    X = np.column_stack([np.ones(len(cbpp)), *(cbpp["period"].astype(str) == q for q in "234")])
    y, n = cbpp["incidence"].to_numpy(), cbpp["size"].to_numpy()
    u = np.linspace(-9.0, 9.0, 721)
    log_weights = stats.norm.logpdf(u) + np.log(u[1] - u[0])  # as good as exact for these
    own = np.stack([cbpp["herd"].to_numpy() == h for h in pd.unique(cbpp["herd"])]).astype(float)

    def parts(x):
        eta = (X @ x[:4])[:, None] + x[4] * u
        rows = y[:, None] * eta - n[:, None] * np.logaddexp(0.0, eta)
        return special.logsumexp(own @ rows + log_weights, axis=1)

    expected = sandwich(parts, np.append(result.fe_params, result.theta), 4, 1e-3)
    found = result.cov_params(robust="CR0", cluster="herd").to_numpy()
    np.testing.assert_allclose(found, expected, rtol=5e-5, atol=2e-6)
    more = {"CR1": 15 / 14, "CR1S": 15 / 14 * 55 / 52}
    for kind, factor in more.items():
        np.testing.assert_allclose(result.cov_params(robust=kind), factor * found, rtol=1e-12)


def test_laplace_with_slopes_and_a_dispersion():
    rng = np.random.default_rng(6)
    g, x = np.repeat(np.arange(14), 6), np.tile(np.linspace(-1.0, 1.0, 6), 14)
    b = rng.standard_normal((14, 2)) @ [[0.4, 0.1], [0.0, 0.3]]
    mean = np.exp(0.5 + 0.4 * x + b[g, 0] + b[g, 1] * x)
    data = pd.DataFrame({"g": g, "x": x, "y": rng.gamma(6.0, mean / 6.0)})
    result = interlace.fit("y ~ x + (x | g)", data, family="gamma", link="log")
    T = result.estimate.user_templates[0]
    start = np.array([*result.fe_params, T[0, 0], T[1, 0], T[1, 1], np.log(result.dispersion)])

    y, Z = data["y"].to_numpy().reshape(14, 6), np.stack([np.ones(84), x], axis=1)

    def parts(p):
        shape, L = np.exp(-p[5]), np.array([[p[2], 0.0], [p[3], p[4]]])
        constant = shape * np.log(shape * y) - np.log(y) - special.gammaln(shape)

        def derivatives(eta):
            a = shape * y * np.exp(-eta)
            return constant - shape * eta - a, a - shape, a

        return laplace(derivatives, (Z @ p[:2]).reshape(14, 6), (Z @ L).reshape(14, 6, 2))

    assert parts(start).sum() == pytest.approx(result.llf, abs=1e-6)
    expected = sandwich(parts, start, 2, 2e-3)
    np.testing.assert_allclose(
        result.cov_params(robust="CR0", cluster="g"), expected, rtol=5e-5, atol=2e-6
    )


@functools.cache
def nested():
    """Rows in pupils in schools, counts."""
    rng = np.random.default_rng(3)
    school, pupil = np.repeat(np.arange(8), 12), np.repeat(np.arange(32), 3)
    x = rng.standard_normal(96)
    eta = (
        0.3 + 0.3 * x + 0.5 * rng.standard_normal(8)[school] + 0.4 * rng.standard_normal(32)[pupil]
    )
    data = pd.DataFrame({"school": school, "pupil": pupil, "x": x, "y": rng.poisson(np.exp(eta))})
    return data, interlace.fit("y ~ x + (1 | school / pupil)", data, family="poisson")


def test_nested_factors_by_the_outer_one():
    data, result = nested()
    x, y = data["x"].to_numpy(), data["y"].to_numpy()
    order = [t.group for t in result.estimate.A.terms]
    sd = dict(zip(order, result.theta, strict=True))

    A = np.zeros((8, 12, 5))
    A[:, :, 0] = 1.0
    A[:, np.arange(12), 1 + np.arange(12) // 3] = 1.0

    def derivatives(eta):
        own = y.reshape(8, 12)
        return own * eta - np.exp(eta) - special.gammaln(own + 1), own - np.exp(eta), np.exp(eta)

    def parts(p):
        return laplace(derivatives, (p[0] + p[1] * x).reshape(8, 12), A * p[[2, 3, 3, 3, 3]])

    at = np.array([*result.fe_params, sd["school"], sd["school:pupil"]])
    expected = sandwich(parts, at, 2, 2e-3)
    found = result.cov_params(robust="CR0")
    np.testing.assert_allclose(found, expected, rtol=5e-5, atol=2e-6)
    given = result.cov_params(robust="CR0", cluster=data["school"].to_numpy())
    np.testing.assert_allclose(found, given, rtol=1e-12)


def test_scores_add_up_to_nothing():
    """At the optimum the gradient of the sum is zero."""
    _, result = nested()
    scores = cluster_scores(result.estimate, clusters_of(result, None)[0])
    assert np.abs(scores.sum(axis=0)).max() < 1e-4 * np.abs(scores).max()


def test_without_random_effects_it_is_that_of_a_generalised_linear_model():
    """Where the variance is zero: the sandwich of weighted residuals, by matrices."""
    rng = np.random.default_rng(2)
    g, x = np.repeat(np.arange(20), 4), rng.standard_normal(80)
    data = pd.DataFrame({"g": g, "x": x, "y": 0})
    for seed in range(50):
        y = np.random.default_rng(seed).poisson(np.exp(0.4 + 0.3 * x))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = interlace.fit("y ~ x + (1 | g)", data.assign(y=y), family="poisson")
        if result.theta[0] < 1e-6:
            break
    assert result.is_singular
    X = np.column_stack([np.ones(80), x])
    mu = np.exp(X @ result.fe_params.to_numpy())
    bread = np.linalg.inv(X.T @ (mu[:, None] * X))
    u = np.stack([X[g == j].T @ (y - mu)[g == j] for j in range(20)])
    np.testing.assert_allclose(
        result.cov_params(robust="CR0"), bread @ u.T @ u @ bread, rtol=1e-5, atol=1e-7
    )


def test_tests_use_the_number_of_clusters():
    _, result = nested()
    table = result.coef_table(robust="CR1")
    assert (table["df"] == 7.0).all()
    se = np.sqrt(np.diag(result.cov_params(robust="CR1")))
    np.testing.assert_allclose(table["se"], se)
    quantile = stats.t.ppf(0.975, 7)
    np.testing.assert_allclose(table["upper"], result.fe_params + quantile * se)
    np.testing.assert_allclose(result.conf_int(robust="CR1").iloc[:, 1], table["upper"])
    large = result.coef_table("normal", robust="CR1")
    assert np.isinf(large["df"]).all()
    joint = result.wald_test(["x = 0", "Intercept = 0"], robust="CR1")
    assert (joint.num_df, joint.den_df) == (2, 7.0)
    means = result.emtrends("x", robust="CR1").table
    assert means["se"].iloc[0] == pytest.approx(se[1], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"robust": "CR2"}, "corrects the residuals of a linear model"),
        ({"robust": "HC1"}, "must be one of 'CR0', 'CR1', 'CR1S'"),
        ({"robust": "CR1", "ddf": "satterthwaite"}, "one less than the number of clusters"),
        ({"robust": "CR1", "cluster": "school:pupil"}, "levels of 'school' occur in several"),
        ({"robust": "CR1", "cluster": ["school", "school:pupil"]}, "clustering in several ways"),
        ({"robust": "CR1", "cluster": "class"}, "there is no grouping factor or column 'class'"),
        ({"cluster": "school"}, "cluster is given without robust"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(InterlaceError, match=message):
        nested()[1].cov_params(**arguments)


def test_crossed_factors_have_no_clusters():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"a": np.arange(60) % 6, "b": np.arange(60) // 6})
    eta = 0.8 * rng.standard_normal(6)[data["a"]] + 0.8 * rng.standard_normal(10)[data["b"]]
    data["y"] = rng.poisson(np.exp(1.0 + eta))
    result = interlace.fit("y ~ 1 + (1 | a) + (1 | b)", data, family="poisson")
    with pytest.raises(InterlaceError, match="no one has independent clusters"):
        result.cov_params(robust="CR0")
    with pytest.raises(InterlaceError, match="levels of 'b' occur in several"):
        result.cov_params(robust="CR0", cluster="a")
    with pytest.raises(InterlaceError, match="not method='profile'"):
        result.conf_int(method="profile", robust="CR0", cluster="a")
