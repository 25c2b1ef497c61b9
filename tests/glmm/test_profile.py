"""Profile likelihood of generalised models against root finding on glmmTMB's deviance."""

import functools
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import interlace
from glmm.cases import CASES, fitted, golden
from interlace import InterlaceError
from interlace.glmm.laplace import evaluate
from interlace.plots import plot_profile

WITH = [i for i, c in enumerate(CASES) if "profile_ci_95" in golden(c.file)]


@pytest.mark.parametrize("index", WITH, ids=[CASES[i].file for i in WITH])
def test_limits_are_the_reference_s(index):
    result, g = fitted(index), golden(CASES[index].file)["profile_ci_95"]
    found = result.conf_int(method="profile")
    fixed = [i for i, name in enumerate(g["param"]) if name.split(".")[0] == "beta"]
    p = len(fixed)
    for limit, column in (("lower", 0), ("upper", 1)):
        expected = np.array(g[limit])
        np.testing.assert_allclose(found.iloc[:p, column], expected[fixed], rtol=1e-5, atol=1e-6)
        sd = np.exp(expected[g["param"].index("theta")])
        assert found.iloc[p, column] == pytest.approx(sd, rel=1e-5)
        if "betad" in g["param"]:
            size = np.exp(expected[g["param"].index("betad")])
            assert found.iloc[p + 1, column] == pytest.approx(size, rel=1e-5)


def test_limits_of_slopes_and_correlations_are_where_the_deviance_says():
    """Every limit is checked by a search of its own, with the parameter held by a constraint."""
    result = fitted(7)
    estimate, limits = result.estimate, result.conf_int(method="profile", parm="theta_")
    problem = estimate.problem
    names = list(limits.index)
    assert names == [
        "sd_Intercept|Subject",
        "cor_Days.Intercept|Subject",
        "sd_Days|Subject",
        "dispersion",
    ]
    target = result.criterion + stats.chi2.ppf(0.95, 1)

    def value(name, x):
        at = problem.unpack(x)
        T = problem.rows.random[0] @ at.templates[0]
        S = T @ T.T
        return {
            "sd_Intercept|Subject": np.sqrt(S[0, 0]),
            "sd_Days|Subject": np.sqrt(S[1, 1]),
            "cor_Days.Intercept|Subject": S[0, 1] / np.sqrt(S[0, 0] * S[1, 1]),
            "dispersion": np.exp(at.gamma[0]),
        }[name]

    def deviance(x):
        found = evaluate(problem, problem.unpack(x), estimate.u)
        return (1e6, np.zeros(len(x))) if found is None else (found.value, found.gradient)

    for name in names:
        for limit in limits.loc[name]:
            held = {"type": "eq", "fun": lambda x, n=name, v=limit: value(n, x) / v - 1.0}
            with np.errstate(all="ignore"):
                best = optimize.minimize(
                    deviance, estimate.x, method="SLSQP", jac=True, constraints=[held]
                )
            assert best.fun == pytest.approx(target, abs=1e-3), (name, limit)


def test_profiles_have_curves_that_agree_with_the_limits():
    result = fitted(7)
    found = result.profile(["Days", "cor_Days.Intercept|Subject", "dispersion"])
    exact = result.conf_int(method="profile", parm=found.names)
    np.testing.assert_allclose(found.conf_int(), exact, rtol=1e-5)
    wide = result.conf_int(0.8, method="profile", parm=found.names)
    np.testing.assert_allclose(found.conf_int(0.8), wide, rtol=2e-3, atol=2e-3)
    for curve in found.curves:
        assert (np.diff(curve.psi) > 0).all() and (np.diff(curve.zeta) > 0).all()
    assert found.estimates["Days"] == pytest.approx(result.fe_params["Days"])
    plot_profile(found).draw()


def test_a_variance_near_zero_has_a_limit_of_zero():
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"g": np.repeat(np.arange(12), 8)})
    data["y"] = rng.poisson(np.exp(0.7 + 0.12 * rng.normal(size=12))[data["g"]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = interlace.fit("y ~ 1", data, groups="g", family="poisson")
    limits = result.conf_int(method="profile", parm="sd_Intercept|g")
    assert limits.iloc[0, 0] == 0.0 and limits.iloc[0, 1] > result.theta[0]


@functools.cache
def slopes(nodes):
    rng = np.random.default_rng(2)
    g, x = np.repeat(np.arange(25), 8), np.tile(np.linspace(-1.0, 1.0, 8), 25)
    b = rng.standard_normal((25, 2)) @ [[0.8, 0.2], [0.0, 0.5]]
    p = 1.0 / (1.0 + np.exp(-(0.2 + 0.5 * x + b[g, 0] + b[g, 1] * x)))
    data = pd.DataFrame({"g": g, "x": x, "y": (rng.random(200) < p).astype(int)})
    return interlace.fit("y ~ x + (x | g)", data, family="binomial", quadrature=nodes)


def test_limits_by_quadrature_of_slopes_settle():
    found, more = (
        slopes(nodes).conf_int(method="profile", parm=["x", "sd_x|g"]) for nodes in (3, 5)
    )
    np.testing.assert_allclose(found, more, rtol=0.05, atol=0.02)


@pytest.mark.slow
def test_limits_by_quadrature_of_slopes_are_where_the_deviance_says():
    """Limits by five nodes are those by more, and a search of its own finds their deviance."""
    result, more = slopes(5), slopes(9)
    names = ["x", "sd_Intercept|g", "sd_x|g", "cor_x.Intercept|g"]
    found = result.conf_int(method="profile", parm=names)
    np.testing.assert_allclose(
        found, more.conf_int(method="profile", parm=names), rtol=5e-3, atol=2e-3
    )
    laplace = slopes(1).conf_int(method="profile", parm=names)
    assert np.abs(found.loc["sd_x|g", 0.975] - laplace.loc["sd_x|g", 0.975]) > 0.1
    estimate, target = more.estimate, more.criterion + stats.chi2.ppf(0.95, 1)
    problem, limit = estimate.problem, float(more.conf_int(method="profile", parm="x").iloc[0, 1])
    t = problem.sizes[0]

    def deviance(z):
        at = problem.unpack(x_of(z))
        return estimate.approximation(problem, at, estimate.u).value

    def x_of(z):
        T = np.array([[z[0], 0.0], [z[1], z[2]]])
        beta = np.linalg.solve(problem.rows.fixed, [z[3], limit])
        return np.concatenate([problem.pack([T], beta, np.zeros(0))[:t], beta])

    T = estimate.at.templates[0]
    start = [T[0, 0], T[1, 0], T[1, 1], more.fe_params["Intercept"]]
    best = optimize.minimize(deviance, start, method="BFGS", options={"gtol": 1e-4})
    assert best.fun == pytest.approx(target, abs=1e-3)
    curve = result.profile("sd_Intercept|g")
    assert curve.conf_int().iloc[0, 1] == pytest.approx(found.loc["sd_Intercept|g", 0.975], 1e-4)


def test_quadrature_is_profiled_too_and_what_cannot_be_is_refused():
    cbpp = fitted(0)
    exact = cbpp.update(quadrature=9)
    found = exact.conf_int(method="profile", parm="sd_Intercept|herd")
    assert found.iloc[0, 0] != pytest.approx(
        cbpp.conf_int(method="profile", parm="sd_Intercept|herd").iloc[0, 0], abs=1e-4
    )
    with pytest.raises(InterlaceError, match="unknown parameter"):
        cbpp.profile("sigma")
    with pytest.raises(InterlaceError, match="level must be"):
        cbpp.profile(level=1.5)
