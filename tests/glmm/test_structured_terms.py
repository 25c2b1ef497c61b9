"""Structured covariances of random effects in generalised models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import CrossedGLMMResult
from reference.structures.cases import golden


def _cake() -> pd.DataFrame:
    frame = interlace.datasets.load("cake")
    return frame.assign(
        high=(frame["angle"] > 31).astype(int), count=np.maximum(frame["angle"] - 17, 0)
    )


FITS: dict[str, Callable[[], CrossedGLMMResult]] = {
    "poisson_ar1": lambda: interlace.fit(
        "count ~ recipe + ar1(0 + temperature | replicate)", _cake(), family="poisson"
    ),
    "poisson_cs_crossed": lambda: interlace.fit(
        "count ~ 1 + cs(0 + recipe | replicate) + (1 | temperature)", _cake(), family="poisson"
    ),
    "nbinom2_cs": lambda: interlace.fit(
        "count ~ recipe + cs(0 + recipe | replicate)", _cake(), family="negative-binomial"
    ),
    "binomial_ar1": lambda: interlace.fit(
        "high ~ recipe + ar1(0 + temperature | replicate)", _cake(), family="binomial"
    ),
    "cbpp_ar1": lambda: interlace.fit(
        "incidence ~ period + ar1(0 + period | herd)",
        interlace.datasets.load("cbpp"),
        family="binomial",
        trials="size",
    ),
}


@pytest.fixture(scope="module")
def fitted() -> Callable[[str], CrossedGLMMResult]:
    held: dict[str, CrossedGLMMResult] = {}

    def one(name: str) -> CrossedGLMMResult:
        if name not in held:
            held[name] = FITS[name]()
        return held[name]

    return one


@pytest.mark.parametrize("name", list(FITS))
def test_they_equal_glmmtmb(name: str, fitted: Callable[[str], CrossedGLMMResult]) -> None:
    known, result = golden("families")[name], fitted(name)
    assert result.converged
    assert result.criterion == pytest.approx(known["minus2logLik"], abs=1e-6)
    se = np.atleast_1d(known["se"])
    apart = (result.fe_params.to_numpy() - np.atleast_1d(known["fixef"])) / se
    np.testing.assert_allclose(apart, 0.0, atol=1e-5)
    np.testing.assert_allclose(result.fe_bse, se, rtol=1e-5)
    S = next(S for S in result.estimate.covariances if len(S) > 1)
    sd = np.sqrt(np.diag(S))
    np.testing.assert_allclose(sd, known["sd"], rtol=1e-4)
    assert S[0, 1] / (sd[0] * sd[1]) == pytest.approx(known["cor"], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("quadrature", [1, 5])
@pytest.mark.parametrize(
    "term",
    [
        "cs(0 + f | g)",
        "ar1(0 + f | g)",
        "cs(0 + f | g, hom=True)",
        "ar1(0 + f | g, hom=False)",
        "diag(0 + f | g, hom=True)",
    ],
)
def test_gradient_is_the_slope_of_the_criterion(term: str, quadrature: int) -> None:
    rng = np.random.default_rng(4)
    n, G = 300, 20
    frame = pd.DataFrame({"g": rng.integers(0, G, n), "f": rng.choice(list("abc"), n)})
    u = 0.7 * rng.normal(size=(G, 3)) + 0.5 * rng.normal(size=(G, 1))
    column = frame["f"].map({"a": 0, "b": 1, "c": 2})
    frame["y"] = rng.poisson(np.exp(1.0 + u[frame["g"], column]))
    result = interlace.fit(f"y ~ 1 + {term}", frame, family="poisson", quadrature=quadrature)
    estimate = result.estimate
    problem = estimate.summed.problem
    x = estimate.x + 0.1 * rng.normal(size=len(estimate.x))

    def at(x: np.ndarray, u: list) -> object:
        return estimate.approximation(problem, problem.unpack(x), u)

    point = at(x, estimate.u)
    for _ in range(2):  # modes to the last digit
        point = at(x, point.u)
    h, found = 1e-3, []
    for e in np.eye(len(x)):
        ends = [at(x + k * h * e, point.u).value for k in (-2, -1, 1, 2)]
        found.append((ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h))
    size = np.abs(point.gradient).max()
    np.testing.assert_allclose(found, point.gradient, atol=1e-8 * size)


def test_a_bootstrap_fits_the_structure_anew(fitted: Callable[[str], CrossedGLMMResult]) -> None:
    result = fitted("poisson_ar1")
    boot = result.bootstrap(6, seed=2)
    names = ["sd_ar1|replicate", "rho_ar1|replicate"]
    assert boot.replicates.columns.tolist()[-2:] == names
    drawn = result.simulate(1, seed=3)[:, 0]
    again, other = result.refit(drawn), _cake().assign(count=drawn)
    fresh = interlace.fit(str(result.formula), other, family="poisson")
    assert again.criterion == pytest.approx(fresh.criterion, abs=1e-6)
    one = result.bootstrap(6, seed=2, statistic=lambda m: np.sqrt(m.estimate.covariances[0][0, 0]))
    np.testing.assert_allclose(one.replicates.iloc[:, 0], boot.replicates[names[0]], rtol=1e-4)


def test_what_is_said_of_a_structure(
    fitted: Callable[[str], CrossedGLMMResult], tmp_path: object
) -> None:
    result = fitted("poisson_ar1")
    table = result.tidy("ran_pars").set_index("term")
    assert table.index.tolist() == ["sd__ar1", "rho__ar1"]
    assert (table["std.error"] > 0.0).all()
    V = 2.0 * np.linalg.inv(result.estimate.hessian)
    unit, (d, phi) = result.estimate.A.random[0][0, 0], result.estimate.x[:2]
    slopes = np.array([unit, np.cos(phi)])
    np.testing.assert_allclose(table["std.error"], slopes * np.sqrt(np.diag(V)[:2]), rtol=1e-6)
    assert unit * d == pytest.approx(table.loc["sd__ar1", "estimate"], rel=1e-6)
    ranova = result.ranova()
    assert len(ranova) == 2
    assert ranova["Df"].iloc[1] == 2
    new = result.predict(result.data.head(3), se=True, type="link")
    assert (new["se"] > 0.0).all()
    path = tmp_path / "model"  # type: ignore[operator]
    result.save(path)
    assert interlace.load(path).criterion == pytest.approx(result.criterion, abs=1e-8)


def test_a_correlation_is_sought_on_both_sides() -> None:
    """Effects of neighbours of opposite sign: rho is negative, whatever the start."""
    rng = np.random.default_rng(3)
    G, k = 60, 4
    R = (-0.8) ** np.abs(np.subtract.outer(np.arange(k), np.arange(k)))
    u = 0.8 * rng.normal(size=(G, k)) @ np.linalg.cholesky(R).T
    frame = pd.DataFrame({"g": np.repeat(np.arange(G), 2 * k), "f": np.tile(list("abcd"), 2 * G)})
    frame["y"] = rng.poisson(np.exp(1.0 + u[:, [0, 1, 2, 3, 0, 1, 2, 3]].ravel()))
    result = interlace.fit("y ~ 1 + ar1(0 + f | g)", frame, family="poisson")
    assert result.tidy("ran_pars").set_index("term")["estimate"]["rho__ar1"] < -0.5
