"""Generalised models fitted as a batch are single fits: the same optima, errors and failures."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import interlace
from interlace import InterlaceError
from interlace.batch.general import estimate_many, is_small
from interlace.batch.incidence import incidence
from interlace.batch.laplace import evaluate as evaluate_many
from interlace.batch.modes import Held, Stack
from interlace.families import NegativeBinomial
from interlace.glmm.estimate import estimate_general
from interlace.glmm.laplace import evaluate, zeros
from interlace.glmm.restricted import RestrictedLaplace
from interlace.model.drawn import draws
from interlace.model.generalised import FittedGeneralModel


@dataclass(frozen=True)
class Case:
    """A model: its family, and more arguments of ``fit``."""

    family: object
    formula: str
    more: dict

    def __str__(self) -> str:
        name = getattr(self.family, "name", self.family)
        return f"{name} {self.formula} {' '.join(self.more)}"


CASES = [
    Case("binomial", "y ~ x + (1 | g)", {"trials": "size"}),
    Case("binomial", "y ~ x + (1 + x | g)", {"link": "probit", "trials": "size"}),
    Case("binomial", "y ~ x + (1 | g) + (1 | h)", {"link": "cloglog"}),
    Case("poisson", "y ~ x + (1 + x | g) + (1 | h)", {"exposure": "size"}),
    Case("poisson", "y ~ x + (1 | g) + (1 | g:h)", {"weights": "w"}),
    Case("poisson", "y ~ x + (1 | g)", {"zero_inflation": "~ 1"}),
    Case("negative-binomial", "y ~ x + (1 | g)", {}),
    Case("negative-binomial", "y ~ x + (1 | g) + (1 | h)", {"dispersion": "~ x"}),
    Case(NegativeBinomial(kind=1), "y ~ x + (1 | h)", {}),
    Case("gamma", "y ~ x + (1 + x || g)", {"offset": "w"}),
    Case("beta", "y ~ x + (1 | h) + (0 + x | g)", {}),
    Case("beta-binomial", "y ~ x + (1 | g)", {"trials": "size"}),
    Case("ordinal", "y ~ x + (1 | g)", {}),
    Case("student-t", "y ~ x + (1 | g)", {}),
    Case("poisson", "y ~ x + cs(0 + f | g) + (1 | h)", {}),
    Case("gaussian", "y ~ x + (1 | g)", {"link": "log"}),
]


def rows(seed: int, n: int = 110) -> pd.DataFrame:
    """Rows with two factors, a number, trials and weights."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "g": rng.integers(0, 9, n).astype(str),
            "h": rng.integers(0, 6, n).astype(str),
            "size": rng.integers(3, 9, n),
            "w": rng.uniform(0.5, 1.5, n),
            "f": rng.choice(list("uvw"), n),
        }
    )


