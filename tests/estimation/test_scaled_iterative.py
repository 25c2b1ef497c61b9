"""Residual variances that follow a few numbers, by the iterative solver beside the exact one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

import interlace
from estimation.test_scaled import BOTH, FORMULAS, differences, frame, some_point
from interlace.design.design import assemble
from interlace.design.formula import parse
from interlace.estimation import probed
from interlace.estimation.changeover import forecast
from interlace.estimation.scaled import ScaledCriterion
from interlace.model.scaled import scaled_criterion
from interlace.solver import choose
from interlace.solver.equations import Equations, Exact, Iterative
from interlace.solver.probes import Probes

STRATA = {"residual": "varident(s)"}


def criterion_by(solver: Equations, name: str, reml: bool) -> ScaledCriterion:
    data = frame()
    rows = assemble(parse(FORMULAS[name]), data, weights="w")
    scales = np.column_stack([data["s"] == 1, data["s"] == 2, 0.4 * data["x"]]).astype(float)
    return scaled_criterion(rows, csr_matrix(scales), reml=reml, solver=lambda A: solver)


def made(seed: int = 0, n: int = 3000, a: int = 300, b: int = 120, c: int = 90) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    names = {"a": a, "b": b, "c": c, "s": 3}
    data = pd.DataFrame({name: rng.integers(0, size, n) for name, size in names.items()})
    data["x"], data["u"] = rng.normal(size=n), np.exp(rng.normal(size=n))
    data["w"] = rng.uniform(0.5, 2.0, n)
    slopes = 0.4 * rng.normal(size=a)[data["a"]] * data["x"]
    effects = sum(
        sd * rng.normal(size=names[f])[data[f]]
        for f, sd in zip("abc", (1.0, 0.6, 0.4), strict=True)
    )
    noise = rng.normal(size=n) * np.exp(0.4 * data["s"])
    return data.assign(y=0.5 * data["x"] + slopes + effects + noise)


@BOTH
@pytest.mark.parametrize("name", FORMULAS)
def test_with_all_probes_it_is_the_exact_criterion(name: str, reml: bool) -> None:
    exact = criterion_by(Exact(), name, reml)
    x = some_point(exact)
    known, found = exact(x), criterion_by(Iterative(Probes(1000, 0)), name, reml)(x)
    assert found.value == pytest.approx(known.value, abs=1e-8)
    size = np.abs(known.gradient).max()
    assert_allclose(found.gradient, known.gradient, atol=1e-7 * size)
    newton = np.abs(known.newton_matrix).max()
    assert_allclose(found.newton_matrix, known.newton_matrix, atol=1e-6 * newton)
    assert not found.gradient_covariance.any()


@BOTH
def test_stated_errors_of_the_gradient_are_those_of_many_sets_of_probes(reml: bool) -> None:
    """Over 40 sets the errors in units of those stated have a spread of one, or less."""
    data = made(n=500, a=60, b=40)
    rows = assemble(parse("y ~ x + (1 | a) + (1 | b)"), data)
    scales = csr_matrix(np.column_stack([data["s"] == 1, data["s"] == 2]).astype(float))

    def at(solver: Equations) -> ScaledCriterion:
        return scaled_criterion(rows, scales, reml=reml, solver=lambda A: solver)

    x = np.array([1.0, 0.6, 0.3, 0.7])
    known = at(Exact())(x).gradient
    points = [at(Iterative(Probes(12, seed)))(x) for seed in range(40)]
    errors = np.array([point.gradient - known for point in points])
    stated = np.array([np.sqrt(np.diag(point.gradient_covariance)) for point in points])
    assert (np.abs(errors.mean(axis=0)) < 4.0 * errors.std(axis=0) / np.sqrt(40)).all()
    spread = np.sqrt((errors**2).mean(axis=0)) / stated.mean(axis=0)
    assert (spread < 1.0).all()  # stated errors are upper limits
    assert (spread > 0.3).all()


DESIGNS = {
    "crossed": ("y ~ x + (1 | a) + (1 | b)", {}),
    "slopes": ("y ~ x + (x | a) + (1 | b)", {}),
    "three": ("y ~ x + (1 | a) + (1 | b) + (1 | c)", {}),
    "weights": ("y ~ x + (1 | a) + (1 | b)", {"weights": "w"}),
    "ML": ("y ~ x + (x || a) + (1 | b)", {"method": "ML"}),
    "power": ("y ~ x + (1 | a) + (1 | b)", {"residual": "varpower(u)"}),
    "exponential": ("y ~ x + (1 | a) + (1 | b)", {"residual": "varexp(x)"}),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_fits_are_within_stated_errors_of_exact_ones(name: str) -> None:
    formula, options = DESIGNS[name]
    options = STRATA | options
    data = made()
    exact = interlace.fit(formula, data, solver="exact", **options)
    result = interlace.fit(formula, data, solver="iterative", **options)
    stated = result.convergence
    assert result.converged
    assert (stated.solver, exact.convergence.solver) == ("iterative", "exact")
    assert stated.n_probes
    error = stated.monte_carlo_error
    assert error is not None
    assert stated.statistical_error is not None
    assert (error <= 0.01 * stated.statistical_error).all()
    found, known = (np.append(r.theta, r.estimate.eta) for r in (result, exact))
    assert (np.abs(found - known) < 3.0 * error).all()
    assert (np.abs(result.fe_params - exact.fe_params) < 1e-2 * exact.fe_bse).all()
    assert_allclose(result.fe_bse, exact.fe_bse, rtol=1e-3)
    assert stated.criterion_error is not None
    assert abs(result.criterion - exact.criterion) < 3.0 * stated.criterion_error
    table, expected = result.residual_parameters, exact.residual_parameters
    own = table["mc_error"].iloc[1:]
    assert (np.abs(table["estimate"] - expected["estimate"]).iloc[1:] < 3.0 * own).all()
    assert_allclose(table["se"], expected["se"], rtol=1e-3)


def test_a_singular_optimum_is_found() -> None:
    rng = np.random.default_rng(11)
    rows = pd.DataFrame({"a": np.repeat(np.arange(40), 40), "b": np.tile(np.arange(40), 40)})
    rows["s"] = np.where(rows["a"] < 20, "k", "l")
    within = rng.normal(size=(40, 40))
    within -= within.mean(axis=0)
    rows["y"] = (within + 2.0 * rng.normal(size=40)[:, None]).ravel()
    with pytest.warns(interlace.SingularFitWarning, match="were not tried"):
        result = interlace.fit("y ~ 1 + (1 | a) + (1 | b)", rows, solver="iterative", **STRATA)
    with pytest.warns(interlace.SingularFitWarning, match="are valid"):
        exact = interlace.fit("y ~ 1 + (1 | a) + (1 | b)", rows, solver="exact", **STRATA)
    assert result.converged
    assert result.variance_components["b"] == 0.0
    error = result.convergence.criterion_error
    assert error is not None
    assert abs(result.criterion - exact.criterion) < 3.0 * error


def test_more_probes_where_less_error_is_asked_for() -> None:
    data = made(n=1500)
    few, many = (
        interlace.fit(
            "y ~ x + (1 | a) + (1 | b)", data, solver="iterative", mc_tolerance=share, **STRATA
        )
        for share in (0.01, 0.002)
    )
    assert many.convergence.n_probes > few.convergence.n_probes
    error, whole = many.convergence.monte_carlo_error, many.convergence.statistical_error
    assert error is not None
    assert whole is not None
    assert (error < 0.002 * whole).all()


def test_automatic_choice_and_a_change_to_the_exact_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    data, formula = made(n=1500), "y ~ x + (1 | a) + (1 | b)"
    exact = interlace.fit(formula, data, **STRATA)
    assert exact.convergence.solver == "exact"  # small
    monkeypatch.setattr(choose, "_QUICK", 0.0)
    monkeypatch.setattr(choose, "_ADVANTAGE", 0.0)
    monkeypatch.setattr(probed, "forecast", lambda *args, **rest: None)
    assert interlace.fit(formula, data, **STRATA).convergence.solver == "iterative"
    monkeypatch.setattr(probed, "forecast", forecast)
    changed = interlace.fit(formula, data, **STRATA)
    assert changed.convergence.solver == "exact"
    assert "changed from the iterative solver" in changed.convergence.message
    assert changed.criterion == pytest.approx(exact.criterion, abs=1e-7)


def test_gradient_against_differences_at_an_optimum_of_other_probes() -> None:
    """The criterion of fixed probes and its gradient agree within what they state."""
    data = made(n=1500)
    rows = assemble(parse("y ~ x + (1 | a) + (1 | b)"), data)
    scales = csr_matrix(np.column_stack([data["s"] == 1, data["s"] == 2]).astype(float))
    c = scaled_criterion(rows, scales, reml=True, solver=lambda A: Iterative(Probes(64, 0)))
    x = np.array([1.0, 0.6, 0.3, 0.7])
    slopes = differences(lambda at: c(at).value, x, 1e-3)
    stated = np.sqrt(np.diag(c(x).gradient_covariance))
    assert (np.abs(c(x).gradient - slopes) < 6.0 * stated + 1e-6).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
def test_stated_errors_of_fits_over_many_sets_of_probes(name: str) -> None:
    """Errors in units of those stated, which are upper limits, have a spread of less than one."""
    formula, options = DESIGNS[name]
    options, data = STRATA | options, made(7)
    exact = interlace.fit(formula, data, solver="exact", **options)
    known, shares = np.append(exact.theta, exact.estimate.eta), []
    for seed in range(25):
        found = interlace.fit(formula, data, solver="iterative", seed=seed, **options)
        stated = found.convergence
        assert stated.monte_carlo_error is not None
        assert stated.criterion_error is not None
        moved = np.append(found.theta, found.estimate.eta) - known
        above = found.criterion - exact.criterion
        shares.append(np.append(moved / stated.monte_carlo_error, above / stated.criterion_error))
    assert (np.sqrt(np.square(shares).mean(axis=0)) < 1.0).all()
    assert np.abs(shares).max() < 3.0
