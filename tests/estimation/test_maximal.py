"""Maximal crossed models: every effect random for subjects and for items."""

import numpy as np
import pandas as pd
import pytest

from interlace.design.design import assemble
from interlace.design.formula import parse
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import estimate_theta
from interlace.estimation.optimize import minimize
from interlace.sums.crossprod import cross_products


def maximal(n_factors: int, rank: int, seed: int) -> tuple[str, pd.DataFrame]:
    """56 subjects x 32 items with 2^n_factors effects each, of covariances of some rank."""
    rng = np.random.default_rng(seed)
    names = [f"c{i}" for i in range(n_factors)]
    data = pd.DataFrame([(s, i) for s in range(56) for i in range(32)], columns=["s", "i"])
    X = np.ones((len(data), 1))
    for name in names:
        data[name] = rng.choice([-0.5, 0.5], len(data))
        X = np.column_stack((X, X * data[[name]].to_numpy()))
    y = 2.0 * rng.normal(size=len(data))
    for group, levels in (("s", 56), ("i", 32)):
        effects = rng.normal(size=(levels, rank)) @ rng.normal(size=(rank, X.shape[1]))
        y += (X * effects[data[group]]).sum(axis=1)
    product = "*".join(names)
    return f"y ~ {product} + ({product} | s) + ({product} | i)", data.assign(y=y)


@pytest.mark.parametrize(
    ("n_factors", "rank", "starts"),
    [
        *[(2, 4, 10), (2, 1, 10), (3, 8, 2), (3, 2, 2)],
        *[pytest.param(3, rank, 10, marks=pytest.mark.slow) for rank in (8, 2)],
    ],
)
def test_few_evaluations_and_one_optimum_from_other_starts(
    n_factors: int, rank: int, starts: int
) -> None:
    formula, data = maximal(n_factors, rank, seed=rank)
    criterion = Criterion(cross_products(assemble(parse(formula), data)), True)
    best = estimate_theta(criterion)
    assert best.convergence.converged
    assert best.convergence.n_evaluations <= 25
    for seed in range(starts):
        rng = np.random.default_rng(seed)
        start = [rng.normal(size=(t.k, t.k)) for t in criterion.A.terms]
        found = minimize(criterion, criterion.pack(start))
        assert found.converged
        assert abs(found.point.value - best.value) < 1e-6