def response(case: Case, data: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """A first response that the family can have."""
    family = getattr(case.family, "name", case.family)
    b, c = 0.6 * rng.normal(size=9), 0.5 * rng.normal(size=6)
    eta = 0.7 + 0.4 * data.x + b[data.g.astype(int)] + c[data.h.astype(int)]
    mean, share = np.exp(eta.to_numpy()), 1.0 / (1.0 + np.exp(-eta.to_numpy()))
    size = data["size"] if "trials" in case.more else np.ones(len(data), dtype=int)
    if family == "binomial":
        return rng.binomial(size, share).astype(float)
    if family == "beta-binomial":
        return rng.binomial(size, rng.beta(4.0 * share, 4.0 * (1.0 - share))).astype(float)
    if family in ("poisson", "negative-binomial"):
        more = rng.gamma(2.0, 0.5, len(data)) if family != "poisson" else 1.0
        y = rng.poisson(mean * more).astype(float)
        return np.where(rng.random(len(y)) < 0.25, 0.0, y) if "zero_inflation" in case.more else y
    if family == "gamma":
        return rng.gamma(3.0, mean / 3.0)
    if family == "beta":
        return rng.beta(5.0 * share, 5.0 * (1.0 - share))
    if family == "ordinal":
        return np.digitize(eta + rng.logistic(size=len(eta)), [-0.5, 1.0, 2.0]) + 1.0
    if family == "student-t":
        return eta.to_numpy() + 0.5 * rng.standard_t(4.0, len(eta))
    return mean + 0.5 * rng.normal(size=len(eta))


def fitted(case: Case, seed: int) -> FittedGeneralModel:
    """The fit to a first response."""
    data = rows(seed)
    y = response(case, data, np.random.default_rng(seed))
    if case.family == "ordinal":
        y = pd.Categorical(y.astype(int), ordered=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return interlace.fit(case.formula, data.assign(y=y), family=case.family, **case.more)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_criteria_and_their_derivatives_are_those_of_single_responses(case):
    """Value, gradient, Newton matrix, and the modes predicted, at parameters off the optimum."""
    result = fitted(case, 3)
    problem, rng = result.estimate.problem, np.random.default_rng(1)
    x = result.estimate.x + 0.1 * rng.normal(size=(3, len(result.estimate.x)))
    Y = np.stack([problem.y] * 3, axis=1)
    layout = incidence(problem.rows.terms, problem.rows.codes, problem.rows.Z)
    stack = Stack(problem, layout, Y, np.full(3, problem.constant))
    at, to = stack.unpack(x), stack.unpack(x + 0.01)
    np.testing.assert_allclose(stack.pack(at), x, rtol=1e-12)
    found = evaluate_many(Held(stack, at), np.zeros((layout.Z.shape[1], 3)))
    predicted = found.predicted(to)
    for i in range(3):
        single = evaluate(problem, problem.unpack(x[i]), zeros(problem))
        assert found.value[i] == pytest.approx(single.value, rel=1e-12)
        close = {"rtol": 1e-8, "atol": 1e-8}
        np.testing.assert_allclose(found.gradient[i], single.gradient, **close)
        np.testing.assert_allclose(found.newton_matrix[i], single.newton_matrix, **close)
        np.testing.assert_allclose(found.leverages[:, i], single.leverages, **close)
        u = single.predicted(problem.unpack(x[i] + 0.01))
        for j, own in enumerate(u):
            np.testing.assert_allclose(layout.by_level(j, predicted)[..., i], own, **close)


def same_as_single(result: FittedGeneralModel, Y: np.ndarray, *, warm: bool) -> int:
    """Compare estimates with single fits; how many did not need the single engine."""
    problem, kind = result.estimate.problem, result.estimate.approximation
    near = result.estimate if warm else None
    together = 0
    for y, one in zip(Y.T, estimate_many(problem, Y, kind, near=near), strict=True):
        single = estimate_general(problem.responding(y), kind, near=near)
        assert not isinstance(one, InterlaceError)
        together += one.known is not None
        if not one.convergence.converged or not single.convergence.converged:
            continue
        assert one.value == pytest.approx(single.value, abs=1e-8 * max(1.0, abs(single.value)))
        se = np.sqrt(np.diag(single.vcov))
        if (se > 50.0 * np.median(se)).any():
            continue  # separated: the search stops where the likelihood is flat
        assert (np.abs(one.beta - single.beta) < 1e-5 * se).all()
        np.testing.assert_allclose(one.vcov, single.vcov, rtol=1e-4, atol=1e-5 * (se**2).max())
        np.testing.assert_allclose(one.theta, single.theta, atol=2e-5)
        assert one.problem.constant == pytest.approx(single.problem.constant)
        assert one.evaluation.value == pytest.approx(one.known or one.value, abs=1e-7)
    return together


@pytest.mark.parametrize("case", CASES, ids=str)
def test_estimates_are_those_of_single_fits(case):
    result = fitted(case, 5)
    Y = np.stack(list(draws(result, 4, 2)), axis=1)
    for warm in (True, False):
        same_as_single(result, Y, warm=warm)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(CASES[:5]))
def test_most_replicates_do_not_need_the_single_engine(seed, case):
    result = fitted(case, seed)
    Y = np.stack(list(draws(result, 6, seed)), axis=1)
    assert same_as_single(result, Y, warm=True) >= 4


def test_what_a_batch_cannot_do_goes_to_the_single_engine():
    """REML, and a link whose domain has a bound."""
    result = fitted(CASES[0], 5)
    problem = result.estimate.problem
    assert is_small(problem, result.estimate.approximation)
    assert not is_small(problem, RestrictedLaplace())
    bounded = fitted(Case("poisson", "y ~ x + (1 | g)", {"link": "sqrt"}), 5).estimate
    assert not is_small(bounded.problem, bounded.approximation)
    (found,) = estimate_many(bounded.problem, bounded.problem.y[:, None], bounded.approximation)
    assert found.value == pytest.approx(bounded.value, abs=1e-8)
    assert found.known is None
