"""Estimation: the same optimum from everywhere, few evaluations, a start near the end."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import interlace
from interlace.criterion import Criterion
from interlace.crossprod import cross_products
from interlace.design import assemble
from interlace.estimate import estimate_theta, moment_start
from interlace.formula import parse
from interlace.optimize import minimize


def maximal(n_factors: int, rank: int, seed: int) -> tuple[str, pd.DataFrame]:
    """Crossed subjects (56) and items (32) with all effects random and covariances of a rank."""
    rng = np.random.default_rng(seed)
    names = [f"c{i}" for i in range(n_factors)]
    frame = pd.DataFrame([(s, i) for s in range(56) for i in range(32)], columns=["s", "i"])
    X = np.ones((len(frame), 1))
    for name in names:
        frame[name] = rng.choice([-0.5, 0.5], len(frame))
        X = np.column_stack((X, X * frame[[name]].to_numpy()))
    k = X.shape[1]
    roots = [rng.normal(size=(k, rank)) for _ in range(2)]
    effects = [rng.normal(size=(l, rank)) @ root.T for l, root in zip((56, 32), roots, strict=True)]
    frame["y"] = (X * (effects[0][frame.s] + effects[1][frame.i])).sum(axis=1)
    frame["y"] += 2.0 * rng.normal(size=len(frame))
    terms = "*".join(names)
    return f"y ~ {terms} + ({terms} | s) + ({terms} | i)", frame


@pytest.mark.parametrize(("n_factors", "rank"), [(2, 4), (2, 1), (3, 2)])
def test_one_optimum_from_ten_starts(n_factors: int, rank: int) -> None:
    formula, frame = maximal(n_factors, rank, seed=rank)
    criterion = Criterion(cross_products(assemble(parse(formula), frame)), True)
    best = estimate_theta(criterion)
    assert best.convergence.converged
    assert best.convergence.n_evaluations <= 25
    for seed in range(10):
        rng = np.random.default_rng(seed)
        start = [rng.normal(size=(t.k, t.k)) for t in criterion.A.terms]
        found = minimize(criterion, criterion.pack(start))
        assert found.n_evaluations <= 30
        assert abs(found.point.value - best.value) < 1e-6


@pytest.mark.parametrize(
    ("formula", "name"),
    [
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin"),
        ("Yield ~ (1 | Batch)", "dyestuff"),
    ],
)
def test_moments_are_the_estimate_in_balanced_data(formula: str, name: str) -> None:
    estimate = interlace.fit(formula, interlace.datasets.load(name)).estimate
    start = [T[0, 0] for T in moment_start(estimate.criterion)]
    assert_allclose(start, estimate.theta, rtol=1e-6)


def test_a_stationary_zero_is_left() -> None:
    """theta = 0 is stationary for any data; the search must not stop there."""
    frame = interlace.datasets.load("penicillin")
    formula = "diameter ~ 1 + (1 | plate) + (1 | sample)"
    best = interlace.fit(formula, frame)
    from_zero = interlace.fit(formula, frame, theta0=[0.0, 0.0])
    assert_allclose(from_zero.criterion, best.criterion, atol=1e-8)


def test_certificate() -> None:
    convergence = interlace.fit(
        "Reaction ~ Days + (Days | Subject)", interlace.datasets.load("sleepstudy")
    ).convergence
    assert np.abs(convergence.gradient).max() < 1e-6
    assert np.sum(np.abs(convergence.newton_eigenvalues) < 1e-6) == 1  # the rotation of a 2 x 2
    assert 0 <= convergence.predicted_gain < 1e-9
    assert convergence.solver == "exact"
    assert convergence.monte_carlo_error is None
