"""The iterative solver finds what the exact one finds, within the errors it states."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import chi2

import interlace
from designs import CASES, DesignCase
from interlace.estimation.estimate import Estimate
from interlace.sums.terms import join_theta, split_theta

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

BY_NAME = {case.name: case for case in CASES}
# What the optimiser and the conjugate gradients leave undone, in statistical errors of theta and
# in units of the log-likelihood: far below any Monte-Carlo error that could matter.
FLOOR_THETA = 1e-5
FLOOR_LOGLIK = 1e-5


@dataclass(frozen=True)
class Pair:
    """One design fitted by both solvers."""

    exact: interlace.CrossedLMEResult
    iterative: interlace.CrossedLMEResult

    @property
    def statistical_error(self) -> np.ndarray:
        """Standard errors of theta; nan where the exact fit has none (a flat direction)."""
        se = np.sqrt(np.diag(self.exact.vcov_theta())[:-1])
        return np.where(se > 0, se, np.nan)

    @property
    def monte_carlo_error(self) -> np.ndarray:
        error = self.iterative.convergence.monte_carlo_error
        assert error is not None
        return error


@functools.cache
def exact(name: str) -> interlace.CrossedLMEResult:
    return _fit(BY_NAME[name], "exact")


@functools.cache
def pair(name: str) -> Pair:
    return Pair(exact(name), _fit(BY_NAME[name], "iterative"))


def _fit(case: DesignCase, solver: str, **more: float) -> interlace.CrossedLMEResult:
    return interlace.fit(
        case.formula, case.data(), method=case.method, solver=solver, **case.arguments, **more
    )


def _at(fit: interlace.CrossedLMEResult, theta: np.ndarray) -> interlace.CrossedLMEResult:
    """An exact fit moved to another theta."""
    criterion = fit.estimate.criterion
    templates = criterion.working(split_theta(criterion.A.terms, theta))
    return replace(fit, estimate=Estimate(criterion, tuple(templates), fit.estimate.convergence))


def test_there_are_enough_designs() -> None:
    assert len(CASES) >= 24
    assert len(BY_NAME) == len(CASES)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_exact_fit_recovers_the_truth(name: str) -> None:
    """Templates of the truth, within five statistical errors: the designs are what they claim."""
    case, fit = BY_NAME[name], exact(name)
    truth = {term.group: term.T for term in case.terms}
    theta = join_theta(fit.estimate.A.terms, [truth[t.group] for t in fit.estimate.A.terms])
    se = Pair(fit, fit).statistical_error
    assert (np.abs(fit.theta - theta) < 5 * se)[np.isfinite(se) & (theta != 0)].all()


@pytest.mark.parametrize("name", BY_NAME)
def test_theta(name: str) -> None:
    both = pair(name)
    allowed = 3 * both.monte_carlo_error
    difference = np.abs(both.iterative.theta - both.exact.theta)
    assert (difference <= allowed).all(), difference / both.monte_carlo_error


@pytest.mark.parametrize("name", BY_NAME)
def test_monte_carlo_errors_are_small_beside_statistical_ones(name: str) -> None:
    both = pair(name)
    assert both.iterative.theta.shape == both.monte_carlo_error.shape
    assert (both.monte_carlo_error >= 0).all()
    known = np.isfinite(both.statistical_error)
    assert known.any()
    assert (both.monte_carlo_error < 0.05 * both.statistical_error)[known].all()


@pytest.mark.parametrize("name", BY_NAME)
def test_fixed_effects_and_their_errors(name: str) -> None:
    both = pair(name)
    se = both.exact.fe_bse
    assert_allclose((both.iterative.fe_params - both.exact.fe_params) / se, 0.0, atol=1e-3)
    assert_allclose(both.iterative.fe_bse, se, rtol=1e-3)
    unit = np.outer(se, se)
    assert_allclose(both.iterative.fe_cov / unit, both.exact.fe_cov / unit, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", BY_NAME)
def test_log_likelihood(name: str) -> None:
    both = pair(name)
    error = both.iterative.convergence.criterion_error
    assert error is not None
    assert error >= 0
    assert abs(both.iterative.llf - both.exact.llf) <= 3 * error / 2
    for index in ("aic", "bic"):
        difference = getattr(both.iterative, index) - getattr(both.exact, index)
        assert abs(difference) <= 3 * error + 2 * FLOOR_LOGLIK


@pytest.mark.parametrize("name", BY_NAME)
def test_at_its_theta_everything_else_is_exact(name: str) -> None:
    """Effects, fixed effects and residual variance of the exact solver at the same theta."""
    both = pair(name)
    moved = _at(both.exact, both.iterative.theta)
    sigma = np.sqrt(moved.scale)
    assert_allclose(both.iterative.scale, moved.scale, rtol=1e-6)
    assert_allclose(
        (both.iterative.fe_params - moved.fe_params) / moved.fe_bse, 0.0, rtol=0, atol=1e-5
    )
    assert_allclose(both.iterative.fe_bse, moved.fe_bse, rtol=1e-5)
    assert both.iterative.random_effects.keys() == moved.random_effects.keys()
    for key, effects in moved.random_effects.items():
        found = both.iterative.random_effects[key]
        assert list(found.index) == list(effects.index)
        assert_allclose(found, effects, rtol=0, atol=1e-5 * sigma)


def test_what_the_certificate_says() -> None:
    both = pair("sparse")
    certificate = both.iterative.convergence
    assert certificate.solver == "iterative"
    assert certificate.n_probes is not None
    assert certificate.n_probes >= 2
    assert certificate.converged
    other = both.exact.convergence
    assert other.solver == "exact"
    assert other.monte_carlo_error is other.criterion_error is other.n_probes is None


@pytest.mark.parametrize("name", ["power law 1.0", "firms, 10 % move", "slopes of users"])
def test_a_lower_tolerance_lowers_the_error(name: str) -> None:
    case, se = BY_NAME[name], pair(name).statistical_error
    default = (pair(name).monte_carlo_error / se).max()
    wanted = default / 2
    stricter = _fit(case, "iterative", mc_tolerance=wanted)
    error = stricter.convergence.monte_carlo_error
    assert error is not None
    assert (error / se).max() <= 1.05 * wanted  # its statistical error is its own estimate
    assert stricter.convergence.n_probes > pair(name).iterative.convergence.n_probes
    assert (np.abs(stricter.theta - pair(name).exact.theta) <= 3 * error).all()


def test_same_seed_same_fit() -> None:
    again = _fit(BY_NAME["sparse"], "iterative")
    assert_allclose(again.theta, pair("sparse").iterative.theta, rtol=0, atol=0)
    other = _fit(BY_NAME["sparse"], "iterative", seed=1)
    assert not np.array_equal(other.theta, again.theta)


@pytest.mark.parametrize("name", ["power law 0.5", "firms, 30 % move"])
def test_stated_errors_are_honest(name: str) -> None:
    """Over seeds, squared errors of theta and of the log-likelihood in stated units average to 1.

    The limits are those of a chi-square at probability 1e-4, widened by the fifth that few probes
    leave uncertain in a stated error.
    """
    seeds, reference = range(1, 17), exact(name)
    fits = [_fit(BY_NAME[name], "iterative", seed=seed) for seed in seeds]
    theta = np.array([f.theta - reference.theta for f in fits])
    stated = np.array([f.convergence.monte_carlo_error for f in fits])
    loglik = np.array([f.llf - reference.llf for f in fits])
    error = np.array([f.convergence.criterion_error for f in fits]) / 2
    low, high = chi2.ppf([1e-4, 1 - 1e-4], len(fits)) / len(fits)
    for squares in (*((theta / stated) ** 2).T, (loglik / error) ** 2):
        assert low / 1.2**2 <= squares.mean() <= high * 1.2**2, squares.mean()
